//! Lua scripts: a name, the text, and the digest Redis knows it by.
//!
//! Declared as statics by whoever owns the script; loaded by every connection's handshake. Never
//! knows what a script does.

use std::{fmt, sync::OnceLock};

use redis::{Cmd, cmd};

/// One script of ours.
pub struct Script {
    name: &'static str,
    source: &'static str,
    digest: OnceLock<String>,
}

impl Script {
    /// A script by its name, for logs, and its text.
    pub const fn new(name: &'static str, source: &'static str) -> Self {
        Self {
            name,
            source,
            digest: OnceLock::new(),
        }
    }

    /// The name in logs.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    pub(super) const fn source(&self) -> &'static str {
        self.source
    }

    /// SHA-1 of the text in hexadecimal digits: what `EVALSHA` takes.
    pub(super) fn digest(&self) -> &str {
        self.digest.get_or_init(|| {
            let script = redis::Script::new(self.source);
            script.get_hash().to_owned()
        })
    }

    /// The command that makes a server know it.
    pub(super) fn load(&self) -> Cmd {
        let mut load = cmd("SCRIPT");
        load.arg("LOAD").arg(self.source);
        load
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Script").field(&self.name).finish()
    }
}
