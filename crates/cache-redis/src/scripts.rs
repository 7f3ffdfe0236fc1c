//! The Lua scripts: put together, hashed, called.

use bb8_redis::redis::{self, Cmd};
use cache_events::Position;

use crate::config::RedisConfig;
use crate::topology::Topology;

/// Appends between two looks at the size of the log, where its limits allow so many.
const TRIM_EVERY: usize = 128;
/// Bytes of an entry that is taken for large, when it comes to that.
const LARGE_ENTRY_BYTES: u64 = 1024;

/// By how much the server's clock may go back before an epoch ends. Stamps are asked to live 5 s longer than any record of their
/// namespace; what was stored up to a second after the last look at the clock, and during the look, lies within that.
const CLOCK_BACK_MS: u64 = 2_000;

/// The scripts that append and tell everybody.
const PUBLISHING: [&str; 5] = ["inval", "ginval", "flush", "put", "putv"];

/// One script as Redis knows it.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) name: &'static str,
    /// Whether it appends and tells everybody.
    pub(crate) publishes: bool,
    text: String,
    sha: String,
}

impl Script {
    fn new(name: &'static str, constants: &str, parts: &[&str]) -> Self {
        let text = format!("{constants}{}", parts.join("\n"));
        let sha = redis::Script::new(&text).get_hash().to_owned();
        let publishes = PUBLISHING.contains(&name);
        Self { name, publishes, text, sha }
    }

    /// `EVALSHA`; first the keys are to be added, then the arguments.
    pub(crate) fn call(&self, keys: usize) -> Cmd {
        let mut cmd = Cmd::with_capacity(20 + keys, 768);
        cmd.arg("EVALSHA").arg(&self.sha).arg(keys);
        cmd
    }

    /// `SCRIPT LOAD`.
    pub(crate) fn load(&self) -> Cmd {
        let mut cmd = redis::cmd("SCRIPT");
        cmd.arg("LOAD").arg(&self.text);
        cmd
    }
}

/// What stands in front of each script: what would otherwise travel with each call.
fn constants(config: &RedisConfig) -> String {
    let (entries, bytes) = (config.log_entries_max, config.log_bytes_max);
    // An eighth of either limit at most may come on top of it.
    let by_bytes = usize::try_from(bytes / 8 / LARGE_ENTRY_BYTES).unwrap_or(TRIM_EVERY);
    let every = TRIM_EVERY.min(entries as usize / 8).min(by_bytes).max(1);
    // In an escape for each byte: whatever the name is, it is a text.
    let public = config.public_channel.as_deref().unwrap_or_default();
    let public: String = public.bytes().map(|byte| format!("\\{byte:03}")).collect();
    let publish = if matches!(config.topology, Topology::Cluster(_)) { "SPUBLISH" } else { "PUBLISH" };
    format!(
        "local PUBLISH, PUBLIC = '{publish}', '{public}'\n\
         local ENTRIES_MAX, BYTES_MAX, TRIM_EVERY = {entries}, {bytes}, {every}\n\
         -- Lua counts in doubles: at 2^53 two positions could be one.\n\
         local LIMIT = {}\n\
         local CLOCK_BACK_MS = {CLOCK_BACK_MS}\n\
         -- What is published instead of the bare envelope, if anything.\n\
         local HINT\n",
        Position::LIMIT
    )
}

macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident = [$($part:literal),*];)*) => {
        /// All scripts.
        #[derive(Debug)]
        pub(crate) struct Scripts {
            $($(#[$doc])* pub(crate) $name: Script,)*
        }

        impl Scripts {
            /// The scripts of a deployment.
            pub(crate) fn new(config: &RedisConfig) -> Self {
                let constants = constants(config);
                Self {
                    $($name: Script::new(
                        stringify!($name),
                        &constants,
                        &[$(include_str!(concat!("lua/", $part, ".lua"))),*],
                    ),)*
                }
            }

            /// Every one of them.
            pub(crate) fn all(&self) -> impl Iterator<Item = &Script> {
                [$(&self.$name),*].into_iter()
            }
        }
    };
}

scripts! {
    hello = ["common", "hello"];
    sync = ["common", "sync"];
    inval = ["inval_fast", "fast", "common", "record", "remove", "long", "inval"];
    wipe = ["common", "record", "remove", "wipe"];
    ginval = ["common", "ginval"];
    flush = ["common", "flush"];
    lease = ["common", "record", "lease"];
    fill = ["fill"];
    release = ["release"];
    put = ["put_fast", "fast", "common", "record", "store", "long", "put"];
    putv = ["common", "record", "store", "putv"];
    apart = ["apart"];
    free = ["free"];
    nodes = ["common", "nodes"];
    introduce = ["introduce"];
    roster = ["roster"];
}
