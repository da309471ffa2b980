//! Namespaces: what the channels whose names share a first part keep and allow.
//!
//! Owns the way from a channel's name to its settings and to the broker's `Retention`. Called
//! wherever a channel's name comes in; never knows who asks.

use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc, time::Duration};

use tidewire_protocol::{ChannelName, frame::Acknowledge};

use super::{
    error::Problem,
    reader::{Reader, Report},
    setting::{Setting, quoted, section},
    tree::{Origin, Raw},
    units::{Rate, millis},
};
use crate::{
    auth::{Right, Rights, operator},
    broker::Retention,
};

/// The namespace of names without a colon.
const DEFAULT_NAMESPACE: &str = "default";
/// The name of what is not configured but the hub's own; no label of a metric.
const HUB_NAMESPACE: &str = "$sys";
/// Longest name of a namespace in bytes: leaves most of a channel's name to the application, and
/// the name is a metric label.
const NAME_BYTES_MAX: usize = 64;
/// Most namespaces: each is a label of several metrics.
const NAMESPACES_MAX: usize = 256;
/// Tombstones stay at least this long, so that a reader away for an hour learns of removals.
const TOMBSTONE_TTL_MIN: Duration = Duration::from_secs(3_600);
/// Publication ids are remembered at least this long: any client's retries end before.
const DEDUP_TTL_MIN: Duration = Duration::from_secs(120);
/// Keys of a presence channel: the 1,000 members that are listed, their tombstones' successors
/// and one count per node above.
const PRESENCE_KEYS: u32 = 2_048;
/// Members leave by tombstone or by their node's lease; this only bounds what neither removed.
pub const PRESENCE_TTL_MS: u64 = 30 * 86_400_000;

/// How a channel's members are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Listed, up to 1,000.
    Members,
    /// Counted.
    Count,
    /// Not at all.
    Off,
}

impl Setting for Presence {
    const EXPECTED: &'static str = "\"members\", \"count\" or false";

    fn from_text(text: &str) -> Option<Self> {
        match text {
            "members" => Some(Self::Members),
            "count" => Some(Self::Count),
            _ => None,
        }
    }

    fn from_raw(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Flag(false) => Some(Self::Off),
            Raw::Untyped(text) if text == "false" => Some(Self::Off),
            Raw::Text(text) | Raw::Untyped(text) => Self::from_text(text),
            Raw::Flag(true) | Raw::Integer(_) | Raw::List(_) | Raw::Other(_) => None,
        }
    }

    fn show(&self) -> Option<String> {
        Some(match self {
            Self::Members => quoted("members"),
            Self::Count => quoted("count"),
            Self::Off => "false".to_owned(),
        })
    }
}

impl Setting for Acknowledge {
    const EXPECTED: &'static str = "\"log\" or \"replicated\"";

    fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == text)
    }

    fn show(&self) -> Option<String> {
        Some(quoted(self.name()))
    }
}

section! {
    /// What the channels of one namespace keep and allow.
    pub struct Namespace {
        /// Publications kept; 0: none. A screen's worth to scroll back and to resume from.
        history_size: u32 = 100,
        /// How long they are kept: a break, not an archive.
        history_ttl: Duration = Duration::from_secs(3_600),
        /// Keep the newest publication per key; costs memory and disk per key.
        state: bool = false,
        /// Most keys of one channel; then publishing a new key answers 413 state_full.
        state_keys: NonZeroU32 = NonZeroU32::MIN.saturating_add(9_999),
        /// How long a key lives without being published again, so that forgotten ones go.
        state_ttl: Duration = Duration::from_secs(7 * 86_400),
        /// What a publication must reach before it is answered: "log", or "replicated", a replica of Redis too, against the failover that lags.
        acknowledge: Acknowledge = Acknowledge::Log,
        /// Who is there: "members" (listed up to 1,000), "count", or false; telling others is opted into.
        presence: Presence = Presence::Off,
        /// Publications a second one client may send here: typing and clicking pass, floods do not.
        max_rate: Rate = Rate::per_second(50),
        /// What every authenticated user may do here without a claim: sub pub history presence.
        allow: Vec<Right> = Vec::new(),
        ;
        /// Its name, for metric labels; of a presence channel: that of the channel it is about.
        name: Arc<str> = Arc::from(DEFAULT_NAMESPACE),
    }
}

impl Namespace {
    /// What the broker keeps of a channel here; `session_ttl` is the configured life of sessions.
    pub fn retention(&self, session_ttl: Duration) -> Retention {
        let tombstones = self.history_ttl.max(session_ttl).max(TOMBSTONE_TTL_MIN);
        Retention {
            history_size: self.history_size,
            history_ttl_ms: millis(self.history_ttl),
            state: self.state,
            state_keys: self.state_keys.get(),
            state_ttl_ms: millis(self.state_ttl),
            tombstone_ttl_ms: millis(tombstones),
            dedup_ttl_ms: millis(session_ttl.max(DEDUP_TTL_MIN)),
            acknowledge: self.acknowledge,
        }
    }

    /// The settings of the presence channels of this namespace's channels: state alone.
    fn of_presence(&self) -> Self {
        Self {
            history_size: 0,
            history_ttl: Duration::ZERO,
            state: true,
            state_keys: NonZeroU32::MIN.saturating_add(PRESENCE_KEYS - 1),
            state_ttl: Duration::from_millis(PRESENCE_TTL_MS),
            acknowledge: Acknowledge::Log,
            presence: Presence::Off,
            ..self.clone()
        }
    }
}

/// Every configured namespace.
#[derive(Debug, Clone, PartialEq)]
pub struct Namespaces {
    spaces: BTreeMap<Arc<str>, Space>,
    /// What operators read of the hub's own.
    hub: Namespace,
}

#[derive(Debug, Clone, PartialEq)]
struct Space {
    own: Namespace,
    presence: Option<Namespace>,
}

impl Default for Namespaces {
    /// One namespace, `default`, with the default settings.
    fn default() -> Self {
        Self::new([(DEFAULT_NAMESPACE, Namespace::default())])
    }
}

impl Namespaces {
    /// The namespaces given by name; a later one of the same name replaces the earlier.
    pub fn new<'a>(spaces: impl IntoIterator<Item = (&'a str, Namespace)>) -> Self {
        let spaces = spaces.into_iter().map(|(name, mut own)| {
            own.name = Arc::from(name);
            let presence = (own.presence != Presence::Off).then(|| own.of_presence());
            (Arc::clone(&own.name), Space { own, presence })
        });
        Self {
            spaces: spaces.collect(),
            hub: Namespace {
                name: Arc::from(HUB_NAMESPACE),
                history_size: 0,
                state: true,
                ..Namespace::default()
            },
        }
    }

    /// The settings of a channel; none where its namespace is not configured, where it is the
    /// presence of a channel that has none, or where it belongs to the hub.
    pub fn resolve(&self, channel: &ChannelName) -> Option<&Namespace> {
        if let Some(base) = channel.presence_of() {
            let space = self
                .spaces
                .get(base.namespace())
                .filter(|_| !base.is_system());
            return space?.presence.as_ref();
        }
        if channel.is_system() {
            return None;
        }
        self.spaces.get(channel.namespace()).map(|space| &space.own)
    }

    /// As above for a client with these rights: operators have some of the hub's channels too.
    pub fn resolve_for(&self, rights: &Rights, channel: &ChannelName) -> Option<&Namespace> {
        let of_hub = || rights.are_of_operator() && operator::may_read(channel);
        let hub = || of_hub().then_some(&self.hub);
        self.resolve(channel).or_else(hub)
    }

    /// Every namespace in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = &Namespace> {
        self.spaces.values().map(|space| &space.own)
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> (Self, Vec<(String, Origin)>) {
        let sections = reader.map::<Namespace>("namespaces", DEFAULT_NAMESPACE);
        let names = sections
            .iter()
            .map(|(name, origin, _)| (name.clone(), origin.clone()));
        let names = names.collect();
        let spaces = sections
            .iter()
            .map(|(name, _, own)| (name.as_str(), own.clone()));
        (Self::new(spaces), names)
    }
}

/// Refuses names no channel can have and more namespaces than metrics can carry.
pub(super) fn check(names: Vec<(String, Origin)>, report: &mut Report) {
    if names.len() > NAMESPACES_MAX {
        report.refuse(
            "namespaces",
            Problem::Range {
                min: "1".to_owned(),
                max: NAMESPACES_MAX.to_string(),
            },
        );
    }
    for (name, origin) in names {
        let refused = |c: char| c == ':' || c == '$' || c.is_whitespace() || c.is_control();
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(refused) {
            report.errors.push(super::error::ConfigError {
                key: format!("namespaces.{name}"),
                origin,
                problem: Problem::NamespaceName,
            });
        }
    }
}
