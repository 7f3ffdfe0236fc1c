//! One atomic step of the store (record, log and announcement in one script) against a plain SET of the same bytes, and
//! an invalidation against a plain DEL, over the same client.
//!
//! One after the other, rounds of all alternate, medians of the rounds are compared.

use std::time::Duration;

use bb8_redis::redis::{Client, cmd};
use bytes::Bytes;
use cache_events::{Key, Namespace, Partition, Position};
use cache_l2::{Append, BincodeCodec, Invalidation, RecordFormat, RecordHead, Store};
use cache_redis::{RedisConfig, RedisStore};
use cache_testkit::RedisServer;
use edgecache_benches::{median, now, quantile, quick, rounds, value};

const P0: Partition = Partition(0);
const TTL: Duration = Duration::from_secs(60);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let server = RedisServer::start();
    let store = RedisStore::new(RedisConfig::from_url(&server.url())?)?;
    let client = Client::open(server.url())?;
    let mut raw = client.get_multiplexed_async_connection().await?;
    let key = Key::new(&Namespace::new("bench")?, "the-key")?;
    let record = RecordFormat::new(1).seal(&RecordHead::default(), &key, Some(&value(1)), &BincodeCodec)?;
    let what = Invalidation { keys: vec![key.clone()], keep: TTL, ..Default::default() };
    let append = |at: Position| Append { at, payload: Bytes::from_static(&[7; 110]), ..Append::default() };
    let mut at = store.invalidate(P0, &what, append(Position::ZERO)).await?;
    let samples = if quick() { 100 } else { 5_000 };
    let mut rows: [Vec<f64>; 4] = Default::default();
    for _ in 0..rounds() {
        for (row, medians) in rows.iter_mut().enumerate() {
            let mut us = Vec::with_capacity(samples);
            for _ in 0..samples {
                let began = now();
                match row {
                    0 => {
                        let mut set = cmd("SET");
                        set.arg("plain").arg(&record[..]).arg("PX").arg(60_000);
                        let () = set.query_async(&mut raw).await?;
                    }
                    1 => at = store.put(&key, record.clone(), TTL, append(at)).await?,
                    2 => {
                        let _: u64 = cmd("DEL").arg("plain").query_async(&mut raw).await?;
                    }
                    _ => at = store.invalidate(P0, &what, append(at)).await?,
                }
                us.push(began.elapsed().as_secs_f64() * 1e6);
            }
            medians.push(quantile(&mut us, 0.5));
        }
    }
    let [set, put, del, invalidate] = rows.map(|mut row| median(&mut row));
    println!("| a write, p50 | plain | atomic step | ratio |");
    println!("|---|---|---|---|");
    println!("| SET and `put`, {} bytes | {set:.1} µs | {put:.1} µs | {:.2} |", record.len(), put / set);
    println!("| DEL and `invalidate` | {del:.1} µs | {invalidate:.1} µs | {:.2} |", invalidate / del);
    Ok(())
}
