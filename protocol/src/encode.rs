//! Encoding of frames (the node's side) and of commands (a client's side).
//!
//! Appends one frame to a buffer its caller owns. Both encodings are written through one writer
//! of maps, so each frame is spelled out in one place.

mod command;
mod frame;
mod writer;

pub use frame::msg;

use crate::Encoding;

/// What stands between two frames of one message.
#[must_use]
pub const fn separator(encoding: Encoding) -> &'static [u8] {
    match encoding {
        Encoding::Json => b"\n",
        Encoding::MessagePack => b"",
    }
}
