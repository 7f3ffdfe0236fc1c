//! Looking at the servers of a deployment the way somebody would who looks for what is wrong.
//!
//! Only what the user may ask is asked; what it may not is told apart from what is wrong. Rights are tried with commands
//! that change nothing but one key of this deployment that lives for a second. Redis looks at rights before it looks at
//! keys, types and slots, so any other error means that the right is there.

use std::collections::BTreeMap;
use std::time::Duration;

use bb8_redis::redis::{Cmd, Value, cmd};
use cache_events::Partition;
use cache_l2::StoreError;
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::dial::Target;
use crate::fault::Fault;
use crate::reply;
use crate::store::RedisStore;

/// How often the round trip is measured; the shortest and the middle one count.
const PINGS: usize = 9;
/// Outside of every prefix that a deployment could have, since prefixes hold no blank.
const KEY_OF_OTHERS: &str = "edgecache doctor";

/// The rights of the recipe in the documentation of this crate: arguments behind the key, and whether the cache works
/// without. `%` stands for the key.
const RIGHTS: &[(&str, Need)] = &[
    ("SET % 1 PX 1000", Need::Always),
    ("EVALSHA 0000000000000000000000000000000000000000 0", Need::Always),
    ("SCRIPT LOAD return", Need::Always),
    ("MGET %", Need::Always),
    ("GET %", Need::Always),
    ("GETRANGE % 0 0", Need::Always),
    ("PTTL %", Need::Always),
    ("HGET % f", Need::Always),
    ("HMGET % f", Need::Always),
    ("HSET % f 1", Need::Always),
    ("HDEL % f", Need::Always),
    ("HEXISTS % f", Need::Always),
    ("HGETALL %", Need::Always),
    ("XADD % NOMKSTREAM * f 1", Need::Always),
    ("XLEN %", Need::Always),
    ("XRANGE % - + COUNT 1", Need::Always),
    ("XREVRANGE % + - COUNT 1", Need::Always),
    ("XTRIM % MAXLEN 0", Need::Always),
    ("XINFO STREAM %", Need::Always),
    ("MEMORY USAGE %", Need::Always),
    ("UNLINK %", Need::Always),
    ("DEL %", Need::Always),
    ("SCAN 0 COUNT 1", Need::Patterns),
    ("DBSIZE", Need::Statistics),
    ("WAIT 0 1", Need::Replicated),
];

/// What does not work without a right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Need {
    /// The cache.
    Always,
    /// Invalidation by pattern.
    Patterns,
    /// Some of the statistics.
    Statistics,
    /// Writes that ask for replicas.
    Replicated,
}

/// A setting that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Asked {
    /// What it is.
    Told(String),
    /// The user may not ask.
    #[default]
    Forbidden,
    /// There is no answer, for this reason.
    Failed(String),
}

/// What one master says.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ServerFacts {
    /// Where it is, or the name that Sentinels give it.
    pub name: String,
    /// Why it says nothing, if so.
    pub error: Option<String>,
    /// The fields of `INFO`, of all sections.
    pub info: BTreeMap<String, String>,
    /// The shortest and the middle round trip of some.
    pub round_trip: Option<(Duration, Duration)>,
    /// Its clock less that of the caller, in milliseconds; half a round trip may be wrong.
    pub clock_offset_ms: Option<i64>,
    /// The setting `client-output-buffer-limit`.
    pub output_limits: Asked,
    /// The setting `save`.
    pub save: Asked,
    /// Rights that are missing: the command, and what does not work without.
    pub missing: Vec<(String, Need)>,
    /// What the user may do and need not.
    pub beyond: Vec<&'static str>,
}

impl RedisStore {
    /// Looks at every master; one that does not answer is told as such. `wall`: the wall clock of the caller, in Unix
    /// milliseconds. Takes some forty round trips.
    ///
    /// # Errors
    /// [`StoreError`] if nobody knows the masters.
    pub async fn inspect(&self, wall: impl Fn() -> u64) -> Result<Vec<ServerFacts>, StoreError> {
        let masters = self.control.masters().await.map_err(Fault::of_read)?;
        Ok(join_all(masters.iter().map(|master| self.inspect_one(master, &wall))).await)
    }

    /// Publishes a hint that says nothing, of the first place in the log of an epoch: nodes in that epoch count it and
    /// are none the wiser. Tells how many subscribers it was sent to, which is 0 for those of a Cluster's other nodes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn knock(&self, partition: Partition, epoch: u64) -> Result<u64, StoreError> {
        let publish = if self.dialer.slots.is_some() { "SPUBLISH" } else { "PUBLISH" };
        let mut payload = partition.0.to_be_bytes().to_vec();
        payload.extend(epoch.to_be_bytes());
        payload.extend(0_u64.to_be_bytes());
        let mut hint = cmd(publish);
        hint.arg(&self.dialer.layout.part(partition).channel).arg(payload);
        let heard = self.control.run(partition, publish, &hint).await.map_err(Fault::of_read)?;
        Ok(reply::number(&heard).unwrap_or(0))
    }

    async fn inspect_one(&self, master: &Target, wall: &impl Fn() -> u64) -> ServerFacts {
        let name = match master {
            Target::Node(endpoint) => endpoint.to_string(),
            Target::Master(index) => match &self.dialer.sentinels {
                Some(sentinels) => sentinels.config.masters[*index].clone(),
                None => index.to_string(),
            },
        };
        let mut facts = ServerFacts { name, ..ServerFacts::default() };
        match self.control.run_at(master, "INFO", &cmd("INFO")).await {
            Ok(told) => facts.info = fields(reply::text(&told).unwrap_or_default()),
            Err(fault) => {
                facts.error = Some(fault.to_string());
                return facts;
            }
        }
        facts.round_trip = self.round_trip(master).await;
        facts.clock_offset_ms = self.offset(master, wall).await;
        facts.output_limits = self.setting(master, "client-output-buffer-limit").await;
        facts.save = self.setting(master, "save").await;
        let key = format!("{}:doctor", self.dialer.config.prefix);
        for (line, need) in RIGHTS {
            if !self.may(master, line, &key).await {
                let command: Vec<&str> = line.split(' ').take_while(|word| *word != "%").collect();
                let words = if matches!(command[0], "SCRIPT" | "XINFO" | "MEMORY") { 2 } else { 1 };
                facts.missing.push((command[..words].join("|").to_lowercase(), *need));
            }
        }
        for (line, what) in [("ACL LIST", "administer users"), ("GET %", "read keys of others")] {
            if self.may(master, line, KEY_OF_OTHERS).await {
                facts.beyond.push(what);
            }
        }
        facts
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "measures round trips for a report; nothing is decided by it"
    )]
    async fn round_trip(&self, master: &Target) -> Option<(Duration, Duration)> {
        let mut times = Vec::with_capacity(PINGS);
        for _ in 0..PINGS {
            let began = Instant::now();
            self.control.run_at(master, "PING", &cmd("PING")).await.ok()?;
            times.push(began.elapsed());
        }
        times.sort_unstable();
        Some((times[0], times[PINGS / 2]))
    }

    async fn offset(&self, master: &Target, wall: &impl Fn() -> u64) -> Option<i64> {
        let before = wall();
        let told = self.control.run_at(master, "TIME", &cmd("TIME")).await.ok()?;
        let middle = before.midpoint(wall());
        let Value::Array(parts) = told else { return None };
        let (seconds, micros) = (reply::number(parts.first()?)?, reply::number(parts.get(1)?)?);
        let server = seconds.checked_mul(1000)?.checked_add(micros / 1000)?;
        i64::try_from(i128::from(server) - i128::from(middle)).ok()
    }

    async fn setting(&self, master: &Target, name: &str) -> Asked {
        let mut ask = cmd("CONFIG");
        ask.arg("GET").arg(name);
        match self.control.run_at(master, "CONFIG GET", &ask).await {
            Ok(Value::Map(pairs)) => match pairs.first().and_then(|(_, value)| reply::text(value)) {
                Some(value) => Asked::Told(value.to_owned()),
                None => Asked::Failed(format!("the server knows no setting {name}")),
            },
            Ok(Value::Array(list)) => match list.get(1).and_then(reply::text) {
                Some(value) => Asked::Told(value.to_owned()),
                None => Asked::Failed(format!("the server knows no setting {name}")),
            },
            Ok(_) => Asked::Failed("an answer of unknown shape".to_owned()),
            Err(fault) if is_forbidden(&fault) => Asked::Forbidden,
            Err(fault) => Asked::Failed(fault.to_string()),
        }
    }

    /// Whether the user may send such a command; where there is no answer, nobody says that it may not.
    async fn may(&self, master: &Target, line: &str, key: &str) -> bool {
        let mut words = line.split(' ').map(|word| if word == "%" { key } else { word });
        let mut command: Cmd = cmd(words.next().unwrap_or_default());
        words.for_each(|word| {
            command.arg(word);
        });
        match self.control.run_at(master, line, &command).await {
            Ok(_) => true,
            Err(fault) => !is_forbidden(&fault),
        }
    }
}

fn is_forbidden(fault: &Fault) -> bool {
    fault.to_string().contains("NOPERM")
}

fn fields(info: &str) -> BTreeMap<String, String> {
    let pairs = info.lines().filter_map(|line| line.trim().split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
