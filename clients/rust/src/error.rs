//! Why something did not happen. Made by the core, read by applications.
//!
//! It never holds frames or tokens, so it may be logged.

use std::time::Duration;

use tidewire_protocol::{CloseCode, ErrorCode, PayloadError, Position, name::NameError};

/// Why a request or publication came to nothing.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// The node refused it; the same request is pointless unless `retry` says otherwise.
    #[error("refused: {}: {text}", code.name())]
    Refused {
        /// Why.
        code: ErrorCode,
        /// For people.
        text: String,
        /// When the same request may succeed.
        retry: Option<Duration>,
        /// With [`ErrorCode::PreconditionFailed`]: the last position at present.
        position: Option<Position>,
    },
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
    /// The node refuses this client.
    #[error("the node refuses this client: {}", .0.name())]
    Blocked(CloseCode),
    /// Too many publications wait for their acknowledgement.
    #[error("too many publications wait for their acknowledgement")]
    OutboxFull,
    /// The publication was never sent: there was no connection in its time.
    #[error("there was no connection in time; it was not published")]
    Expired,
    /// The publication was sent and never acknowledged: it may be in the log.
    #[error("no acknowledgement came in time; it may have been published")]
    OutcomeUnknown,
    /// No answer came in time.
    #[error("no answer came in time")]
    Timeout,
    /// Too many reads wait for their answer.
    #[error("too many reads wait for their answer")]
    Busy,
    /// The data is larger than the node takes.
    #[error("the data has {bytes} bytes; the node takes {max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// What the node takes.
        max: usize,
    },
    /// The channel is subscribed to already by this client; a session has one subscription for
    /// each channel.
    #[error("this client subscribes to the channel already")]
    Subscribed,
    /// The session holds as many subscriptions as it may.
    #[error("a session holds at most {0} subscriptions")]
    TooManySubscriptions(usize),
    /// A channel, key, event or id is no name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The data is none this protocol carries.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// The data cannot be written as JSON.
    #[error("the data cannot be written as JSON: {0}")]
    Json(String),
}

/// Why there is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// This user may not connect: the client stops, blocked.
    #[error("this user may not connect")]
    Forbidden,
    /// It cannot be had at the moment: the client tries again.
    #[error("the token cannot be had at the moment")]
    Unavailable,
}

/// Why a client could not be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The address is none of a node: its scheme must be ws, wss, http or https.
    #[error("the address must begin with ws://, wss://, http:// or https:// and name a host")]
    Url,
}
