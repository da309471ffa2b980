//! What a subscription tells the application, and how the client stands.
//!
//! Made by the core, read by applications. Plain data.

use std::{sync::Arc, time::Duration};

use tidewire_protocol::{
    CloseCode, Epoch, ErrorCode, Name, Payload, Position, Publication,
    frame::{self, Recovery, StateItem},
};

/// What happens to a channel, in its order.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Delivery begins after this position; of what was before, only a snapshot or the last
    /// publications come, where they were asked for.
    Fresh(Position),
    /// Where this client was could not be served: forget what you hold of the channel; delivery
    /// begins after this position.
    Reset(Position),
    /// A page of the state asked for with [`Start::State`](crate::Start::State), or of the state
    /// that heals a gap. Apply an item to a key only if its offset is higher than what you hold.
    State {
        /// Items in rising offset order over all pages.
        items: Vec<StateItem>,
        /// Another page follows.
        more: bool,
    },
    /// A publication.
    Message(Message),
    /// Caught up to `position`.
    Live {
        /// Where the subscription stands.
        position: Position,
        /// How the delivery had begun.
        recovery: Recovery,
        /// Publications replayed since.
        replayed: u64,
    },
    /// The publications `from` to `to`, both included, cannot be had.
    Gap {
        /// First offset gone.
        from: u64,
        /// Last offset gone.
        to: u64,
        /// Why.
        reason: GapReason,
    },
    /// The log goes on at `to + 1` under another epoch; of what was seen, the last `lost`
    /// publications are not in it.
    Rewind {
        /// The new epoch.
        epoch: Epoch,
        /// The last offset both lives share.
        to: u64,
        /// How many that were seen are gone.
        lost: u64,
    },
    /// The node cannot reach its broker since this Unix ms of the broker's clock: what is shown
    /// may be old. None: it is over.
    Stale(Option<u64>),
    /// The node refuses the subscription, or withdrew it. It is asked for again with the next
    /// token; refusals that pass by themselves are not told.
    Refused {
        /// Why.
        code: ErrorCode,
        /// For people; empty where the node gave only the code.
        text: String,
    },
}

/// A publication as it reached this client.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The life of the log it is in.
    pub epoch: Epoch,
    /// The publication.
    pub publication: Arc<Publication>,
    /// It came while catching up.
    pub replayed: bool,
    /// In mode `latest`: publications before it that newer ones replaced.
    pub skipped: u64,
}

impl Message {
    /// Where it stands.
    #[must_use]
    pub fn position(&self) -> Position {
        Position {
            epoch: self.epoch.clone(),
            offset: self.publication.offset,
        }
    }

    /// The event name.
    #[must_use]
    pub fn event(&self) -> Option<&str> {
        self.publication.event.as_ref().map(Name::as_str)
    }

    /// Its data; a removal reads as JSON's null.
    ///
    /// # Errors
    /// The data are bytes, or JSON of another shape.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        match &self.publication.payload {
            Some(Payload::Json(text)) => serde_json::from_slice(text),
            Some(Payload::Bytes(_)) => Err(serde::de::Error::custom("the data are bytes")),
            None => serde_json::from_slice(b"null"),
        }
    }
}

/// Why publications cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// History's size or age dropped them.
    Expired,
    /// The channel keeps no history.
    NotKept,
    /// The node left them out twice without a word.
    Missing,
}

impl GapReason {
    /// The name on the wire; `missing` is this client's own.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Expired => frame::GapReason::Expired.name(),
            Self::NotKept => frame::GapReason::NotKept.name(),
            Self::Missing => "missing",
        }
    }
}

impl From<frame::GapReason> for GapReason {
    fn from(reason: frame::GapReason) -> Self {
        match reason {
            frame::GapReason::Expired => Self::Expired,
            frame::GapReason::NotKept => Self::NotKept,
        }
    }
}

/// How the client stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// A connection is being made.
    Connecting,
    /// Connected.
    Online(Online),
    /// Waiting for the next try.
    Offline {
        /// What ended the last connection, or kept it from being made.
        why: Loss,
        /// How long the wait is from when this was told.
        retry_in: Duration,
    },
    /// [`Client::suspend`](crate::Client::suspend) was called; the session is kept.
    Suspended,
    /// The node refuses this client for good: nothing is tried again.
    Blocked(CloseCode),
    /// The client was closed, or left.
    Closed,
}

impl Status {
    /// Nothing will change any more.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Blocked(_) | Self::Closed)
    }
}

/// What `welcome` told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Online {
    /// The session's id.
    pub session: String,
    /// It is the session from before.
    pub resumed: bool,
    /// The user of the token; none for an anonymous client.
    pub user: Option<Name>,
    /// The node's id.
    pub node: String,
}

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// The node said so.
    #[error("the node ended the connection: {}", .0.name())]
    Told(CloseCode),
    /// It broke.
    #[error("the connection broke")]
    Broken,
    /// It could not be made.
    #[error("the node cannot be reached")]
    Unreachable,
    /// The address answered with this HTTP status instead of a WebSocket.
    #[error("the address answered with HTTP status {0}")]
    Http(u16),
    /// Nothing was heard in time.
    #[error("the node fell silent")]
    Silent,
    /// A message was not of this protocol.
    #[error("a message was not of this protocol")]
    Malformed,
    /// The token source failed.
    #[error("there is no token at the moment")]
    NoToken,
}
