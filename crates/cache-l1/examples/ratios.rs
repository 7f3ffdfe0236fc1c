//! How often each policy hits where entries differ in weight, expire, or several threads ask at once:
//! `zstd -dc TRACE | cargo run --release -p cache-l1 --example ratios`, with numbers of 32 bits (little-endian) as in
//! `docs/simulate.md`. The tier has room for a tenth of the keys. One line a condition, in percent of the requests.

use std::collections::HashSet;
use std::io::{Error, Read};
use std::sync::Arc;

use cache_l1::{Address, Config, Fence, L1, Meta};
use cache_policy::PolicyKind;

/// What is asked of the tier beyond bare entries.
#[derive(Clone, Copy)]
struct Condition {
    name: &'static str,
    /// Entries weigh 64 to 16,384 bytes, few of them much, and the bound is in bytes.
    weights: bool,
    /// Entries live for so many requests for each entry that there is room for, by their key; 0 = for ever.
    life: u64,
    threads: usize,
}

const CONDITIONS: [Condition; 5] = [
    Condition { name: "plain", weights: false, life: 0, threads: 1 },
    Condition { name: "weights", weights: true, life: 0, threads: 1 },
    Condition { name: "expiry", weights: false, life: 2, threads: 1 },
    Condition { name: "weights and expiry", weights: true, life: 2, threads: 1 },
    Condition { name: "two threads", weights: false, life: 0, threads: 2 },
];

/// The finalizer of SplitMix64.
fn mix(key: u32) -> u64 {
    let mut mixed = u64::from(key).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Twice as heavy is half as frequent.
fn weight(key: u32) -> u32 {
    64 << (mix(!key) | 1 << 8).trailing_zeros()
}

fn hits(requests: &[u32], keys: &HashSet<u32>, condition: Condition, kind: PolicyKind) -> usize {
    let room = (keys.len() / 10).max(1);
    let overhead = L1::<u32, ()>::overhead_bytes(&Address::bare(0, 0), &Meta::default());
    let all: u64 = keys.iter().map(|&key| u64::from(weight(key)) + overhead).sum();
    let (entries_max, bytes_max) = if condition.weights { (keys.len(), all / 10) } else { (room, u64::MAX) };
    let config = Config { entries_max, bytes_max, shards: (room < 1_024).then_some(1), own_group: 1 };
    let l1 = L1::new(config, Arc::new(Fence::new(1)), kind.family(entries_max));
    let part = |first: usize| {
        let mut hits = 0;
        for (now, &key) in requests.iter().enumerate().skip(first).step_by(condition.threads) {
            let (now, at) = (now as u64 + 1, Address::bare(mix(key), 0));
            if l1.get_with(&key, &at, now, |(), _| Some(())).is_some() {
                hits += 1;
                continue;
            }
            // From half of the mean to one and a half of it.
            let life = condition.life * room as u64;
            let life = life / 2 + mix(key ^ 1 << 31) % life.max(1);
            let hard_expiry = if condition.life == 0 { u64::MAX } else { now + life };
            let weight = if condition.weights { weight(key) } else { 0 };
            let snapshot = l1.snapshot(&at);
            drop(l1.insert(key, (), &at, Meta { hard_expiry, weight, ..Meta::default() }, &snapshot, now));
        }
        hits
    };
    std::thread::scope(|scope| {
        let part = &part;
        let others: Vec<_> = (1..condition.threads).map(|first| scope.spawn(move || part(first))).collect();
        part(0) + others.into_iter().map(|other| other.join().expect("no panic")).sum::<usize>()
    })
}

fn main() -> Result<(), Error> {
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes)?;
    let number = |four: &[u8]| four.iter().rev().fold(0, |sum, &byte| sum << 8 | u32::from(byte));
    let requests: Vec<u32> = bytes.chunks_exact(4).map(number).collect();
    if requests.is_empty() {
        return Err(Error::other("no requests on the standard input"));
    }
    let keys: HashSet<u32> = requests.iter().copied().collect();
    let kinds: Vec<PolicyKind> = PolicyKind::ALL.into_iter().collect();
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    println!("| {} requests | {} | auto to the best |", requests.len(), names.join(" | "));
    for condition in CONDITIONS {
        let percent = |kind: &PolicyKind| {
            100.0 * hits(&requests, &keys, condition, *kind) as f64 / requests.len() as f64
        };
        let ratios: Vec<f64> = kinds.iter().map(percent).collect();
        let auto = kinds.iter().position(|kind| kind.name() == "auto").map_or(0.0, |at| ratios[at]);
        let best = ratios.iter().copied().fold(0.0, f64::max);
        let cells: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
        println!("| {} | {} | {:+.2} |", condition.name, cells.join(" | "), auto - best);
    }
    Ok(())
}
