//! The session and its cursors without IO, clock or randomness: frames, answers and time go in
//! (`handle_*` and the application's calls), effects come out (`poll_effect`, `poll_deadline`).
//!
//! Owned by the driver, which alone touches sockets and timers. It never waits.

mod answers;
mod backoff;
mod channels;
mod close;
mod connecting;
mod delivery;
mod ending;
mod engine;
mod link;
mod log;
mod outbox;
mod publishing;
mod requests;
mod session;
mod subscribing;
#[cfg(test)]
mod tests;
mod token;

pub(crate) use backoff::backoff;
pub(crate) use channels::Wish;
pub(crate) use close::told;
pub(crate) use engine::{Engine, Settings};
pub(crate) use requests::Read;
pub use token::TokenReason;

use tidewire_protocol::{Command, Frame, Position, Publication, frame::StateItem};

use crate::{Error, Event, Published, Status};

/// One moment of the driver's two clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// Of a clock that never goes back, ms.
    pub(crate) ms: u64,
    /// Unix ms.
    pub(crate) unix_ms: u64,
}

/// One connection, living or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ConnectionId(pub(crate) u64);

/// What reads a channel inside the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ReaderId(pub(crate) u64);

/// Names something the application waits for; chosen by the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(pub(crate) u64);

/// An event, and where the reader stands once it was handled.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Delivery {
    pub(crate) event: Event,
    /// None while it says too much: a snapshot is not complete.
    pub(crate) position: Option<Position>,
}

/// A page that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RawPage {
    pub(crate) head: Position,
    pub(crate) items: RawItems,
    pub(crate) more: bool,
}

/// What a page holds. An empty page of state looks like one of history.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RawItems {
    History(Vec<std::sync::Arc<Publication>>),
    State(Vec<StateItem>),
}

/// How a connection ended, as its socket saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SocketEnd {
    /// By a close frame with this code.
    Closed(u16),
    /// Without one.
    Broken,
    /// It was never made.
    Unreachable,
    /// It was never made: this HTTP status was the answer.
    Http(u16),
}

/// What the driver has to do.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Ask the token source; answered by `handle_token`.
    FetchToken(TokenReason),
    /// Open a socket to the endpoint of this number.
    Connect(ConnectionId, usize),
    Send(ConnectionId, Command),
    /// Close with this code after what was sent before.
    Close(ConnectionId, u16),
    Deliver(ReaderId, Delivery),
    Published(Ticket, Result<Published, Error>),
    Page(Ticket, Result<RawPage, Error>),
    Status(Status),
}

/// What came on a connection; the error: it was not of this protocol.
pub(crate) type Received = Result<Vec<Frame>, tidewire_protocol::DecodeError>;
