//! The Lua scripts: put together, hashed, called.

use bb8_redis::redis::{self, Cmd};

/// One script as Redis knows it.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) name: &'static str,
    text: String,
    sha: String,
}

impl Script {
    fn new(name: &'static str, parts: &[&str]) -> Self {
        let text = parts.join("\n");
        let sha = redis::Script::new(&text).get_hash().to_owned();
        Self { name, text, sha }
    }

    /// `EVALSHA`; first the keys are to be added, then the arguments.
    pub(crate) fn call(&self, keys: usize) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(&self.sha).arg(keys);
        cmd
    }

    /// `SCRIPT LOAD`.
    pub(crate) fn load(&self) -> Cmd {
        let mut cmd = redis::cmd("SCRIPT");
        cmd.arg("LOAD").arg(&self.text);
        cmd
    }
}

macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident = [$($part:literal),*];)*) => {
        /// All scripts.
        #[derive(Debug)]
        pub(crate) struct Scripts {
            $($(#[$doc])* pub(crate) $name: Script,)*
        }

        impl Scripts {
            pub(crate) fn new() -> Self {
                Self {
                    $($name: Script::new(stringify!($name), &[$(include_str!(concat!("lua/", $part, ".lua"))),*]),)*
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
    inval = ["common", "record", "remove", "inval"];
    wipe = ["common", "record", "remove", "wipe"];
    ginval = ["common", "ginval"];
    flush = ["common", "flush"];
    lease = ["common", "record", "lease"];
    fill = ["fill"];
    release = ["release"];
    put = ["common", "record", "put"];
    putv = ["common", "record", "putv"];
}
