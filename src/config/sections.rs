//! Settings of the parts of a node, each default with its reason.
//!
//! Read by `Config::load`, used by the parts; the doc comments are what users read in the README.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use super::{
    setting::{Setting, quoted, section, words},
    units::{ByteSize, Percent, Rate, parse_duration, show_duration},
};
use crate::redis::{Address, Topology};

/// Partitions of a hub on a Redis Cluster: dozens for each primary, so that they can be spread.
const CLUSTER_PARTITIONS: u32 = 256;

section! {
    /// How long sessions live.
    pub struct Session {
        /// How long a session lives without a connection: long enough for a tunnel or a lift.
        ttl: Duration = Duration::from_secs(300),
    }
}

section! {
    /// What one node and one client may use.
    pub struct Limits {
        /// Most connections of the node; more are refused with a paced retry.
        connections: NonZeroU32 = NonZeroU32::MIN.saturating_add(99_999),
        /// Largest message from client to node: a full publication as base64 fits.
        frame: ByteSize = ByteSize::kib(96),
        /// Largest data of one publication: a page of them stays a page.
        publication: ByteSize = ByteSize::kib(48),
        /// Most subscriptions of one session; never over 256, the width of a ready set.
        subscriptions: NonZeroU32 = NonZeroU32::MIN.saturating_add(255),
        /// Commands of one connection; past it the socket is not read, then 429.
        commands: Rate = Rate::per_second(50),
        /// New subscriptions of one connection, burst 256: a page's first load passes at once.
        subscribes: Rate = Rate::per_second(20),
        /// History and state pages of one connection: scrolling, not crawling.
        reads: Rate = Rate::per_second(10),
        /// Most publications in one page; a page also ends at 256 KiB.
        page: NonZeroU32 = NonZeroU32::MIN.saturating_add(255),
        /// Most connections from one address: an office behind one router.
        connections_per_ip: NonZeroU32 = NonZeroU32::MIN.saturating_add(99),
        /// Memory for the recent part of one channel's log.
        tail_bytes: ByteSize = ByteSize::mib(1),
        /// Memory for the recent parts of all logs; the least recently read go first.
        tails_bytes: ByteSize = ByteSize::mib(256),
        /// New connections a second, burst one second; more are told to come back, paced.
        handshakes: Rate = Rate::per_second(1_000),
        /// Hellos worked on at once, resumes first; the others wait up to 2 s, then come back, paced.
        resumes: NonZeroU32 = NonZeroU32::MIN.saturating_add(255),
        /// Share of the container's memory past which new connections are refused with a paced retry.
        memory: Percent = Percent(75),
    }
}

section! {
    /// How a node leaves.
    pub struct Drain {
        /// Time to move every connection; must fit connections / rate. Orchestrators grant minutes.
        window: Duration = Duration::from_secs(150),
        /// Connections moved a second: what the other nodes can admit without a storm.
        rate: NonZeroU32 = NonZeroU32::MIN.saturating_add(799),
    }
}

/// When an acknowledged publication is on the disk; in the operating system's hands it always is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Before it is acknowledged, by an fsync shared with its neighbours.
    Always,
    /// At the latest after this long: 1 ms to 10 s.
    Within(Duration),
}

impl Setting for Sync {
    const EXPECTED: &'static str = "\"always\" or a duration from \"1ms\" to \"10s\"";

    fn from_text(text: &str) -> Option<Self> {
        if text == "always" {
            return Some(Self::Always);
        }
        let bounds = Duration::from_millis(1)..=Duration::from_secs(10);
        let span = parse_duration(text).filter(|span| bounds.contains(span))?;
        Some(Self::Within(span))
    }

    fn show(&self) -> Option<String> {
        Some(match self {
            Self::Always => quoted("always"),
            Self::Within(span) => quoted(&show_duration(*span)),
        })
    }
}

section! {
    /// The embedded storage.
    pub struct Storage {
        /// What a power cut may take: nothing with "always", else the last moments; a killed process never loses anything.
        sync: Sync = Sync::Within(Duration::from_millis(100)),
    }
}

section! {
    /// The Redis that makes nodes one hub; unset: a node alone, with its embedded storage.
    pub struct Redis {
        /// Where it is: redis://, redis+sentinel://h1,h2,h3/master, redis+cluster://h1,h2; rediss for TLS.
        url: Option<Address> = None,
        /// What every key begins with: hubs that share a Redis differ in it.
        prefix: String = "tw".to_owned(),
        /// Parts of the key space, for ever; unset: 1, or 256 in a Redis Cluster, many for each primary.
        partitions: Option<NonZeroU32> = None,
        /// Connections that hear announcements from each server, and workers that read them.
        lanes: NonZeroU32 = NonZeroU32::MIN.saturating_add(3),
        /// Certificates in PEM that a rediss:// server is checked against; unset: those of the system.
        ca: Option<PathBuf> = None,
        /// How long a publication or another change waits: longer than a disk's hiccup, shorter than a client's patience.
        write_deadline: Duration = Duration::from_millis(500),
        /// How long a read waits: it may be repeated at will.
        read_deadline: Duration = Duration::from_secs(2),
        /// How long a node that starts waits for Redis: both may be starting.
        start_patience: Duration = Duration::from_secs(30),
    }
}

impl Redis {
    /// The number of partitions of a hub at this address.
    pub fn partitions_of(&self, address: &Address) -> u32 {
        let usual = match address.topology {
            Topology::Standalone | Topology::Sentinel(_) => 1,
            Topology::Cluster => CLUSTER_PARTITIONS,
        };
        self.partitions.map_or(usual, NonZeroU32::get)
    }
}

section! {
    /// Files for TLS on `listen`; both or neither.
    pub struct Tls {
        /// Certificate chain in PEM; unset: a proxy in front ends TLS.
        cert: Option<PathBuf> = None,
        /// Private key in PEM.
        key: Option<PathBuf> = None,
    }
}

section! {
    /// Traces of publications; off while there is no `endpoint`.
    pub struct Tracing {
        /// Where spans go, OTLP over HTTP: http://localhost:4318/v1/traces; unset: nothing is traced.
        endpoint: Option<String> = None,
        /// Share of the publications without a traceparent that begin a trace; unset: none do.
        sample: Option<Percent> = None,
        /// The service.name of the spans.
        service_name: String = "tidewire".to_owned(),
    }
}

words! {
    /// How log lines look.
    pub enum LogFormat ("\"json\" or \"pretty\"") {
        /// One JSON object a line, for collectors.
        Json = "json",
        /// For people.
        Pretty = "pretty",
    }
}

/// A filter of log lines, such as `info` or `info,tidewire::auth=debug`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(pub String);

impl Setting for LogFilter {
    const EXPECTED: &'static str = "a log filter such as \"info\" or \"info,tidewire::auth=debug\"";

    fn from_text(text: &str) -> Option<Self> {
        tracing_subscriber::EnvFilter::try_new(text).ok()?;
        Some(Self(text.to_owned()))
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&self.0))
    }
}

section! {
    /// What the node writes to standard error.
    pub struct Log {
        /// Machines read the lines of a production node.
        format: LogFormat = LogFormat::Json,
        /// Least severe level shown, or a filter by module; RUST_LOG stands for it too.
        level: LogFilter = LogFilter("info".to_owned()),
    }
}
