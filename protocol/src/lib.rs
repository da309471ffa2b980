//! The Tidewire wire protocol, version 1: frames, codecs, names, codes and limits.
//!
//! Pure: no clock, no randomness, no IO, no async. The node, the command line, the load tool
//! and the tests speak through this crate; `SPEC.md` beside it is the normative text and
//! `vectors/` holds the examples that every implementation runs.

pub mod code;
pub mod command;
pub mod decode;
pub mod encode;
pub mod frame;
mod json;
pub mod limits;
mod msgpack;
pub mod name;
pub mod payload;
pub mod trace;

pub use code::{CloseCode, ErrorCode};
pub use command::Command;
pub use decode::DecodeError;
pub use frame::{Frame, Publication};
pub use name::{ChannelName, Epoch, Name, Position};
pub use payload::{Payload, PayloadError};
pub use trace::TraceParent;

/// How frames are written on one connection; chosen by the WebSocket subprotocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `tidewire.v1.json`: text messages, frames joined by a line feed.
    Json,
    /// `tidewire.v1.msgpack`: binary messages, MessagePack maps one after another.
    MessagePack,
}

impl Encoding {
    /// The WebSocket subprotocol that names this encoding.
    #[must_use]
    pub const fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => "tidewire.v1.json",
            Self::MessagePack => "tidewire.v1.msgpack",
        }
    }
}
