//! The WebSocket wire (RFC 6455), server side: headers, masks, fragments, control frames.
//!
//! The one file that knows the WebSocket library, of which it uses the frame header and the
//! handshake key. The library's connection type is left out on purpose: it copies each frame per
//! socket and holds buffers while idle (research/crates.md section 2: 2.8 against 2.2 KiB a
//! connection, 1.3 to 1.5 times the CPU per delivery), and the delivery core writes shared bytes
//! from whichever thread has them. Never does IO.

use std::io::{Cursor, Write};

use tidewire_protocol::Encoding;
use tokio_tungstenite::tungstenite::{
    handshake::derive_accept_key,
    protocol::frame::{
        FrameHeader,
        coding::{Control, Data, OpCode},
    },
};

use crate::channel::HEADER_BYTES_MAX;

/// Most bytes of a control frame's payload (RFC 6455, 5.5).
const CONTROL_BYTES_MAX: usize = 125;
/// Longest header of a client's frame: two bytes, length and mask.
const CLIENT_HEADER_BYTES_MAX: usize = 14;

/// Why what came in is no WebSocket stream we accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes break RFC 6455 or use what was not negotiated.
    #[error("not a valid WebSocket frame")]
    Broken,
    /// A message is over the frame limit.
    #[error("the message is over the frame limit")]
    TooLarge,
}

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A whole message.
    Message(&'a [u8]),
    /// To be answered with the same payload.
    Ping(&'a [u8]),
    /// The client closes.
    Close,
}

/// Reassembles a client's messages. Holds no memory between messages.
#[derive(Debug)]
pub struct Inbox {
    expected: OpCode,
    message_bytes_max: usize,
    /// A frame that has not fully arrived.
    torn: Vec<u8>,
    /// The fragments of a message so far; none outside a fragmented message.
    fragments: Option<Vec<u8>>,
    /// The client closed: what follows is not read (RFC 6455, 5.5.1).
    closed: bool,
}

impl Inbox {
    /// For a connection of one encoding, with messages of at most `message_bytes_max`.
    pub const fn new(encoding: Encoding, message_bytes_max: usize) -> Self {
        let expected = match encoding {
            Encoding::Json => OpCode::Data(Data::Text),
            Encoding::MessagePack => OpCode::Data(Data::Binary),
        };
        Self {
            expected,
            message_bytes_max,
            torn: Vec::new(),
            fragments: None,
            closed: false,
        }
    }

    /// Takes bytes as they came and hands out what is whole; nothing after a close. `bytes` are
    /// unmasked in place.
    ///
    /// # Errors
    /// The stream cannot go on after an error.
    pub fn feed(
        &mut self,
        bytes: &mut [u8],
        mut on: impl FnMut(Incoming<'_>),
    ) -> Result<(), WireError> {
        if self.torn.is_empty() {
            let used = self.take_frames(bytes, &mut on)?;
            if used < bytes.len() {
                self.torn.extend_from_slice(&bytes[used..]);
            }
            return Ok(());
        }
        let mut torn = std::mem::take(&mut self.torn);
        torn.extend_from_slice(bytes);
        let used = self.take_frames(&mut torn, &mut on)?;
        if used < torn.len() {
            torn.drain(..used);
            self.torn = torn;
        }
        Ok(())
    }

    fn take_frames(
        &mut self,
        bytes: &mut [u8],
        on: &mut impl FnMut(Incoming<'_>),
    ) -> Result<usize, WireError> {
        let mut used = 0;
        if self.closed {
            return Ok(bytes.len());
        }
        while let Some((header, begin, length)) = self.header(&bytes[used..])? {
            let end = begin + length;
            if bytes.len() - used < end {
                break;
            }
            let payload = &mut bytes[used + begin..used + end];
            unmask(payload, header.mask.ok_or(WireError::Broken)?);
            self.frame(&header, payload, on)?;
            if self.closed {
                return Ok(bytes.len());
            }
            used += end;
        }
        Ok(used)
    }

    /// The next header, where its payload begins and how long that is. None: it is torn.
    fn header(&self, bytes: &[u8]) -> Result<Option<(FrameHeader, usize, usize)>, WireError> {
        let mut cursor = Cursor::new(&bytes[..bytes.len().min(CLIENT_HEADER_BYTES_MAX)]);
        let parsed = FrameHeader::parse(&mut cursor).map_err(|_library_error| WireError::Broken)?;
        let Some((header, length)) = parsed else {
            return Ok(None);
        };
        let length = usize::try_from(length).map_err(|_over_any_limit| WireError::TooLarge)?;
        let begin =
            usize::try_from(cursor.position()).map_err(|_within_header| WireError::Broken)?;
        if header.rsv1 || header.rsv2 || header.rsv3 || header.mask.is_none() {
            return Err(WireError::Broken);
        }
        let max = match header.opcode {
            OpCode::Control(_) if !header.is_final || length > CONTROL_BYTES_MAX => {
                return Err(WireError::Broken);
            }
            OpCode::Control(_) => CONTROL_BYTES_MAX,
            OpCode::Data(_) => self.message_bytes_max - self.fragments.as_ref().map_or(0, Vec::len),
        };
        if length > max {
            return Err(WireError::TooLarge);
        }
        Ok(Some((header, begin, length)))
    }

    fn frame(
        &mut self,
        header: &FrameHeader,
        payload: &[u8],
        on: &mut impl FnMut(Incoming<'_>),
    ) -> Result<(), WireError> {
        match (header.opcode, &mut self.fragments) {
            (OpCode::Control(Control::Ping), _) => on(Incoming::Ping(payload)),
            (OpCode::Control(Control::Pong), _) => {}
            (OpCode::Control(Control::Close), _) => {
                self.closed = true;
                on(Incoming::Close);
            }
            (OpCode::Data(Data::Continue), Some(fragments)) => {
                fragments.extend_from_slice(payload);
                if header.is_final {
                    let whole = self.fragments.take().unwrap_or_default();
                    on(Incoming::Message(&whole));
                }
            }
            (opcode, None) if opcode == self.expected => {
                if header.is_final {
                    on(Incoming::Message(payload));
                } else {
                    self.fragments = Some(payload.to_vec());
                }
            }
            (OpCode::Data(_) | OpCode::Control(Control::Reserved(_)), _) => {
                return Err(WireError::Broken);
            }
        }
        Ok(())
    }
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let (words, rest) = payload.as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(mask)).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

fn write_header(opcode: OpCode, length: usize, mut out: impl Write) {
    let header = FrameHeader {
        is_final: true,
        opcode,
        ..FrameHeader::default()
    };
    // Writing to memory that is large enough does not fail.
    header.format(length as u64, &mut out).unwrap_or_default();
}

/// Puts the header of a data message right in front of its payload, which begins at
/// `HEADER_BYTES_MAX`. Answers where the message begins. Runs per delivery: the library's writer
/// takes eight times as long.
pub fn seal(encoding: Encoding, bytes: &mut [u8]) -> usize {
    let length = bytes.len() - HEADER_BYTES_MAX;
    let wide = (length as u64).to_be_bytes();
    let begin = match length {
        0..=125 => {
            bytes[9] = wide[7];
            8
        }
        126..=0xffff => {
            bytes[7] = 126;
            bytes[8..HEADER_BYTES_MAX].copy_from_slice(&wide[6..]);
            6
        }
        _ => {
            bytes[1] = 127;
            bytes[2..HEADER_BYTES_MAX].copy_from_slice(&wide);
            0
        }
    };
    bytes[begin] = match encoding {
        Encoding::Json => 0x81,
        Encoding::MessagePack => 0x82,
    };
    begin
}

/// The answer to a ping.
pub fn pong(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(2 + payload.len());
    write_header(OpCode::Control(Control::Pong), payload.len(), &mut frame);
    frame.extend_from_slice(payload);
    frame
}

/// A close frame with code and name.
pub fn close(code: u16, name: &str) -> Vec<u8> {
    let mut frame = Vec::with_capacity(4 + name.len());
    write_header(OpCode::Control(Control::Close), 2 + name.len(), &mut frame);
    frame.extend_from_slice(&code.to_be_bytes());
    frame.extend_from_slice(name.as_bytes());
    frame
}

/// The value of `Sec-WebSocket-Accept` for a client's key.
pub fn accept_key(key: &[u8]) -> String {
    derive_accept_key(key)
}
