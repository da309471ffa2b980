//! Decoding of commands (the node's side) and of frames (a client's side).
//!
//! Both encodings are read through one view of a map (`fields`), so each frame is understood in
//! one place. No tree is built and nothing is allocated for a length that is only claimed.

mod command;
mod fields;
mod frame;
mod value;

use crate::{Command, Encoding, Frame, limits::COMMANDS_PER_MESSAGE_MAX};

/// The message is not of this protocol: a node closes the connection with 4400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A text is not UTF-8.
    #[error("the message is not UTF-8")]
    Utf8,
    /// Broken JSON or MessagePack, or a frame that ends too early.
    #[error("the message is not well formed from byte {at} on")]
    Syntax {
        /// Offset of the byte in the message.
        at: usize,
    },
    /// A frame is something else than a map.
    #[error("the frame at byte {at} is not a map")]
    NotAMap {
        /// Offset of the byte in the message.
        at: usize,
    },
    /// A key of a frame is not a string.
    #[error("a key of the frame at byte {at} is not a string")]
    Key {
        /// Offset of the byte in the message.
        at: usize,
    },
    /// A frame holds a key of this protocol twice.
    #[error("the frame holds the key `{key}` twice")]
    DuplicateKey {
        /// The key.
        key: &'static str,
    },
    /// A frame without `t`, or whose `t` is not a string.
    #[error("the frame has no type")]
    NoType,
    /// Two JSON frames without a line feed between them.
    #[error("no line feed before the frame at byte {at}")]
    Separator {
        /// Offset of the byte in the message.
        at: usize,
    },
    /// A message without a frame.
    #[error("the message holds no frame")]
    Empty,
    /// A message of more than 1,024 frames.
    #[error("the message holds more than 1024 frames")]
    TooManyFrames,
    /// A frame from a node breaks a rule; commands become [`Command::Invalid`] instead.
    #[error("{text}")]
    Field {
        /// Which rule.
        text: &'static str,
    },
}

/// Reads the commands of one WebSocket message, in order.
///
/// What is well formed but breaks a rule is [`Command::Invalid`] or [`Command::Unknown`].
///
/// # Errors
/// The message is not of this protocol; none of its commands may take effect.
pub fn commands(encoding: Encoding, message: &[u8]) -> Result<Vec<Command>, DecodeError> {
    let mut commands = Vec::new();
    fields::each(encoding, message, |fields| {
        if commands.len() == COMMANDS_PER_MESSAGE_MAX {
            return Err(DecodeError::TooManyFrames);
        }
        commands.push(command::read(fields)?);
        Ok(())
    })?;
    Ok(commands)
}

/// Reads the frames of one message from a node, in order; those of unknown types are left out.
///
/// The reply `ok` is told apart by its keys: with `rec` it began a subscription; with `items` it
/// is a page, of state if its first item has an `e`, else (and when empty) of history; with `o`
/// a publication was accepted; anything else is plain success.
///
/// # Errors
/// The message is not of this protocol, or a frame of a known type breaks a rule.
pub fn frames(encoding: Encoding, message: &[u8]) -> Result<Vec<Frame>, DecodeError> {
    let mut frames = Vec::new();
    fields::each(encoding, message, |fields| {
        frames.extend(frame::read(fields)?);
        Ok(())
    })?;
    Ok(frames)
}
