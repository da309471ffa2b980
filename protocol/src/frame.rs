//! Frames from node to client: replies, pushes and publications. Plain data; `encode` writes
//! them and `decode` reads them back for the programs that are clients.

use std::sync::Arc;

use crate::{ChannelName, Epoch, ErrorCode, Name, Payload, Position, code::CloseCode};

/// One accepted publication, as it stands in a channel's log.
#[derive(Debug, Clone, PartialEq)]
pub struct Publication {
    /// Its place in the log.
    pub offset: u64,
    /// When the broker accepted it, Unix ms of the broker's clock.
    pub ts: u64,
    /// The data; none for a removal or a blanked entry.
    pub payload: Option<Payload>,
    /// The key it set.
    pub key: Option<Name>,
    /// The application's event name.
    pub event: Option<Name>,
    /// The publication id.
    pub id: Option<Name>,
    /// The user who published, if a client did.
    pub by: Option<Name>,
    /// The key was removed, or the entry was blanked.
    pub deleted: bool,
    /// When it stops being valid, Unix ms.
    pub expires: Option<u64>,
}

/// One entry of a state snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct StateItem {
    /// The epoch of its publication.
    pub epoch: Epoch,
    /// The key's newest publication.
    pub publication: Arc<Publication>,
}

/// Where a delivery began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// From the position given; whatever is gone after it comes as a gap.
    Full,
    /// The position could not be served: start over.
    Reset,
    /// New here.
    Fresh,
}

impl Recovery {
    /// Every way a delivery can begin.
    pub const ALL: [Self; 3] = [Self::Full, Self::Reset, Self::Fresh];

    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Reset => "reset",
            Self::Fresh => "fresh",
        }
    }
}

/// What an accepted publication has reached when it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acknowledge {
    /// The log, in one place.
    #[default]
    Log,
    /// The log, and a copy of it elsewhere.
    Replicated,
}

impl Acknowledge {
    /// Every class.
    pub const ALL: [Self; 2] = [Self::Log, Self::Replicated];

    /// The name on the wire, in answers and in configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Replicated => "replicated",
        }
    }
}

/// Why a range of publications is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// History's size or age dropped it.
    Expired,
    /// The channel keeps no history.
    NotKept,
}

impl GapReason {
    /// Every reason.
    pub const ALL: [Self; 2] = [Self::Expired, Self::NotKept];

    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::NotKept => "not_kept",
        }
    }
}

/// What `welcome` tells a client.
#[derive(Debug, Clone, PartialEq)]
pub struct Welcome {
    /// The session's id.
    pub session: String,
    /// The session's signed key.
    pub key: String,
    /// How long the session lives without a connection, ms.
    pub ttl_ms: u64,
    /// Whether the session was resumed.
    pub resumed: bool,
    /// The user of the token; none for an anonymous one.
    pub user: Option<Name>,
    /// The heartbeat in seconds.
    pub heartbeat: u64,
    /// The broker's clock, Unix ms.
    pub ts: u64,
    /// Largest frame, publication data and number of subscriptions.
    pub max: Maxima,
    /// When the token expires, Unix ms.
    pub expires: Option<u64>,
    /// The node's id.
    pub node: String,
}

/// The limits a client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Maxima {
    /// Largest message from client to node in bytes.
    pub frame: u64,
    /// Largest publication in bytes.
    pub data: u64,
    /// Most subscriptions.
    pub subs: u64,
}

/// One frame from node to client.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// The connection is open.
    Welcome(Box<Welcome>),
    /// A subscription began (`i` absent: after a hello, or the log began another life).
    Subscribed {
        /// Request number.
        i: Option<u64>,
        /// The channel.
        channel: ChannelName,
        /// Where this delivery starts.
        position: Position,
        /// How it began.
        recovery: Recovery,
    },
    /// Plain success: `unsub`, `auth`.
    Done {
        /// Request number.
        i: u64,
        /// The new expiry of the token, Unix ms.
        expires: Option<u64>,
    },
    /// A publication was accepted.
    Published {
        /// Request number.
        i: u64,
        /// Its position.
        position: Position,
        /// The id had been applied before; this is the first position.
        duplicate: bool,
        /// What it has reached.
        acknowledged: Acknowledge,
    },
    /// A page of history.
    HistoryPage {
        /// Request number.
        i: u64,
        /// The head the page was read at.
        position: Position,
        /// Publications in rising offset order.
        items: Vec<Arc<Publication>>,
        /// Whether there are more in the direction asked.
        more: bool,
    },
    /// A page of state that was asked for.
    StatePage {
        /// Request number.
        i: u64,
        /// The head the page was read at.
        position: Position,
        /// Items in rising offset order.
        items: Vec<StateItem>,
        /// Whether there are more above the last.
        more: bool,
    },
    /// A request was refused.
    Error {
        /// Request number.
        i: Option<u64>,
        /// Why.
        code: ErrorCode,
        /// For people.
        text: String,
        /// When to try again, ms.
        retry_ms: Option<u64>,
        /// The present last position, with 412.
        position: Option<Position>,
    },
    /// A publication.
    Msg {
        /// The channel.
        channel: ChannelName,
        /// The publication.
        publication: Arc<Publication>,
    },
    /// A page of a subscription's snapshot.
    State {
        /// The channel.
        channel: ChannelName,
        /// Items in rising offset order.
        items: Vec<StateItem>,
        /// Whether another page follows.
        more: bool,
    },
    /// Caught up.
    Live {
        /// The channel.
        channel: ChannelName,
        /// The offset reached.
        offset: u64,
        /// How many were replayed.
        replayed: u64,
    },
    /// Publications that are gone; the next is `to + 1`.
    Gap {
        /// The channel.
        channel: ChannelName,
        /// First offset gone.
        from: u64,
        /// Last offset gone.
        to: u64,
        /// Why.
        reason: GapReason,
    },
    /// The log goes on at `to + 1` under a new epoch.
    Rewind {
        /// The channel.
        channel: ChannelName,
        /// The new epoch.
        epoch: Epoch,
        /// The last offset both lives share.
        to: u64,
        /// How many the client had seen that are not in the log.
        lost: u64,
    },
    /// The node cannot reach the broker; `since: 0` ends it.
    Stale {
        /// One channel, or all.
        channel: Option<ChannelName>,
        /// Since when, Unix ms.
        since: u64,
    },
    /// A subscription was refused or withdrawn.
    Unsubscribed {
        /// The channel.
        channel: ChannelName,
        /// Why.
        code: ErrorCode,
    },
    /// The token nears its end.
    Auth {
        /// When it expires, Unix ms.
        expires: u64,
    },
    /// Open another connection and resume there.
    Move {
        /// After how many ms.
        in_ms: u64,
        /// This one delivers until then, ms.
        by_ms: u64,
    },
    /// Heartbeat.
    Ping,
    /// The last frame before a close.
    Bye {
        /// Why.
        code: CloseCode,
        /// When to come back, ms.
        retry_ms: Option<u64>,
        /// The attempt that holds the session, with 4409.
        attempt: Option<u64>,
    },
}
