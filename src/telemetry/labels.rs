//! The values labels can have. Each is an enum, so that no channel, user, session or address can
//! become one.
//!
//! Used by whoever counts; `metrics` keeps one handle per value.

use metrics::Counter;
use tidewire_protocol::{CloseCode, ErrorCode, frame::GapReason};

/// An enum that can be a label.
pub trait LabelValue: Copy + 'static {
    /// Every value, in the order of [`LabelValue::index`].
    const ALL: &'static [Self];
    /// The text of the label.
    fn text(self) -> &'static str;
    /// Its place in [`LabelValue::ALL`].
    fn index(self) -> usize;
}

/// One counter for each value of a label.
#[derive(Debug, Clone)]
pub struct Labels<L> {
    counters: Box<[Counter]>,
    kind: std::marker::PhantomData<L>,
}

impl<L: LabelValue> Labels<L> {
    pub(super) fn new(counter: impl Fn(&'static str) -> Counter) -> Self {
        Self {
            counters: L::ALL.iter().map(|value| counter(value.text())).collect(),
            kind: std::marker::PhantomData,
        }
    }

    /// Counts one.
    pub fn count(&self, value: L) {
        self.add(value, 1);
    }

    /// Counts several.
    pub fn add(&self, value: L, count: u64) {
        if let Some(counter) = self.counters.get(value.index()) {
            counter.increment(count);
        }
    }
}

macro_rules! label {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$doc:meta])+ $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$doc])+ $variant,)+ }

        impl LabelValue for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)+];
            fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

label! {
    /// Who published.
    pub enum PublicationSource {
        /// A client over its connection.
        Client = "client",
        /// A backend over HTTP.
        Api = "api",
        /// The node itself, such as presence.
        Node = "node",
    }
}

label! {
    /// How a `hello` that named a session ended.
    pub enum ResumeOutcome {
        /// The session goes on.
        Resumed = "resumed",
        /// It was unknown or had expired: a new one began.
        Unknown = "unknown",
        /// Its key or user was wrong: a new one began, or none.
        Refused = "refused",
        /// A newer attempt holds it.
        Fenced = "fenced",
    }
}

label! {
    /// What a claim of a session came to.
    pub enum ClaimOutcome {
        /// Granted.
        Granted = "granted",
        /// A newer attempt holds the session.
        Fenced = "fenced",
        /// The store could not be reached.
        Unavailable = "unavailable",
    }
}

label! {
    /// Why a node read a part of a log again.
    pub enum RepairCause {
        /// An announcement did not continue the log.
        Hole = "hole",
        /// The broker said that announcements may have been lost.
        Doubt = "doubt",
        /// A page or a head that a client needed was of another log.
        Read = "read",
        /// An audit found the tail behind its head.
        Audit = "audit",
    }
}

label! {
    /// Why something was refused.
    pub enum Rejection {
        /// The node has as many connections as it may.
        Connections = "connections",
        /// The address has as many connections as it may.
        ConnectionsPerIp = "connections_per_ip",
        /// The node uses as much memory as it may.
        Memory = "memory",
        /// More came at once than the node takes.
        Storm = "storm",
        /// The page's origin.
        Origin = "origin",
        /// A token or an API key that is none.
        Unauthenticated = "unauthenticated",
        /// A right that is missing.
        Forbidden = "forbidden",
        /// A frame or a body that is none.
        BadRequest = "bad_request",
        /// Over a size.
        TooLarge = "too_large",
        /// Over a rate.
        RateLimited = "rate_limited",
        /// The broker or the store could not be reached.
        Unavailable = "unavailable",
        /// No hello in time.
        HelloTimeout = "hello_timeout",
        /// The node is leaving.
        Draining = "draining",
    }
}

impl Rejection {
    /// How a refused request is counted.
    pub const fn of(code: ErrorCode) -> Self {
        match code {
            ErrorCode::Unauthenticated => Self::Unauthenticated,
            ErrorCode::Forbidden => Self::Forbidden,
            ErrorCode::TooLarge | ErrorCode::StateFull => Self::TooLarge,
            ErrorCode::RateLimited => Self::RateLimited,
            ErrorCode::Internal | ErrorCode::Unavailable => Self::Unavailable,
            ErrorCode::BadRequest
            | ErrorCode::UnknownChannel
            | ErrorCode::UnknownType
            | ErrorCode::IdConflict
            | ErrorCode::HistoryGone
            | ErrorCode::PreconditionFailed => Self::BadRequest,
        }
    }

    /// How a connection refused with a close code is counted.
    pub const fn of_close(code: CloseCode) -> Self {
        match code {
            CloseCode::Unauthenticated => Self::Unauthenticated,
            CloseCode::Forbidden => Self::Origin,
            CloseCode::HelloTimeout => Self::HelloTimeout,
            CloseCode::TooLarge => Self::TooLarge,
            CloseCode::RateLimited => Self::RateLimited,
            CloseCode::Draining => Self::Draining,
            CloseCode::Internal | CloseCode::Overloaded | CloseCode::SlowConsumer => {
                Self::Unavailable
            }
            CloseCode::Normal
            | CloseCode::BadRequest
            | CloseCode::Version
            | CloseCode::Replaced => Self::BadRequest,
        }
    }
}

label! {
    /// Why the time of deliveries was not measured.
    pub enum Untimed {
        /// The publication is stamped with a time to come: clocks disagree by more than is known.
        Future = "future",
        /// The broker's clock is not known well enough.
        UnknownClock = "unknown_clock",
    }
}

label! {
    /// What became of a span.
    pub enum SpanFate {
        /// The collector has it.
        Exported = "exported",
        /// The collector did not take it.
        Refused = "refused",
        /// There was no room for it.
        Dropped = "dropped",
    }
}

label! {
    /// How publications are delivered.
    pub enum DeliveryMode {
        /// Every publication.
        Every = "every",
        /// The newest per key.
        Latest = "latest",
    }
}

/// Why a connection ended: a close code of the node, or the client or the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The node closed it.
    Node(CloseCode),
    /// The client closed it with a code of its own.
    Client,
    /// The socket ended without a close.
    Lost,
}

impl LabelValue for CloseReason {
    const ALL: &'static [Self] = &[
        Self::Node(CloseCode::Normal),
        Self::Node(CloseCode::BadRequest),
        Self::Node(CloseCode::Unauthenticated),
        Self::Node(CloseCode::Forbidden),
        Self::Node(CloseCode::Version),
        Self::Node(CloseCode::HelloTimeout),
        Self::Node(CloseCode::Replaced),
        Self::Node(CloseCode::TooLarge),
        Self::Node(CloseCode::RateLimited),
        Self::Node(CloseCode::Internal),
        Self::Node(CloseCode::Overloaded),
        Self::Node(CloseCode::SlowConsumer),
        Self::Node(CloseCode::Draining),
        Self::Client,
        Self::Lost,
    ];

    fn text(self) -> &'static str {
        match self {
            Self::Node(code) => match code {
                CloseCode::Normal => "1000",
                CloseCode::BadRequest => "4400",
                CloseCode::Unauthenticated => "4401",
                CloseCode::Forbidden => "4403",
                CloseCode::Version => "4406",
                CloseCode::HelloTimeout => "4408",
                CloseCode::Replaced => "4409",
                CloseCode::TooLarge => "4413",
                CloseCode::RateLimited => "4429",
                CloseCode::Internal => "4500",
                CloseCode::Overloaded => "4503",
                CloseCode::SlowConsumer => "4507",
                CloseCode::Draining => "4512",
            },
            Self::Client => "client",
            Self::Lost => "lost",
        }
    }

    fn index(self) -> usize {
        Self::ALL
            .iter()
            .position(|value| *value == self)
            .unwrap_or(usize::MAX)
    }
}

impl LabelValue for GapReason {
    const ALL: &'static [Self] = &Self::ALL;

    fn text(self) -> &'static str {
        self.name()
    }

    fn index(self) -> usize {
        Self::ALL
            .iter()
            .position(|value| *value == self)
            .unwrap_or(usize::MAX)
    }
}
