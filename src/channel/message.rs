//! One outgoing WebSocket message under construction: whole frames, joined by the encoding's
//! separator, with room in front for the WebSocket header. Never holds part of a frame.

use tidewire_protocol::{Encoding, Frame, encode};

/// Room kept free in front of the payload: the longest unmasked WebSocket header (RFC 6455, 5.2).
pub const HEADER_BYTES_MAX: usize = 10;

/// The payload of one message.
#[derive(Debug)]
pub struct Message {
    encoding: Encoding,
    bytes: Vec<u8>,
}

impl Message {
    /// An empty message that reuses the memory of `bytes`.
    pub fn reusing(encoding: Encoding, mut bytes: Vec<u8>) -> Self {
        bytes.clear();
        bytes.resize(HEADER_BYTES_MAX, 0);
        Self { encoding, bytes }
    }

    pub const fn encoding(&self) -> Encoding {
        self.encoding
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.len() == HEADER_BYTES_MAX
    }

    /// Bytes of payload so far.
    pub fn len(&self) -> usize {
        self.bytes.len() - HEADER_BYTES_MAX
    }

    /// Adds encoded frames that are already joined among themselves.
    pub fn push_encoded(&mut self, frames: &[u8]) {
        self.separate();
        self.bytes.extend_from_slice(frames);
    }

    /// Encodes and adds one frame.
    pub fn push(&mut self, frame: &Frame) {
        self.separate();
        frame.encode(self.encoding, &mut self.bytes);
    }

    /// Takes back what was added after the payload had `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(HEADER_BYTES_MAX + len);
    }

    fn separate(&mut self) {
        if !self.is_empty() {
            self.bytes
                .extend_from_slice(encode::separator(self.encoding));
        }
    }

    /// The room for the header and the payload behind it.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}
