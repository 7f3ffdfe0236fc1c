//! What is wrong with a master of Redis.

use std::collections::BTreeMap;
use std::time::Duration;

use cache_api::operate::Finding;
use cache_redis::{Asked, Need, ServerFacts};

use super::{Facts, Login, fine, problem, unknown, warning};

/// The first version with all that the scripts use.
const MAJOR_LEAST: u32 = 7;
/// A median round trip beyond this is not a LAN's.
const SLOW: Duration = Duration::from_millis(5);
/// Memory is nearly full at this share of the limit.
const FULL: f64 = 0.9;
/// A burst of hints must fit into what waits for one subscriber: the log of a partition is let grow as large.
const PUBSUB_BYTES_LEAST: u64 = 8 << 20;

/// Judges all masters; a check that comes to the same on all of them is one finding.
pub(super) fn judge(servers: &[ServerFacts], facts: &Facts) -> Vec<Finding> {
    let all = servers.iter().map(|server| (server.name.as_str(), judge_one(server, facts)));
    let all: Vec<(&str, Vec<Finding>)> = all.collect();
    if let [(_, findings)] = &all[..] {
        return findings.clone();
    }
    let mut by_check = Vec::<(String, Vec<(&str, Finding)>)>::new();
    for (name, findings) in all {
        for finding in findings {
            match by_check.iter_mut().find(|(check, _)| *check == finding.check) {
                Some((_, found)) => found.push((name, finding)),
                None => by_check.push((finding.check.clone(), vec![(name, finding)])),
            }
        }
    }
    by_check.into_iter().filter_map(|(_, found)| merged(found)).collect()
}

/// The worst of what one check found on several masters, with the names of those.
fn merged(found: Vec<(&str, Finding)>) -> Option<Finding> {
    let worst = found.iter().map(|(_, finding)| finding.verdict).max()?;
    let all = found.len();
    let of_worst: Vec<_> = found.into_iter().filter(|(_, finding)| finding.verdict == worst).collect();
    let mut by_text = BTreeMap::<&str, Vec<&str>>::new();
    for (name, finding) in &of_worst {
        by_text.entry(&finding.found).or_default().push(name);
    }
    let told = by_text.iter().map(|(text, names)| match names.len() == all {
        true => format!("{text} (all {all} masters)"),
        false => format!("{}: {text}", names.join(", ")),
    });
    let told = told.collect::<Vec<_>>().join("; ");
    let (_, first) = of_worst.into_iter().next()?;
    Some(Finding { found: told, ..first })
}

fn judge_one(server: &ServerFacts, facts: &Facts) -> Vec<Finding> {
    if let Some(why) = &server.error {
        let refused = why.contains("NOPERM") || why.contains("WRONGPASS") || why.contains("NOAUTH");
        let cure = match refused {
            true => "give the user the rights of the recipe in the documentation of cache-redis",
            false => "look whether it runs and can be reached",
        };
        return vec![problem("redis", format!("it says nothing: {why}"), cure)];
    }
    let mut findings = vec![version(server), latency(server, facts)];
    findings.extend([memory(server), evictions(server), guard(server), persistence(server)]);
    findings.extend([buffers(server), clients(server), rights(server), reach(server, facts)]);
    findings
}

fn text<'a>(server: &'a ServerFacts, field: &str) -> &'a str {
    server.info.get(field).map_or("", String::as_str)
}

fn number(server: &ServerFacts, field: &str) -> u64 {
    text(server, field).parse().unwrap_or(0)
}

fn mb(bytes: u64) -> String {
    format!("{:.0} MB", bytes as f64 / 1e6)
}

fn version(server: &ServerFacts) -> Finding {
    const CHECK: &str = "redis version";
    let valkey = text(server, "valkey_version");
    if !valkey.is_empty() {
        return fine(CHECK, format!("Valkey {valkey}"));
    }
    let told = text(server, "redis_version");
    match told.split('.').next().and_then(|major| major.parse::<u32>().ok()) {
        None => unknown(CHECK, "the server does not tell its version", "use Redis 7.0 or later, or Valkey"),
        Some(major) if major < MAJOR_LEAST => {
            problem(CHECK, format!("{told} is too old"), "use Redis 7.0 or later, or Valkey")
        }
        Some(_) => fine(CHECK, told),
    }
}

fn latency(server: &ServerFacts, facts: &Facts) -> Finding {
    const CHECK: &str = "redis latency";
    let Some((best, middle)) = server.round_trip else {
        return unknown(
            CHECK,
            "round trips took too long to be measured",
            "look at the network and at SLOWLOG",
        );
    };
    let found = format!("{best:.1?} at best, {middle:.1?} in the middle");
    match facts.operation_timeout {
        Some(limit) if middle > limit / 2 => problem(
            CHECK,
            format!("{found}; a read may take {limit:?}"),
            "bring the node nearer to Redis, or raise redis.operation_timeout (250 ms over long ways)",
        ),
        _ if middle > SLOW => {
            warning(CHECK, found, "look at the network, at SLOWLOG, and at what else runs on that machine")
        }
        _ => fine(CHECK, found),
    }
}

/// Meta and log have no TTL and must stay; of what has one, stamps must go last.
fn memory(server: &ServerFacts) -> Finding {
    const CHECK: &str = "maxmemory-policy";
    const CURE: &str = "CONFIG SET maxmemory-policy volatile-ttl (and in redis.conf)";
    let (limit, used) = (number(server, "maxmemory"), number(server, "used_memory"));
    let policy = text(server, "maxmemory_policy");
    let nearly_full = limit > 0 && used as f64 > limit as f64 * FULL;
    let of_limit = if limit > 0 { format!(" of {}", mb(limit)) } else { String::new() };
    let found = format!("{policy}, {}{of_limit} in use", mb(used));
    match policy {
        "" => unknown(CHECK, "the server does not tell", "use Redis 7.0 or later, or Valkey"),
        "volatile-ttl" if limit == 0 => warning(
            CHECK,
            format!("{found}: there is no limit"),
            "CONFIG SET maxmemory to what the machine can spare: a server that grows without end is killed",
        ),
        "volatile-ttl" => fine(CHECK, found),
        "noeviction" if nearly_full => {
            problem(CHECK, format!("{found}: writes are refused, or soon will be"), CURE)
        }
        "noeviction" if limit == 0 => warning(
            CHECK,
            format!("{found}: there is no limit"),
            "CONFIG SET maxmemory to what the machine can spare, and maxmemory-policy volatile-ttl",
        ),
        "noeviction" => warning(CHECK, format!("{found}: once it is full, writes are refused"), CURE),
        policy if policy.starts_with("allkeys") => problem(
            CHECK,
            format!("{found}: it evicts the log and what nodes agree on, not only records"),
            CURE,
        ),
        _ => problem(
            CHECK,
            format!("{found}: it may evict an invalidation before the records that it made worthless"),
            CURE,
        ),
    }
}

fn evictions(server: &ServerFacts) -> Finding {
    const CHECK: &str = "evicted records";
    match number(server, "evicted_keys") {
        0 => fine(CHECK, "none since the server started"),
        count => warning(
            CHECK,
            format!("{count} since the server started"),
            "raise maxmemory if the hit ratio of L2 matters: records leave before their time",
        ),
    }
}

/// Told by the server only where both settings are there.
const GUARD: &str = "min_slaves_good_slaves";

fn guard(server: &ServerFacts) -> Finding {
    const CHECK: &str = "min-replicas-to-write";
    let replicas = number(server, "connected_slaves");
    match server.info.get(GUARD) {
        Some(good) if good == "0" => problem(
            CHECK,
            "the master is guarded, and has no replica that keeps up: it refuses writes",
            "bring a replica back, or set min-replicas-to-write 0 for as long as there is none",
        ),
        Some(good) => fine(CHECK, format!("guarded, {good} of {replicas} replicas keep up")),
        None if replicas > 0 => problem(
            CHECK,
            format!(
                "{replicas} replicas, and no guard: cut off from them, the master goes on alone, and nodes beside it believe it"
            ),
            "CONFIG SET min-replicas-to-write 1 and min-replicas-max-lag 1, on the replicas too",
        ),
        None => fine(CHECK, "no replicas, so there is nothing to guard"),
    }
}

fn persistence(server: &ServerFacts) -> Finding {
    const CHECK: &str = "persistence";
    let replicas = number(server, "connected_slaves");
    let aof = text(server, "aof_enabled") == "1";
    let (saves, known) = match &server.save {
        Asked::Told(save) => (!save.trim().is_empty(), true),
        Asked::Forbidden | Asked::Failed(_) => (false, false),
    };
    let how = match (aof, saves) {
        (true, true) => "append-only file and snapshots",
        (true, false) => "append-only file",
        (false, true) => "snapshots",
        (false, false) => "none",
    };
    match replicas {
        // A cache is filled again; a restart begins an epoch, whatever the disk says.
        0 if aof || saves => fine(CHECK, how),
        0 => fine(CHECK, "none that is known of: after a restart the cache is filled again"),
        _ if aof || saves => fine(CHECK, how),
        _ if !known => unknown(
            CHECK,
            "no append-only file; whether there are snapshots is not told",
            "let the ACL user ask: ACL SETUSER edge +config|get",
        ),
        _ => warning(
            CHECK,
            "none, with replicas: a master that is started again at once empties them before one takes its place",
            "CONFIG SET appendonly yes, or let nothing restart the master by itself",
        ),
    }
}

fn buffers(server: &ServerFacts) -> Finding {
    const CHECK: &str = "client-output-buffer-limit";
    const CURE: &str = "CONFIG SET client-output-buffer-limit \"pubsub 32mb 8mb 60\"";
    let cut_off = number(server, "client_output_buffer_limit_disconnections");
    let told = match &server.output_limits {
        Asked::Told(told) => told,
        Asked::Forbidden => {
            return unknown(CHECK, "the user may not ask", "let it ask: ACL SETUSER edge +config|get");
        }
        Asked::Failed(why) => return unknown(CHECK, why.clone(), "ask again"),
    };
    let words: Vec<&str> = told.split_whitespace().collect();
    let limits = words.chunks(4).find(|limits| limits[0] == "pubsub");
    let Some([_, hard, soft, seconds]) = limits else {
        return unknown(
            CHECK,
            format!("no limits of pubsub in {told:?}"),
            "use Redis 7.0 or later, or Valkey",
        );
    };
    let bytes = |text: &str| text.parse::<u64>().unwrap_or(0);
    let small = |text: &str, least: u64| (1..least).contains(&bytes(text));
    let found = format!("pubsub {hard} {soft} {seconds}");
    if small(hard, PUBSUB_BYTES_LEAST) || small(soft, PUBSUB_BYTES_LEAST / 4) {
        let found = format!("{found}: a burst of events cuts nodes off");
        return warning(CHECK, found, CURE);
    }
    match cut_off {
        0 => fine(CHECK, found),
        _ => {
            warning(CHECK, format!("{found}; {cut_off} clients were cut off since the server started"), CURE)
        }
    }
}

fn clients(server: &ServerFacts) -> Finding {
    const CHECK: &str = "maxclients";
    let (now, most) = (number(server, "connected_clients"), number(server, "maxclients"));
    let found = format!("{now} of {most} connections");
    match most {
        0 => fine(CHECK, format!("{now} connections")),
        _ if now * 10 > most * 9 => {
            problem(CHECK, found, "raise maxclients, or lower REDIS_MAX_CONNECTIONS of the nodes")
        }
        _ if now * 10 > most * 7 => {
            warning(CHECK, found, "raise maxclients, or lower REDIS_MAX_CONNECTIONS of the nodes")
        }
        _ => fine(CHECK, found),
    }
}

fn rights(server: &ServerFacts) -> Finding {
    const CHECK: &str = "rights";
    let named = |need: Need| {
        let commands: Vec<String> = server
            .missing
            .iter()
            .filter(|(_, of)| *of == need)
            .map(|(command, _)| format!("+{command}"))
            .collect();
        commands.join(" ")
    };
    let needed = named(Need::Always);
    if !needed.is_empty() {
        let cure = format!("ACL SETUSER edge {needed}");
        return problem(CHECK, "the user lacks rights without which the cache does not work", &cure);
    }
    let fewer: Vec<String> = [
        (Need::Patterns, "patterns cannot be invalidated"),
        (Need::Statistics, "keys are not counted"),
        (Need::Replicated, "writes cannot wait for replicas"),
    ]
    .into_iter()
    .filter(|(need, _)| !named(*need).is_empty())
    .map(|(need, what)| format!("{what} ({})", named(need)))
    .collect();
    match fewer.is_empty() {
        true => fine(CHECK, "all that is needed"),
        false => {
            warning(CHECK, format!("without some rights {}", fewer.join(", ")), "give the user these rights")
        }
    }
}

/// What somebody could do who has got hold of the node's password.
fn reach(server: &ServerFacts, facts: &Facts) -> Finding {
    const CHECK: &str = "least rights";
    const CURE: &str =
        "log in as an ACL user with the rights of the recipe in the documentation of cache-redis";
    let may = server.beyond.join(" and ");
    match (facts.login, server.beyond.is_empty()) {
        (Login::Nobody, _) => {
            warning(CHECK, "Redis asks for no password: whoever reaches it may do anything", CURE)
        }
        (_, false) => warning(CHECK, format!("the user may also {may}"), CURE),
        (_, true) => fine(CHECK, "the user may do no more than it needs"),
    }
}

/// The ids of the data that the servers hold: equal for nodes on one store, whatever they call it.
pub(crate) fn store_id(servers: &[ServerFacts]) -> String {
    let mut ids: Vec<&str> = servers
        .iter()
        .map(|server| match text(server, "master_replid") {
            "" => server.name.as_str(),
            id => &id[..id.len().min(12)],
        })
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids.join(",")
}
