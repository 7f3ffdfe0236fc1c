//! What a seed does to servers.

use std::time::Duration;

use cache_testkit::{RedisCluster, RedisReplicated, RedisSentinels, RedisServer};
use fastrand::Rng;

use super::Diary;
use crate::deployment::{Line, Servers};
use crate::storm::now;

/// One fault after the other, until the time is over. When it returns all servers run.
pub(super) fn rage(servers: &mut Servers, lines: &[Line], lasts: Duration, mut random: Rng, diary: &Diary) {
    let began = now();
    while began.elapsed() < lasts {
        match servers {
            Servers::Standalone(server) => of_one(server, &mut random, diary),
            Servers::Replicated(deployment) => of_replicated(deployment, lines, &mut random, diary),
            Servers::Sentinel(deployment) => of_sentinel(deployment, &mut random, diary),
            Servers::Cluster(cluster) => of_cluster(cluster, &mut random, diary),
        }
        wait(random.u64(200..1_500));
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a fault lasts, on servers that have their own time")]
fn wait(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// What can happen to any server that is a master and stays one.
fn of_one(server: &RedisServer, random: &mut Rng, diary: &Diary) {
    let on = format!(", {}", server.addr());
    // A server that is being replaced may refuse: then nothing happens.
    let tell = |parts: &[&[u8]]| drop(server.try_command(parts));
    match random.u8(0..7) {
        0 => {
            diary.note("FLUSHALL", &on);
            tell(&[b"FLUSHALL"]);
        }
        1 => {
            diary.note("SCRIPT FLUSH", &on);
            tell(&[b"SCRIPT", b"FLUSH"]);
        }
        2 => {
            diary.note("CLIENT KILL TYPE pubsub", &on);
            tell(&[b"CLIENT", b"KILL", b"TYPE", b"pubsub"]);
        }
        3 => {
            diary.note("CLIENT KILL TYPE normal", &on);
            tell(&[b"CLIENT", b"KILL", b"TYPE", b"normal"]);
        }
        4 => lose(server, "meta lost", &on, ":m", diary),
        5 => lose(server, "log lost", &on, ":l", diary),
        _ => {
            let ms = random.u64(100..1_500);
            diary.note("server stopped", &format!("{on}, {ms} ms"));
            server.pause();
            wait(ms);
            server.resume();
        }
    }
}

/// Removes what ends so, key by key: a script may not look for keys in a Cluster.
fn lose(server: &RedisServer, kind: &'static str, on: &str, end: &str, diary: &Diary) {
    diary.note(kind, on);
    let Ok(cache_testkit::Reply::List(keys)) =
        server.try_command(&[b"KEYS", format!("ec:*{end}").as_bytes()])
    else {
        return;
    };
    for key in keys {
        let _ = server.try_command(&[b"DEL", key.text().as_bytes()]);
    }
}

fn of_replicated(deployment: &mut RedisReplicated, lines: &[Line], random: &mut Rng, diary: &Diary) {
    match random.u8(0..10) {
        0 => {
            diary.note("master restarted empty", "");
            deployment.master.restart_empty();
        }
        1 => {
            let ms = random.u64(100..1_500);
            diary.note("master restarted from an old snapshot", &format!(", {ms} ms old"));
            deployment.master.save();
            wait(ms);
            deployment.master.revive();
        }
        2 => {
            diary.note("failover that loses the tail, and back", "");
            deployment.promote(0);
            wait(random.u64(50..500));
            lines.iter().for_each(|line| line.lead_to(&deployment.replicas[0]));
            wait(random.u64(300..1_500));
            lines.iter().for_each(|line| line.lead_to(&deployment.master));
            follow(&deployment.replicas[0], &deployment.master);
        }
        3 => {
            diary.note("failover, and the old master follows", "");
            deployment.promote(0);
            lines.iter().for_each(|line| line.lead_to(&deployment.replicas[0]));
            follow(&deployment.master, &deployment.replicas[0]);
            // From here on they have each other's part.
            std::mem::swap(&mut deployment.master, &mut deployment.replicas[0]);
        }
        _ => of_one(&deployment.master, random, diary),
    }
}

/// Makes a server the replica of another, and waits for its data, for a while.
fn follow(server: &RedisServer, master: &RedisServer) {
    let port = master.addr().port().to_string();
    let _ = server.try_command(&[b"REPLICAOF", b"127.0.0.1", port.as_bytes()]);
    for _ in 0..300 {
        if server.info("replication", "master_link_status") == "up" {
            return;
        }
        wait(10);
    }
}

fn of_sentinel(deployment: &mut RedisSentinels, random: &mut Rng, diary: &Diary) {
    let shard = random.usize(0..deployment.shards.len());
    let name = deployment.shards[shard].name.clone();
    match random.u8(0..8) {
        0 | 1 => {
            diary.note("master killed", &format!(", {name}"));
            let killed = deployment.kill_master(shard);
            deployment.wait_for_failover(shard, killed);
            deployment.shards[shard].servers[killed].revive();
            until_following(&deployment.shards[shard].servers[killed]);
        }
        2 => {
            diary.note("failover asked for", &format!(", {name}"));
            let asked = deployment.sentinels[0].try_command(&[b"SENTINEL", b"FAILOVER", name.as_bytes()]);
            let from = deployment.master_of(shard);
            // It may refuse, so soon after another one.
            if matches!(asked, Ok(cache_testkit::Reply::Status(_))) {
                deployment.wait_for_failover(shard, from);
                until_following(&deployment.shards[shard].servers[from]);
            }
        }
        _ => of_one(deployment.master(shard), random, diary),
    }
}

fn of_cluster(cluster: &mut RedisCluster, random: &mut Rng, diary: &Diary) {
    let slot = random.u16(0..16_384);
    let owner = cluster.owner_of(slot);
    match random.u8(0..9) {
        0 | 1 => {
            diary.note("master killed", &format!(", node {owner} of the Cluster"));
            cluster.nodes[owner].kill();
            cluster.wait_for_failover(slot, owner);
            cluster.nodes[owner].revive();
            until_following(&cluster.nodes[owner]);
        }
        2 => {
            let busy = (slot..16_384).chain(0..slot).find(|&slot| {
                let owner = cluster.owner_of(slot);
                !cluster.keys_of(owner, slot).is_empty()
            });
            let Some(busy) = busy else { return };
            let from = cluster.owner_of(busy);
            let to = cluster.owner_of((busy + 5_461) % 16_384);
            diary.note("slot moved", &format!(", {busy} from {from} to {to}"));
            cluster.move_slot(busy, to);
        }
        3 => {
            diary.note("CLIENT KILL TYPE pubsub", &format!(", node {owner} of the Cluster"));
            let _ = cluster.nodes[owner].try_command(&[b"CLIENT", b"KILL", b"TYPE", b"pubsub"]);
        }
        _ => of_one(&cluster.nodes[owner], random, diary),
    }
}

/// Waits until a server that came back follows its successor, for a while.
fn until_following(server: &RedisServer) {
    for _ in 0..500 {
        if server.info("replication", "master_link_status") == "up" {
            return;
        }
        wait(10);
    }
}
