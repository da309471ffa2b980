//! Commands: what a client asks of the node. Plain data; `decode` makes them from bytes.

use crate::{ChannelName, Name, Payload, Position, TraceParent};

/// The number a client gave a request; its answer repeats it. None: no answer is wanted.
pub type RequestId = Option<u64>;

/// One frame from client to node.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// The first frame of a connection.
    Hello(Hello),
    /// Begin, move or change a subscription.
    Sub(Sub),
    /// End a subscription.
    Unsub {
        /// Request number.
        i: RequestId,
        /// The channel to leave.
        channel: ChannelName,
    },
    /// Publish.
    Pub(Pub),
    /// Read a page of history.
    History(History),
    /// Read a page of the keyed state.
    State {
        /// Request number.
        i: RequestId,
        /// The channel to read.
        channel: ChannelName,
        /// First offset wanted; 0: from the start.
        from: u64,
    },
    /// The application has handled everything up to these positions.
    Ack(Vec<(ChannelName, Position)>),
    /// A fresh token on the living connection.
    Auth {
        /// Request number.
        i: RequestId,
        /// The token.
        token: String,
    },
    /// The answer to a ping; may acknowledge too.
    Pong(Vec<(ChannelName, Position)>),
    /// End the session, nothing to resume.
    Leave,
    /// A type this version does not know; answered with 404 when it has a number.
    Unknown {
        /// Request number.
        i: RequestId,
    },
    /// A known type whose fields break a rule; answered with the error when it has a number,
    /// otherwise the connection closes with 4400.
    Invalid {
        /// Request number.
        i: RequestId,
        /// The error to answer.
        code: crate::ErrorCode,
        /// What is wrong, for people.
        text: &'static str,
    },
}

/// Opens a connection, and resumes a session when it names one.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Hello {
    /// A token; absent where the node allows anonymous connections.
    pub token: Option<String>,
    /// The session to resume.
    pub session: Option<ResumeKey>,
    /// The session's subscriptions; none: those of the checkpoint. At most 256.
    pub subs: Option<Vec<Sub>>,
    /// The heartbeat the client would like, in seconds.
    pub heartbeat: Option<u64>,
    /// Name and version of the client library.
    pub sdk: Option<String>,
}

/// What lets a client resume its session.
#[derive(Clone, PartialEq)]
pub struct ResumeKey {
    /// The session.
    pub id: String,
    /// The signed key of it.
    pub key: String,
    /// The client's number for this claim; a higher one wins.
    pub attempt: u64,
}

impl std::fmt::Debug for ResumeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResumeKey")
            .field("id", &self.id)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

/// How publications of a subscription are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Every publication.
    #[default]
    Every,
    /// The newest publication per key.
    Latest,
}

/// What follows where there is no position, or where it cannot be served whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fallback {
    /// Delivery from now on.
    #[default]
    Now,
    /// A snapshot of the keyed state.
    State,
    /// The last n publications.
    Last(u32),
}

/// A subscription to begin, move or change.
#[derive(Debug, Clone, PartialEq)]
pub struct Sub {
    /// Request number; none inside a hello.
    pub i: RequestId,
    /// The channel.
    pub channel: ChannelName,
    /// Deliver what comes after this position.
    pub position: Option<Position>,
    /// Where to begin without a position, or where it cannot be served whole.
    pub fallback: Fallback,
    /// How to deliver.
    pub mode: Mode,
    /// Most deliveries a second; at most 1000.
    pub hz: Option<u32>,
    /// Be a member of the channel's presence, saying this JSON text of oneself (≤ 1 KiB).
    pub me: Option<bytes::Bytes>,
}

/// A publication to make.
#[derive(Debug, Clone, PartialEq)]
pub struct Pub {
    /// Request number.
    pub i: RequestId,
    /// The channel.
    pub channel: ChannelName,
    /// The data; none only with `delete`.
    pub payload: Option<Payload>,
    /// The key of the channel's state it sets.
    pub key: Option<Name>,
    /// The application's event name.
    pub event: Option<Name>,
    /// The publication id, for idempotent publish.
    pub id: Option<Name>,
    /// Remove the key.
    pub delete: bool,
    /// Lifetime in ms.
    pub ttl_ms: Option<u64>,
    /// The guard: only if this very publication is still the last.
    pub guard: Option<Guard>,
    /// The trace it belongs to; apart, as few have one and every command is as large as the largest.
    pub trace: Option<Box<TraceParent>>,
}

/// The condition of a guarded publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// There must be none (`o: 0`).
    Absent,
    /// This one must be the last of its key, without a key of the channel.
    At(Position),
}

/// A page of history.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// Request number.
    pub i: RequestId,
    /// The channel.
    pub channel: ChannelName,
    /// The epoch the offset belongs to.
    pub epoch: Option<crate::Epoch>,
    /// From which offset, in which direction.
    pub range: Range,
    /// Most publications wanted; the node's page bounds it, and alone when this is `u32::MAX`.
    pub limit: u32,
}

/// Which way a page of history runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// The publications right before this offset (exclusive), none: the newest; items rise.
    Before(Option<u64>),
    /// The publications after this offset (exclusive); items rise.
    After(u64),
}
