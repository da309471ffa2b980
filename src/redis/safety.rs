//! Settings of Redis that endanger what the hub promises, by name.
//!
//! Looked at whenever a connection is made and each minute; reported by `/readyz`, `tidewire doctor`
//! and the metric `broker_config_safe`. Only says: what to do about it is the operator's.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

use parking_lot::Mutex;
use redis::{Pipeline, Value};
use tokio::sync::watch;

use super::{
    address::{ServerAddress, Topology},
    call::text,
};

/// Settings that are read.
const SETTINGS: [&str; 4] = [
    "maxmemory-policy",
    "min-replicas-to-write",
    "appendonly",
    "client-output-buffer-limit",
];
/// Oldest major version that everything here was built for.
const VERSION_MIN: u32 = 7;
/// Smallest output buffer of a lane, bytes; what Redis itself sets.
const LANE_BUFFER_MIN: u64 = 32 << 20;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Risk {
    /// Redis throws data away when memory is short.
    Eviction,
    /// A primary that was cut off takes publications that a failover then loses.
    Replicas,
    /// There are fewer replicas than writes need.
    Unwritable,
    /// A restart loses everything.
    Persistence,
    /// Announcements are dropped in a burst.
    Buffers,
    /// The version is too old.
    Version,
    /// The settings may not be read.
    Hidden,
}

impl Risk {
    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Eviction => "eviction",
            Self::Replicas => "replicas",
            Self::Unwritable => "unwritable",
            Self::Persistence => "persistence",
            Self::Buffers => "buffers",
            Self::Version => "version",
            Self::Hidden => "hidden",
        }
    }

    /// What it means and what to do.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Eviction => {
                "maxmemory-policy is not noeviction: channels lose history and state in silence when memory is short; set noeviction"
            }
            Self::Replicas => {
                "min-replicas-to-write is 0 though there is a failover: a primary that was cut off goes on taking publications that are lost; set it to 1 and run two replicas, so that a failover leaves one"
            }
            Self::Unwritable => {
                "fewer replicas are connected than min-replicas-to-write asks for: publishing answers 503, and a primary that took over or began anew cannot store its generation, so reading waits too; bring a replica back, or set min-replicas-to-write to 0 until one is there"
            }
            Self::Persistence => {
                "appendonly is off: a restart loses every channel and session; set appendonly yes"
            }
            Self::Buffers => {
                "client-output-buffer-limit for pubsub is below 32mb: nodes are cut off in bursts and must read again; raise it"
            }
            Self::Version => "the server is older than Redis 7.0: upgrade it",
            Self::Hidden => {
                "CONFIG GET is not permitted: nobody can tell whether the settings are safe; permit it or check them yourself"
            }
        }
    }

    /// Whether promises are at stake; the rest costs work.
    pub const fn is_unsafe(self) -> bool {
        match self {
            Self::Eviction
            | Self::Replicas
            | Self::Unwritable
            | Self::Persistence
            | Self::Version => true,
            Self::Buffers | Self::Hidden => false,
        }
    }
}

/// A risk, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The server.
    pub server: ServerAddress,
    /// What is wrong there.
    pub risk: Risk,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, advice) = (self.risk.name(), self.risk.advice());
        write!(f, "{name}: {}: {advice}", self.server)
    }
}

/// The findings of all servers.
#[derive(Debug)]
pub(super) struct Safety {
    by_server: Mutex<BTreeMap<ServerAddress, Vec<Risk>>>,
    findings: watch::Sender<Arc<[Finding]>>,
}

impl Safety {
    pub(super) fn new() -> Self {
        Self {
            by_server: Mutex::default(),
            findings: watch::Sender::new(Arc::from([])),
        }
    }

    pub(super) fn watch(&self) -> watch::Receiver<Arc<[Finding]>> {
        self.findings.subscribe()
    }

    /// Whether none of the findings is a danger.
    pub(super) fn is_safe(&self) -> bool {
        let findings = self.findings.borrow();
        !findings.iter().any(|finding| finding.risk.is_unsafe())
    }

    /// Replaces what is known of a server; what is new is said once.
    pub(super) fn report(&self, server: &ServerAddress, risks: Vec<Risk>) {
        let mut by_server = self.by_server.lock();
        let known = by_server.insert(server.clone(), risks.clone());
        let is_new = |risk: &&Risk| known.as_ref().is_none_or(|known| !known.contains(risk));
        for risk in risks.iter().filter(is_new) {
            tracing::warn!(%server, risk = risk.name(), "{}", risk.advice());
        }
        self.tell(&by_server);
    }

    /// The server is none of ours any more.
    pub(super) fn forget(&self, server: &ServerAddress) {
        let mut by_server = self.by_server.lock();
        by_server.remove(server);
        self.tell(&by_server);
    }

    fn tell(&self, by_server: &BTreeMap<ServerAddress, Vec<Risk>>) {
        let all = by_server.iter().flat_map(|(server, risks)| {
            risks.iter().map(|risk| Finding {
                server: server.clone(),
                risk: *risk,
            })
        });
        self.findings.send_replace(all.collect());
    }
}

/// The question to a server.
pub(super) fn question() -> Pipeline {
    let mut question = Pipeline::with_capacity(SETTINGS.len() + 2);
    question.cmd("INFO").arg("server");
    question.cmd("INFO").arg("replication");
    for setting in SETTINGS {
        question.cmd("CONFIG").arg("GET").arg(setting);
    }
    question
}

/// What the answers to [`question`] say.
pub(super) fn risks(answers: &[Value], topology: &Topology) -> Vec<Risk> {
    let about = |at: usize| answers.get(at).and_then(text).unwrap_or_default();
    let settings: HashMap<&str, &str> = answers
        .iter()
        .filter_map(Value::as_map_iter)
        .flatten()
        .filter_map(|(name, value)| Some((text(name)?, text(value)?)))
        .collect();
    let setting = |name: &str| settings.get(name).copied();
    let version = field(about(0), "redis_version").and_then(|text| text.split('.').next());
    let replicas = field(about(1), "connected_slaves").is_some_and(|count| count != "0");
    // Said only where the setting is not 0: replicas that read in time.
    let good = field(about(1), "min_slaves_good_slaves").and_then(|count| count.parse().ok());
    let needed = setting("min-replicas-to-write").and_then(|count| count.parse().ok());
    let may_fail_over = replicas || *topology != Topology::Standalone;
    let found = [
        (
            Risk::Eviction,
            setting("maxmemory-policy").is_some_and(|policy| policy != "noeviction"),
        ),
        (
            Risk::Replicas,
            may_fail_over && setting("min-replicas-to-write") == Some("0"),
        ),
        (
            Risk::Unwritable,
            good.zip(needed)
                .is_some_and(|(good, needed): (u32, u32)| good < needed),
        ),
        (Risk::Persistence, setting("appendonly") == Some("no")),
        (
            Risk::Buffers,
            setting("client-output-buffer-limit")
                .and_then(lane_buffer)
                .is_some_and(|bytes| bytes != 0 && bytes < LANE_BUFFER_MIN),
        ),
        (
            Risk::Version,
            version
                .and_then(|text| text.parse().ok())
                .is_none_or(|major: u32| major < VERSION_MIN),
        ),
        (Risk::Hidden, settings.is_empty()),
    ];
    let holds = |(risk, holds): (Risk, bool)| holds.then_some(risk);
    found.into_iter().filter_map(holds).collect()
}

fn field<'a>(about: &'a str, name: &str) -> Option<&'a str> {
    let line = |line: &'a str| line.strip_prefix(name)?.strip_prefix(':');
    about.lines().find_map(line).map(str::trim)
}

/// Hard limit of pub/sub connections in the text of the setting.
fn lane_buffer(text: &str) -> Option<u64> {
    let mut words = text.split_ascii_whitespace();
    words.find(|word| *word == "pubsub")?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(version: &str, replicas: &str, settings: &[(&str, &str)]) -> Vec<Value> {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let mut answers = vec![
            bulk(&format!("# Server\r\nredis_version:{version}\r\n")),
            bulk(&format!("role:master\r\nconnected_slaves:{replicas}\r\n")),
        ];
        for (name, value) in settings {
            answers.push(Value::Map(vec![(bulk(name), bulk(value))]));
        }
        answers
    }

    #[test]
    fn every_risk_has_its_setting() {
        let buffers = "normal 0 0 0 slave 0 0 0 pubsub";
        let sound = [
            ("maxmemory-policy", "noeviction"),
            ("min-replicas-to-write", "1"),
            ("appendonly", "yes"),
            ("client-output-buffer-limit", "normal 0 0 0 pubsub 0 0 0"),
        ];
        let of = |version, replicas, settings: &[_]| {
            risks(&answers(version, replicas, settings), &Topology::Standalone)
        };
        assert_eq!(of("7.0.15", "1", &sound), []);
        assert_eq!(of("6.2.1", "1", &sound), [Risk::Version]);
        assert_eq!(of("7.0.15", "0", &[]), [Risk::Hidden]);
        let alone = [("min-replicas-to-write", "0"), ("appendonly", "yes")];
        assert_eq!(of("8.0.0", "0", &alone), []);
        assert_eq!(of("8.0.0", "1", &alone), [Risk::Replicas]);
        let lonely = "0\r\nmin_slaves_good_slaves:0";
        assert_eq!(of("7.0.15", lonely, &sound), [Risk::Unwritable]);
        let small = format!("{buffers} 1048576 0 60");
        let bad = [
            ("maxmemory-policy", "allkeys-lru"),
            ("appendonly", "no"),
            ("client-output-buffer-limit", small.as_str()),
        ];
        let expected = [Risk::Eviction, Risk::Persistence, Risk::Buffers];
        assert_eq!(of("7.2.0", "0", &bad), expected);
    }
}
