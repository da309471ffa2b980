//! Ready frames of consecutive publications, contiguous in memory.
//!
//! The tail of a channel and a page of its history are the same thing here: bytes that can be
//! copied to a socket as they are, with an index from offset to byte. Never parses a frame.

use std::collections::VecDeque;

use tidewire_protocol::{ChannelName, Encoding, encode, frame::Publication};

/// Encoded `msg` frames of the offsets `first ..= last`, each followed by the separator.
#[derive(Debug)]
pub struct Frames {
    encoding: Encoding,
    /// Offset of the first frame held; the next one to append when empty.
    first: u64,
    /// Where each frame ends, counted from the birth of this value, separator included.
    ends: VecDeque<u64>,
    /// Where the bytes in `bytes[start..]` begin, in the same count.
    base: u64,
    start: usize,
    bytes: Vec<u8>,
}

/// A run of whole frames found for a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run<'a> {
    /// The frames joined by the encoding's separator, none at the end.
    pub bytes: &'a [u8],
    /// Offset of the last frame of the run.
    pub last: u64,
}

impl Frames {
    /// An empty run whose first frame will have the offset `first`.
    pub fn new(encoding: Encoding, first: u64) -> Self {
        Self {
            encoding,
            first,
            ends: VecDeque::new(),
            base: 0,
            start: 0,
            bytes: Vec::new(),
        }
    }

    /// Offset of the first frame held; the next to come when there is none.
    pub const fn first(&self) -> u64 {
        self.first
    }

    /// The offset the next frame must have.
    pub fn next(&self) -> u64 {
        self.first + self.ends.len() as u64
    }

    /// Bytes of frames held.
    pub fn len_bytes(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Encodes and appends the next publication.
    pub fn push(&mut self, channel: &ChannelName, publication: &Publication) {
        assert_eq!(
            publication.offset,
            self.next(),
            "frames hold consecutive offsets"
        );
        encode::msg(self.encoding, channel, publication, &mut self.bytes);
        self.bytes
            .extend_from_slice(encode::separator(self.encoding));
        self.ends.push_back(self.base + self.len_bytes() as u64);
    }

    /// The bytes of the frame at `offset`, without separator.
    pub fn frame(&self, offset: u64) -> Option<&[u8]> {
        let run = self.run(offset.checked_sub(1)?, offset, 1)?;
        (run.last == offset).then_some(run.bytes)
    }

    /// Drops the oldest frames until at most `bytes_max` remain; the newest frame always stays.
    pub fn trim(&mut self, bytes_max: usize) {
        while self.len_bytes() > bytes_max && self.ends.len() > 1 {
            self.drop_first();
        }
        self.compact();
    }

    /// Drops every frame; the next to come stays the same.
    pub fn clear(&mut self) {
        self.first = self.next();
        self.ends = VecDeque::new();
        self.bytes = Vec::new();
        self.start = 0;
        self.base = 0;
    }

    /// Drops the frames up to and including `offset`.
    pub fn drop_through(&mut self, offset: u64) {
        while self.first <= offset && !self.ends.is_empty() {
            self.drop_first();
        }
        self.compact();
    }

    fn drop_first(&mut self) {
        if let Some(end) = self.ends.pop_front() {
            self.start += usize::try_from(end - self.base).unwrap_or(usize::MAX);
            self.base = end;
            self.first += 1;
        }
    }

    /// Moves the bytes to the front once half of the buffer is dead: each byte moves once on
    /// average, and every run stays one slice.
    fn compact(&mut self) {
        if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }

    /// The frames after `cursor` up to `end`, at least one and as many more as fit into
    /// `bytes_max`. None: nothing of it is held, or the cursor's successor is not.
    pub fn run(&self, cursor: u64, end: u64, bytes_max: usize) -> Option<Run<'_>> {
        let index = usize::try_from((cursor + 1).checked_sub(self.first)?).ok()?;
        if index >= self.ends.len() || cursor >= end {
            return None;
        }
        let from = if index == 0 {
            self.base
        } else {
            self.ends[index - 1]
        };
        let limit = from + bytes_max as u64;
        let last = if *self.ends.back()? <= limit {
            self.ends.len() - 1
        } else {
            self.ends
                .partition_point(|end| *end <= limit)
                .saturating_sub(1)
                .max(index)
        };
        let last = last.min(usize::try_from(end - self.first).unwrap_or(usize::MAX));
        let at = |end: u64| self.start + usize::try_from(end - self.base).unwrap_or(usize::MAX);
        let separator = encode::separator(self.encoding).len();
        Some(Run {
            bytes: &self.bytes[at(from)..at(self.ends[last]) - separator],
            last: self.first + last as u64,
        })
    }
}
