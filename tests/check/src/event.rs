//! What a harness saw, as plain data. Made by `tests/sim` and `tests/chaos`; whoever
//! makes them keeps the order in which one client saw things.

use std::sync::Arc;

/// Names one publication the application meant to make: the number is in its data, another for
/// each, and a retry repeats it.
pub type Body = u64;
/// A client's application, over all its connections and sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Client(pub u32);
/// A channel; [`crate::Names`] makes numbers of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel(pub u32);
/// A key of a channel's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub u32);
/// A session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Session(pub u32);

/// A position as the wire has it: the epoch's text and the offset.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Opaque to clients; the same text always means the same generation of the same life.
    pub epoch: Arc<str>,
    /// 1, 2, 3 …; 0 is before the first.
    pub offset: u64,
}

impl Position {
    /// A position.
    #[must_use]
    pub fn new(epoch: &str, offset: u64) -> Self {
        Self {
            epoch: Arc::from(epoch),
            offset,
        }
    }
}

/// How a delivery began (`rec`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Recovery {
    /// Right behind the position the client held.
    Full,
    /// Start over: the client forgets what it holds of the channel.
    Reset,
    /// No position was asked for.
    Fresh,
}

/// How the application reads a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Every publication.
    Every,
    /// The newest of each key.
    Latest,
}

/// An entry of a channel's state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Item {
    /// Where it was minted.
    pub position: Position,
    /// Its key.
    pub key: Key,
    /// Its data; none: the key was removed.
    pub body: Option<Body>,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A publication is sent for the first time.
    Attempted {
        /// What it says.
        body: Body,
        /// Where.
        channel: Channel,
    },
    /// The publisher was told that the log holds it.
    Acknowledged {
        /// Which.
        body: Body,
        /// Where it is.
        position: Position,
    },
    /// The publisher was told that it is not and will not be in the log (4xx; never 503 or a lost
    /// answer, of which nothing is known and nothing is fed).
    Refused {
        /// Which.
        body: Body,
    },
    /// The application subscribes. What it held of the channel before, it holds no more.
    Asked {
        /// Who.
        client: Client,
        /// What.
        channel: Channel,
        /// How.
        mode: Mode,
        /// Whether it keeps the channel's state: snapshots replace what it holds.
        state: bool,
    },
    /// The application unsubscribed, was told that it may not read, or is gone: nothing of the
    /// channel may reach it, and it is owed nothing.
    Left {
        /// Who.
        client: Client,
        /// What.
        channel: Channel,
    },
    /// The application lost its memory, but for what it handled. The next delivery begins there or
    /// below, if it does not start over.
    Forgot {
        /// Who.
        client: Client,
        /// What.
        channel: Channel,
        /// What it acknowledged last; none: nothing.
        acknowledged: Option<Position>,
    },
    /// `ok`: a delivery begins after this position.
    Began {
        /// Who.
        client: Client,
        /// What.
        channel: Channel,
        /// After where.
        position: Position,
        /// How.
        recovery: Recovery,
    },
    /// The application was given a publication.
    Message {
        /// Who.
        client: Client,
        /// What.
        channel: Channel,
        /// Its offset, and the epoch by the last `ok` or `rewind`.
        position: Position,
        /// Its data; none: removed or blanked.
        body: Option<Body>,
        /// Its key.
        key: Option<Key>,
    },
    /// The application was told that these cannot be had.
    Gap {
        /// Who.
        client: Client,
        /// What.
        channel: Channel,
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// The application was told that the log goes on at `to + 1` under another epoch. One whose
    /// epoch the client holds already is dropped by the library and not fed.
    Rewind {
        /// Who.
        client: Client,
        /// What.
        channel: Channel,
        /// The new epoch.
        epoch: Arc<str>,
        /// The last offset that stands.
        to: u64,
        /// How many of those seen do not.
        lost: u64,
    },
    /// A page of a snapshot.
    Page {
        /// Who.
        client: Client,
        /// What.
        channel: Channel,
        /// The state, in rising offset.
        items: Vec<Item>,
        /// Whether another page follows.
        more: bool,
    },
    /// The application was told that it has all up to this offset.
    Live {
        /// Who.
        client: Client,
        /// What.
        channel: Channel,
        /// The offset.
        offset: u64,
    },
    /// The store granted a claim, or accepted a checkpoint, which is one.
    Wrote {
        /// Which session.
        session: Session,
        /// The claim's number.
        attempt: u64,
        /// What tells two claims of one number apart; 0 where it cannot be seen.
        nonce: u64,
    },
    /// The store may have forgotten writes: of owners before, nothing is known.
    StoreLost,
}
