//! What is wrong around a node: judged from facts that were gathered, without asking anybody.
//!
//! | module | judges |
//! |---|---|
//! | [`servers`] | each master of Redis |
//! | here | the node itself |
//!
//! What could not be looked at is `unknown`, with what to do so that it can.

mod servers;

pub(crate) use servers::store_id;

use std::time::Duration;

use cache_api::operate::{Finding, Verdict};
use cache_bus::BusConfig;
use cache_redis::ServerFacts;

use crate::http::Certificate;

/// A clock that is further off shows wrong ages and times; promises do not depend on it.
const CLOCK_OFF_MS: u64 = 1_000;
/// Two looks at one clock that differ by more, beyond the round trip, have seen it jump.
const JUMP_MS: u64 = 250;
/// From here on the invalidations that wait are more than a moment's (the alert of critical events).
const OUTBOX_MANY: usize = 5_000;

/// What was gathered about a node.
#[derive(Debug)]
pub(crate) struct Facts {
    /// The servers; nothing where the node stands alone.
    pub(crate) servers: Option<Result<Vec<ServerFacts>, String>>,
    /// How it logs in there.
    pub(crate) login: Login,
    /// In what the node and the store disagree.
    pub(crate) fenced: Option<String>,
    /// Whether a subscription is in force, and what a knock showed.
    pub(crate) events: Events,
    /// Whether all partitions are live.
    pub(crate) live: bool,
    /// The clock of the store less the node's, as syncs found it.
    pub(crate) clock_offset_ms: Option<i64>,
    /// The same in the moment of asking, of the first server.
    pub(crate) clock_offset_now_ms: Option<i64>,
    /// Steps that wait for the store.
    pub(crate) outbox: usize,
    /// Times of the bus.
    pub(crate) bus: BusConfig,
    /// How long a command for a record may take.
    pub(crate) operation_timeout: Option<Duration>,
    /// What the auditor found: reads that were judged, violations, and the cause of the latest; nothing where it is off.
    pub(crate) audit: Option<(u64, u64, Option<String>)>,
    /// Whether only this machine can reach the node.
    pub(crate) loopback: bool,
    /// Whether requests must show a token.
    pub(crate) token: bool,
    /// The certificate that the node shows; nothing where it speaks no TLS.
    pub(crate) certificate: Option<Certificate>,
    /// The wall clock, in Unix milliseconds.
    pub(crate) wall_ms: u64,
}

/// How a node logs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Login {
    /// It shows no password.
    Nobody,
    /// A password alone: the default user.
    Default,
    /// A user of its own.
    User,
}

/// What is known about the way of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Events {
    /// There is no subscription.
    NotSubscribed,
    /// It is in force, and a knock on the channel was heard.
    Heard,
    /// It is in force, and a knock was not heard although it was sent.
    Silent,
    /// It is in force, and a knock could not be sent.
    Untried,
}

/// Judges everything.
pub(crate) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![layout(facts)];
    match &facts.servers {
        None => {}
        Some(Ok(servers)) => findings.extend(servers::judge(servers, facts)),
        Some(Err(why)) => findings.push(problem(
            "redis",
            format!("nobody can be asked: {why}"),
            "look whether Redis runs, and whether REDIS_URL and its password are right",
        )),
    }
    findings.extend([events(facts), outbox(facts), bound(facts)]);
    findings.extend(clock(facts));
    findings.extend([audit(facts), access(facts)]);
    findings.extend(certificate(facts));
    findings
}

fn finding(check: &str, verdict: Verdict, found: impl Into<String>, cure: Option<&str>) -> Finding {
    Finding { check: check.to_owned(), verdict, found: found.into(), cure: cure.map(str::to_owned) }
}

fn fine(check: &str, found: impl Into<String>) -> Finding {
    finding(check, Verdict::Ok, found, None)
}

fn unknown(check: &str, found: impl Into<String>, cure: &str) -> Finding {
    finding(check, Verdict::Unknown, found, Some(cure))
}

fn warning(check: &str, found: impl Into<String>, cure: &str) -> Finding {
    finding(check, Verdict::Warning, found, Some(cure))
}

fn problem(check: &str, found: impl Into<String>, cure: &str) -> Finding {
    finding(check, Verdict::Problem, found, Some(cure))
}

fn layout(facts: &Facts) -> Finding {
    const CHECK: &str = "layout";
    match (&facts.fenced, &facts.servers) {
        (Some(why), _) => problem(
            CHECK,
            format!("the node is fenced off: {why}"),
            "give all nodes the same redis.prefix, redis.partitions and masters (docs/topologies.md)",
        ),
        (None, None) => fine(CHECK, "the node stands alone"),
        (None, Some(_)) => fine(CHECK, "the node and the store agree"),
    }
}

fn events(facts: &Facts) -> Finding {
    const CHECK: &str = "events arrive";
    match facts.events {
        _ if facts.servers.is_none() => fine(CHECK, "within this process"),
        Events::NotSubscribed => problem(
            CHECK,
            "there is no subscription; changes are learnt by syncs alone",
            "look into the log of the node for why: rights of the ACL user to channels, or the network",
        ),
        Events::Silent => problem(
            CHECK,
            "a subscription is in force, but what is published does not come back; changes are learnt by syncs alone",
            "look for what swallows published messages: a proxy between, a server that is none of this deployment, or a \
             full client-output-buffer-limit",
        ),
        Events::Untried => unknown(
            CHECK,
            "a subscription is in force; nothing could be published to see it work",
            "see the findings about Redis and its rights",
        ),
        Events::Heard if !facts.live => warning(
            CHECK,
            "what is published arrives, but the node is not at the head of the log",
            "wait a moment; if it stays, look at the latency of Redis",
        ),
        Events::Heard => fine(CHECK, "what was published came back"),
    }
}

fn outbox(facts: &Facts) -> Finding {
    const CHECK: &str = "outbox";
    let found = format!("{} invalidations wait for the shared tier", facts.outbox);
    match facts.outbox {
        0 => fine(CHECK, "nothing waits for the shared tier"),
        waiting if waiting > OUTBOX_MANY => problem(
            CHECK,
            found,
            "bring Redis back, or see why it refuses writes: until then other nodes rely on their bound",
        ),
        _ => warning(CHECK, found, "if they stay, see why Redis does not take them"),
    }
}

/// One lost sync must not end trust, and a sync must be able to come back in time.
fn bound(facts: &Facts) -> Finding {
    const CHECK: &str = "staleness bound";
    let bus = &facts.bus;
    let least = (bus.sync_interval + bus.sync_timeout) * 2;
    let found = format!(
        "{:?}, with a sync every {:?} that may take {:?}",
        bus.staleness_bound, bus.sync_interval, bus.sync_timeout
    );
    let slowest = facts.servers.iter().flatten().flatten().filter_map(|server| server.round_trip).max();
    match slowest {
        _ if bus.staleness_bound < least => problem(
            CHECK,
            found,
            "raise cache.staleness_bound to at least two intervals and two time-outs of a sync, else one lost sync ends trust",
        ),
        Some((_, middle)) if middle > bus.sync_timeout / 2 => problem(
            CHECK,
            format!("{found}; Redis needs {middle:.1?} for a round trip"),
            "bring the node nearer to Redis: syncs time out, and memory is not trusted while they do",
        ),
        _ => fine(CHECK, found),
    }
}

fn clock(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "clock";
    facts.servers.as_ref()?;
    let Some(offset) = facts.clock_offset_ms else {
        return Some(unknown(CHECK, "no sync has told the clock of the store yet", "ask again in a moment"));
    };
    if let Some(now) = facts.clock_offset_now_ms
        && now.abs_diff(offset) > JUMP_MS
    {
        return Some(warning(
            CHECK,
            format!("a clock has jumped: Redis was {offset} ms ahead, and is {now} ms ahead now"),
            "let the clocks be slewed, not stepped (chrony: makestep only at the start)",
        ));
    }
    Some(match offset.unsigned_abs() > CLOCK_OFF_MS {
        true => warning(
            CHECK,
            format!("Redis is {offset} ms ahead of this machine"),
            "synchronize both clocks (chrony, ntpd): ages and times in logs are wrong by as much",
        ),
        false => fine(CHECK, format!("Redis is {offset} ms ahead of this machine")),
    })
}

fn audit(facts: &Facts) -> Finding {
    const CHECK: &str = "audit";
    match &facts.audit {
        None => unknown(CHECK, "the auditor is off", "set cache.audit_rate above 0, such as 0.01"),
        Some((judged, 0, _)) => fine(CHECK, format!("no violation in {judged} judged reads")),
        Some((judged, violations, cause)) => problem(
            CHECK,
            format!(
                "{violations} of {judged} judged reads were stale beyond the bound{}",
                cause.as_ref().map(|cause| format!("; the latest: {cause}")).unwrap_or_default()
            ),
            "see violations in /cache/stats and docs/auditor.md: what changed without being announced?",
        ),
    }
}

fn access(facts: &Facts) -> Finding {
    const CHECK: &str = "access";
    match (facts.token, facts.loopback) {
        (true, _) => fine(CHECK, "requests must show a token"),
        (false, true) => fine(CHECK, "no token, and only this machine can reach the node"),
        (false, false) => problem(
            CHECK,
            "no token is asked for, and other machines can reach the node",
            "set CACHE_AUTH_TOKEN, or listen on 127.0.0.1",
        ),
    }
}

fn certificate(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "certificate";
    const CURE: &str = "renew the certificate of the node: put the new files in place and send SIGHUP";
    let certificate = facts.certificate.as_ref()?;
    let ends = match &certificate.ends {
        Ok(ends) => i64::try_from(*ends).unwrap_or(i64::MAX),
        Err(why) => {
            return Some(unknown(
                CHECK,
                format!("when it ends cannot be read: {why}"),
                "look at it with openssl x509 -noout -enddate",
            ));
        }
    };
    let left = ends.saturating_sub(i64::try_from(facts.wall_ms / 1000).unwrap_or(i64::MAX));
    let days = left.div_euclid(24 * 3600);
    let found = if left < 0 { "it has ended".to_owned() } else { format!("it ends in {days} days") };
    Some(match (left, &certificate.refused) {
        (..0, None) => problem(CHECK, found, CURE),
        (_, Some(why)) if days < 7 => {
            problem(CHECK, format!("{found}, and the new one was refused: {why}"), CURE)
        }
        (_, Some(why)) => warning(CHECK, format!("{found}; the new one was refused: {why}"), CURE),
        _ if days < 7 => problem(CHECK, found, CURE),
        _ if days < 30 => warning(CHECK, found, CURE),
        _ => fine(CHECK, found),
    })
}

#[cfg(test)]
mod tests;
