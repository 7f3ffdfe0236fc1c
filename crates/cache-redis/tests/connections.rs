//! Connections: who may come in, what becomes of broken ones, what a subscription says.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::io::{Read, Write};
use std::time::Duration;

use cache_bus::{Hint, HintStream, Transport, TransportError};
use cache_events::Position;
use cache_l2::{Store, StoreError};
use cache_redis::{Pem, RedisConfig, RedisStore, RedisTransport, Secret, TlsConfig};
use cache_testkit::{Fault, FaultProxy, RedisServer, RedisServerOptions};
use support::*;

const BRIEF: Duration = Duration::from_millis(150);

/// Settings for what stands behind a proxy, with limits that a test can wait for.
fn brief(proxy: &FaultProxy) -> RedisConfig {
    RedisConfig {
        operation_timeout: BRIEF,
        control_timeout: BRIEF,
        connect_timeout: Duration::from_secs(1),
        data_connections: 1,
        ..RedisConfig::from_url(&format!("redis://{}", proxy.addr())).unwrap()
    }
}

/// The next thing that a subscription says.
async fn next(hints: &mut Box<dyn HintStream>) -> Hint {
    tokio::time::timeout(PATIENCE, hints.next()).await.expect("it says nothing")
}

#[tokio::test]
async fn another_fingerprint_is_fenced_off() {
    let server = RedisServer::start();
    store(&server).ready().await.unwrap();
    let other = RedisConfig { partitions: 4, ..config(&server) };
    let error = RedisStore::new(other.clone()).unwrap().read(P0, &[key("a")]).await.unwrap_err();
    assert!(matches!(&error, StoreError::Fenced { message } if message.contains("partitions=4")), "{error}");
    let transport = RedisTransport::new(other.clone()).unwrap();
    let error = transport.sync(P0, &node("a"), Position::ZERO, 1).await.unwrap_err();
    assert!(matches!(error, TransportError::Fenced { .. }), "{error}");
    let error = transport.subscribe().await.map(drop).unwrap_err();
    assert!(matches!(error, TransportError::Fenced { .. }), "{error}");
    // Under another prefix it is welcome.
    RedisStore::new(RedisConfig { prefix: "other".into(), ..other }).unwrap().ready().await.unwrap();
}

#[tokio::test]
async fn a_wrong_or_missing_password_is_refused_without_telling_it() {
    let password = Some("correct-horse".to_owned());
    let server = RedisServer::start_with(RedisServerOptions { password, ..Default::default() });
    store(&server).ready().await.unwrap();
    for (username, password) in [(None, Some("hunter2")), (Some("nobody"), Some("hunter2")), (None, None)] {
        let username = username.map(str::to_owned);
        let config = RedisConfig { username, password: password.map(Secret::new), ..config(&server) };
        let store = RedisStore::new(config.clone()).unwrap();
        for error in [store.ready().await.unwrap_err(), store.read(P0, &[key("a")]).await.unwrap_err()] {
            let told = format!("{error} {error:?} {store:?}");
            assert!(matches!(error, StoreError::Refused { .. }), "{told}");
            assert!(!told.contains("hunter2") && told.contains("127.0.0.1"), "{told}");
        }
        assert!(RedisTransport::new(config).unwrap().subscribe().await.is_err());
    }
}

#[tokio::test]
async fn databases_are_apart() {
    let server = RedisServer::start();
    let (zero, three) = (store(&server), RedisStore::new(RedisConfig { db: 3, ..config(&server) }).unwrap());
    put(&zero, &key("a"), 1).await.unwrap();
    assert!(three.read(P0, &[key("a")]).await.unwrap().items[0].record.is_none());
    let mut hints = transport(&server).subscribe().await.unwrap();
    event(&three).await;
    let ours = event(&zero).await;
    assert!(matches!(next(&mut hints).await, Hint::Event { position, .. } if position == ours));
}

#[tokio::test]
async fn tls_connects_and_checks_who_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let files = certificates(folder.path());
    let [cert, key, ca] = files.clone();
    // A client certificate is demanded.
    let args = ["--tls-auth-clients", "yes"].map(str::to_owned).to_vec();
    let server = RedisServer::start_with(RedisServerOptions { tls: Some(files), args, ..Default::default() });
    let addr = server.tls_addr().unwrap();
    let config = |tls: TlsConfig| RedisConfig {
        tls: Some(tls),
        port: addr.port(),
        ..RedisConfig { host: "127.0.0.1".into(), ..config(&server) }
    };
    let client = Some((Pem::File(cert.clone()), Pem::Text(std::fs::read(&key).unwrap())));
    let good = TlsConfig { ca: Some(Pem::File(ca.clone())), client: client.clone(), ..Default::default() };

    let store = RedisStore::new(config(good.clone())).unwrap();
    store.ready().await.unwrap();
    event(&store).await;
    let mut hints = RedisTransport::new(config(good.clone())).unwrap().subscribe().await.unwrap();
    let at = event(&store).await;
    assert!(matches!(next(&mut hints).await, Hint::Event { position, .. } if position == at));

    let anybody = TlsConfig { insecure: true, ca: None, ..good.clone() };
    RedisStore::new(config(anybody)).unwrap().ready().await.unwrap();

    let other_folder = tempfile::tempdir().unwrap();
    let [_, _, other_ca] = certificates(other_folder.path());
    let stranger = TlsConfig { ca: Some(Pem::File(other_ca)), ..good.clone() };
    let misnamed = TlsConfig { server_name: Some("redis.example".into()), ..good.clone() };
    let nameless = TlsConfig { client: None, ..good.clone() };
    for wrong in [stranger, misnamed, nameless] {
        let error = RedisStore::new(config(wrong)).unwrap().ready().await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    }
    let no_pem = TlsConfig { ca: Some(Pem::File(key)), ..good.clone() };
    assert!(RedisStore::new(config(no_pem)).is_err());
    let no_file = TlsConfig { ca: Some(Pem::File(folder.path().join("none"))), ..good };
    assert!(RedisStore::new(config(no_file)).unwrap_err().to_string().contains("none"));
}

#[tokio::test]
async fn a_node_starts_without_redis_and_joins_when_it_comes() {
    let mut server = RedisServer::start();
    let (store, transport) = (store(&server), transport(&server));
    server.kill();
    let error = store.read(P0, &[key("a")]).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    // Nothing was sent, so nothing is unknown.
    let error = store.flush(P0, append("flush")).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    assert!(transport.subscribe().await.is_err());
    server.revive();
    eventually(async || store.read(P0, &[key("a")]).await).await;
    eventually(async || transport.sync(P0, &node("a"), Position::ZERO, 1).await).await;
}

#[tokio::test]
async fn connections_that_the_server_closes_are_replaced_before_anybody_asks() {
    let server = RedisServer::start();
    let store = store(&server);
    for _ in 0..10 {
        event(&store).await;
        server.command(&["CLIENT", "KILL", "TYPE", "normal"]);
        // Ends as soon as the end of the stream has been read.
        eventually(async || store.ping().await).await;
    }
    assert!(store.stats().connections <= store.stats().connections_max);
}

#[tokio::test]
async fn a_black_holed_connection_is_replaced_after_two_timeouts() {
    let server = RedisServer::start();
    let proxy = FaultProxy::start(server.addr()).await.unwrap();
    let store = RedisStore::new(brief(&proxy)).unwrap();
    eventually(async || store.read(P0, &[key("a")]).await).await;
    // New connections work; the client sees no difference on the old one.
    proxy.set_current(Fault::BlackHole);
    for _ in 0..2 {
        let error = store.read(P0, &[key("a")]).await.unwrap_err();
        assert!(
            matches!(&error, StoreError::Unavailable { message, .. } if message.contains("no answer")),
            "{error}"
        );
    }
    store.read(P0, &[key("a")]).await.expect("the third attempt goes through a new connection");
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_unknown() {
    let server = RedisServer::start();
    let proxy = FaultProxy::start(server.addr()).await.unwrap();
    let writer = RedisStore::new(brief(&proxy)).unwrap();
    eventually(async || writer.invalidate(P0, &Default::default(), append("event")).await).await;
    proxy.set_current(Fault::SwallowAnswers);
    let error = writer.invalidate(P0, &Default::default(), append("event")).await.unwrap_err();
    assert!(matches!(error, StoreError::Unknown { .. }), "{error}");

    let nothing = Default::default();
    let writing = writer.invalidate(P0, &nothing, append("event"));
    let (error, ()) = tokio::join!(writing, async { proxy.set_current(Fault::Reset) });
    assert!(matches!(error.unwrap_err(), StoreError::Unknown { .. }));
    eventually(async || writer.invalidate(P0, &Default::default(), append("event")).await).await;
}

#[tokio::test]
async fn a_stopped_server_costs_the_time_limit_and_comes_back() {
    let server = RedisServer::start();
    let limits =
        RedisConfig { operation_timeout: BRIEF, connect_timeout: Duration::from_secs(1), ..config(&server) };
    let store = RedisStore::new(limits).unwrap();
    eventually(async || store.read(P0, &[key("a")]).await).await;
    server.pause();
    for _ in 0..8 {
        // Also while a new connection gets no answer.
        let read = tokio::time::timeout(4 * BRIEF, store.read(P0, &[key("a")])).await;
        assert!(read.expect("within its limit").is_err());
    }
    server.resume();
    eventually(async || store.read(P0, &[key("a")]).await).await;
}

#[tokio::test]
async fn a_subscription_ends_with_its_connection() {
    let mut server = RedisServer::start();
    let mut hints = transport(&server).subscribe().await.unwrap();
    let at = event(&store(&server)).await;
    assert!(matches!(next(&mut hints).await, Hint::Event { position, .. } if position == at));
    server.kill();
    assert!(matches!(next(&mut hints).await, Hint::Closed(_)));
    // And then nothing more.
    assert!(tokio::time::timeout(BRIEF, hints.next()).await.is_err());
}

#[tokio::test]
async fn a_half_open_subscription_is_noticed() {
    let server = RedisServer::start();
    let proxy = FaultProxy::start(server.addr()).await.unwrap();
    let mut hints = RedisTransport::new(brief(&proxy)).unwrap().subscribe().await.unwrap();
    proxy.set(Fault::BlackHole);
    let Hint::Closed(reason) = next(&mut hints).await else { panic!("it says something else") };
    assert!(reason.contains("PING"), "{reason}");
}

#[tokio::test]
async fn a_slow_receiver_is_told_that_hints_were_dropped() {
    let server = RedisServer::start();
    let store = store(&server);
    let transport = RedisTransport::new(RedisConfig { hints_max: 4, ..config(&server) }).unwrap();
    let mut hints = transport.subscribe().await.unwrap();
    for _ in 0..200 {
        event(&store).await;
    }
    let last = event(&store).await;
    let mut overflowed = false;
    loop {
        match next(&mut hints).await {
            Hint::Overflow => overflowed = true,
            Hint::Event { position, .. } if position == last => break,
            Hint::Event { .. } => {}
            other => panic!("{other:?}"),
        }
        if overflowed {
            break;
        }
    }
    assert!(overflowed);
}

#[tokio::test]
async fn what_is_no_hint_is_garbled() {
    let server = RedisServer::start();
    let mut hints = transport(&server).subscribe().await.unwrap();
    server.command(&["PUBLISH", "ec:0:{0}:ch", "hello"]);
    assert!(matches!(next(&mut hints).await, Hint::Garbled));
}

#[tokio::test]
async fn the_server_tells_about_itself() {
    let server = RedisServer::start();
    let store = store(&server);
    put(&store, &key("a"), 1).await.unwrap();
    let info = store.info().await.unwrap();
    assert!(
        info.version.contains('.') && info.used_memory_bytes > 0 && info.connected_clients > 0,
        "{info:?}"
    );
    // Fingerprint, meta, log, record.
    assert_eq!(info.keys, 4);
    let stats = store.stats();
    assert_eq!((stats.commands_in_flight, stats.connections_max), (0, 3));
}

#[tokio::test]
async fn a_burst_uses_further_connections() {
    let server = RedisServer::start();
    let store = std::sync::Arc::new(store(&server));
    store.read(P0, &[key("a")]).await.unwrap();
    assert_eq!(store.stats().connections, 1);
    let mut burst = tokio::task::JoinSet::new();
    for _ in 0..600 {
        let store = store.clone();
        burst.spawn(async move { store.read(P0, &[key("a")]).await });
    }
    assert!(burst.join_all().await.iter().all(Result::is_ok));
    let stats = store.stats();
    assert_eq!((stats.connections, stats.commands_in_flight), (2, 0));
}

/// So no other node is behind for longer than its own connection takes, once a writer knows that its write is done. Raw,
/// and without waiting for anything: what a server has written to a local socket is there.
#[tokio::test]
async fn when_a_write_is_acknowledged_its_hint_has_left_the_server() {
    let server = RedisServer::start();
    let store = store(&server);
    event(&store).await;
    let mut other = std::net::TcpStream::connect(server.addr()).unwrap();
    other.write_all(b"SUBSCRIBE ec:0:{0}:ch\r\n").unwrap();
    let mut heard = [0; 4096];
    assert!(other.read(&mut heard).unwrap() > 0, "the subscription is confirmed");
    other.set_nonblocking(true).unwrap();
    for n in 0..3_000 {
        if n % 2 == 0 {
            event(&store).await;
        } else {
            put(&store, &key("a"), n).await.unwrap();
        }
        let bytes =
            other.read(&mut heard).unwrap_or_else(|error| panic!("write {n} was ahead of its hint: {error}"));
        assert!(heard[..bytes].starts_with(b"*3\r\n$7\r\nmessage\r\n"));
    }
}
