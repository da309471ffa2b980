//! One life after another of a channel's log, as this node holds it: head, tail, compacted view.
//!
//! Plain data behind the channel's lock; never locks, marks or counts anything itself.

use std::sync::atomic::{AtomicU64, Ordering};

use tidewire_protocol::{
    ChannelName, Encoding, Epoch, Position,
    frame::{GapReason, Publication},
};

use super::{Frames, LocalHead, Message, compacted::Compacted};

#[derive(Debug)]
pub struct Log {
    pub phase: Phase,
    /// Counts the epochs seen by this node: a cursor of another life is void.
    pub life: u32,
    pub epoch: Epoch,
    /// The number of the segment that mints.
    pub segment: u32,
    pub head: u64,
    pub head_ts: u64,
    /// Names what is stored of the log: another one once an entry of it was rewritten.
    pub version: u64,
    pub tails: [Option<Frames>; 2],
    pub compacted: [Option<Compacted>; 2],
}

#[derive(Debug)]
pub enum Phase {
    /// Interest was declared; where the log stood by the last announcement since. Nobody reads
    /// yet and so no tail exists: what was announced is read from history.
    Cutting(Option<Announced>),
    Live,
}

#[derive(Debug)]
pub struct Announced {
    pub position: Position,
    pub ts: u64,
}

/// What a reader finds at its cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// Frames were copied; the cursor is to move to `cursor`.
    Copied {
        /// The offset reached.
        cursor: u64,
        /// How many frames.
        count: u64,
        /// Whether the log ends there.
        at_head: bool,
    },
    /// The cursor is the head.
    AtHead,
    /// The next frame did not fit; nothing was copied.
    Full,
    /// The tail begins after the cursor: read on from history (mode `latest`: from state).
    Behind,
    /// The tail begins after the cursor and there is no history: this range is gone.
    Gap {
        /// Last offset gone.
        to: u64,
        /// Why.
        reason: GapReason,
    },
    /// The log began another life, which has this head.
    NewLife(LocalHead),
}

/// Versions drawn by this process; one is never drawn twice.
static VERSIONS: AtomicU64 = AtomicU64::new(0);

pub fn next_version() -> u64 {
    VERSIONS.fetch_add(1, Ordering::Relaxed)
}

pub const fn lane(encoding: Encoding) -> usize {
    match encoding {
        Encoding::Json => 0,
        Encoding::MessagePack => 1,
    }
}

/// Both encodings, in the order of their lanes.
pub const ENCODINGS: [Encoding; 2] = [Encoding::Json, Encoding::MessagePack];

impl Log {
    pub fn position(&self) -> Position {
        Position {
            epoch: self.epoch.clone(),
            offset: self.head,
        }
    }

    pub fn local_head(&self) -> LocalHead {
        LocalHead {
            life: self.life,
            segment: self.segment,
            position: self.position(),
        }
    }

    pub fn begin(&mut self, head: &Position) {
        self.epoch = head.epoch.clone();
        self.head = head.offset;
        for (at, encoding) in ENCODINGS.into_iter().enumerate() {
            if self.tails[at].is_some() {
                self.tails[at] = Some(Frames::new(encoding, self.head + 1));
            }
            if self.compacted[at].is_some() {
                self.compacted[at] = Some(Compacted::new(self.head));
            }
        }
    }

    pub fn append(&mut self, name: &ChannelName, publication: &Publication, tail_bytes: usize) {
        if publication.offset <= self.head {
            return;
        }
        let whole = publication.offset == self.head + 1;
        for (at, encoding) in ENCODINGS.into_iter().enumerate() {
            let Some(tail) = &mut self.tails[at] else {
                continue;
            };
            if !whole {
                *tail = Frames::new(encoding, publication.offset);
            }
            tail.push(name, publication);
            tail.trim(tail_bytes);
            if let Some(compacted) = &mut self.compacted[at] {
                if !whole {
                    *compacted = Compacted::new(publication.offset - 1);
                }
                if let Some(frame) = tail.frame(publication.offset) {
                    compacted.push(
                        publication.offset,
                        publication.key.as_ref(),
                        frame,
                        tail_bytes,
                    );
                }
            }
        }
        self.head = publication.offset;
        self.head_ts = publication.ts;
    }

    pub fn read_tail(
        &self,
        at: usize,
        cursor: u64,
        out: &mut Message,
        bytes_max: usize,
        keeps_history: bool,
    ) -> Read {
        let Some(tail) = &self.tails[at] else {
            return Read::Behind;
        };
        if cursor + 1 < tail.first() {
            if keeps_history {
                return Read::Behind;
            }
            return Read::Gap {
                to: tail.first() - 1,
                reason: GapReason::NotKept,
            };
        }
        let Some(run) = tail.run(cursor, bytes_max) else {
            return Read::AtHead;
        };
        if run.bytes.len() > bytes_max && !out.is_empty() {
            return Read::Full;
        }
        out.push_encoded(run.bytes);
        Read::Copied {
            cursor: run.last,
            count: run.last - cursor,
            at_head: run.last == self.head,
        }
    }

    pub fn read_compacted(
        &self,
        at: usize,
        cursor: u64,
        out: &mut Message,
        bytes_max: usize,
    ) -> Read {
        let Some(compacted) = &self.compacted[at] else {
            return Read::Behind;
        };
        if cursor < compacted.complete_above() {
            return Read::Behind;
        }
        let begin = out.len();
        let (mut reached, mut count) = (cursor, 0);
        for (offset, frame) in compacted.after(cursor) {
            if !out.is_empty() && out.len() - begin + frame.len() > bytes_max {
                return if count == 0 {
                    Read::Full
                } else {
                    Read::Copied {
                        cursor: reached,
                        count,
                        at_head: false,
                    }
                };
            }
            out.push_encoded(frame);
            (reached, count) = (offset, count + 1);
        }
        Read::Copied {
            cursor: self.head,
            count,
            at_head: true,
        }
    }
}
