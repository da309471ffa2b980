//! One life after another of a channel's log, as this node holds it: head, tail, compacted view.
//!
//! Plain data behind the channel's lock; never locks, marks or counts anything itself.

use std::sync::atomic::{AtomicU64, Ordering};

use tidewire_protocol::{
    ChannelName, Encoding, Epoch, Position,
    frame::{GapReason, Publication},
};

use super::{
    Frames, LocalHead, Message, Settled,
    compacted::Compacted,
    segments::{Boundary, Segments},
};
use crate::broker::{Head, lineage::Parts};

#[derive(Debug)]
pub struct Log {
    pub phase: Phase,
    /// Counts the epochs seen by this node: a cursor of another life is void.
    pub life: u32,
    pub segments: Segments,
    pub head: u64,
    /// Names what is stored of the log: another one once an entry of it was rewritten.
    pub version: u64,
    pub tails: [Option<Frames>; 2],
    pub compacted: [Option<Compacted>; 2],
}

#[derive(Debug)]
pub enum Phase {
    /// Interest was declared; where the log stood by the last announcement since. Nobody reads
    /// yet and so no tail exists: what was announced is read from history.
    Cutting(Option<Position>),
    Live,
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
        /// Whether the log ends there, and nothing is to be told of that.
        at_head: bool,
        /// Values were left out for newer ones, up to this offset, that are not among the frames.
        left_out: u64,
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
    /// The cursor is at or beyond the end of its segment: it is to go on from there.
    Boundary(Boundary),
    /// The log began another life, or forgot the cursor's segment; this is its head.
    NewLife(LocalHead),
}

/// How a publication of another epoch continues a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continues {
    /// As the first of the generation that follows.
    AsNext,
    /// Not at all: a generation before the log's announced it.
    Stale,
    /// The broker must be asked.
    Unclear,
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
            epoch: self.segments.epoch().clone(),
            offset: self.head,
        }
    }

    pub fn local_head(&self) -> LocalHead {
        LocalHead {
            life: self.life,
            segment: self.segments.number(),
            position: self.position(),
        }
    }

    /// Begins with what the broker says of the log.
    pub fn begin(&mut self, head: &Head) {
        self.segments.begin(&head.lineage);
        self.move_head(head.position.offset);
    }

    /// Moves the head; what is read next begins behind it.
    pub fn move_head(&mut self, head: u64) {
        self.head = head;
        for (at, encoding) in ENCODINGS.into_iter().enumerate() {
            if self.tails[at].is_some() {
                self.tails[at] = Some(Frames::new(encoding, self.head + 1));
            }
            if self.compacted[at].is_some() {
                self.compacted[at] = Some(Compacted::new(self.head));
            }
        }
    }

    /// Takes over what a comparison of heads found. The answer may be older than the log.
    pub fn settle(&mut self, head: &Head) -> Settled {
        let (epoch, offset) = (&head.position.epoch, head.position.offset);
        if epoch == self.segments.epoch() {
            if offset <= self.head {
                return Settled::Same;
            }
            self.move_head(offset);
            return Settled::Moved;
        }
        let (theirs, ours) = (Parts::of(epoch), Parts::of(self.segments.epoch()));
        if theirs.life != ours.life {
            return self.replace(head);
        }
        if ours.is_newer_than(&theirs) {
            return Settled::Unsure;
        }
        self.merge(head)
    }

    /// Begins another life.
    fn replace(&mut self, head: &Head) -> Settled {
        self.life += 1;
        self.begin(head);
        self.version = next_version();
        Settled::Replaced
    }

    /// Goes on in another generation of the same life. Frames stay where all of them are on the
    /// surviving log and nothing else is.
    fn merge(&mut self, head: &Head) -> Settled {
        let (segment, reached) = (self.segments.number(), self.head);
        let offset = head.position.offset;
        self.segments.merge(&head.lineage, offset);
        let shared = self.segments.end_of_segment(segment, offset);
        let is_whole = shared.is_some_and(|shared| shared >= reached);
        if !is_whole || offset != reached {
            self.move_head(offset);
        }
        self.version = next_version();
        Settled::Forked { is_whole }
    }

    /// Takes over the head of an older generation: whoever answers with it for so long is the
    /// primary that there is.
    pub fn adopt(&mut self, head: &Head) -> Settled {
        let (theirs, ours) = (
            Parts::of(&head.position.epoch),
            Parts::of(self.segments.epoch()),
        );
        if theirs.life == ours.life && theirs.generation != ours.generation {
            self.merge(head)
        } else {
            self.settle(head)
        }
    }

    /// How an announced publication of another epoch than the head's continues the log.
    pub fn continues(&self, epoch: &Epoch, offset: u64) -> Continues {
        let (theirs, ours) = (Parts::of(epoch), Parts::of(self.segments.epoch()));
        if theirs.life != ours.life {
            Continues::Unclear
        } else if ours.is_newer_than(&theirs) {
            Continues::Stale
        } else if theirs.is_newer_than(&ours)
            && theirs.previous == ours.generation
            && theirs.start == offset
            && offset == self.head + 1
        {
            Continues::AsNext
        } else {
            Continues::Unclear
        }
    }

    /// The next generation mints from here on; nothing was lost.
    pub fn extend(&mut self, epoch: &Epoch) {
        self.segments.extend(epoch, self.head + 1);
        self.version = next_version();
    }

    /// Appends what comes after the head. A hole moves the beginning of the tail behind it.
    /// False: the frames held would not be consecutive; nothing was appended.
    pub fn append(
        &mut self,
        name: &ChannelName,
        publication: &Publication,
        tail_bytes: usize,
    ) -> bool {
        let whole = publication.offset == self.head + 1;
        let is_dense = |tail: &Frames| !whole || tail.next() == publication.offset;
        if publication.offset <= self.head || !self.tails.iter().flatten().all(is_dense) {
            return false;
        }
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
        true
    }

    /// Reads on from a cursor in a segment that ends at `end`.
    pub fn read_tail(
        &self,
        at: usize,
        (cursor, end): (u64, u64),
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
                to: end.min(tail.first() - 1),
                reason: GapReason::NotKept,
            };
        }
        let Some(run) = tail.run(cursor, end, bytes_max) else {
            return Read::AtHead;
        };
        if run.bytes.len() > bytes_max && !out.is_empty() {
            return Read::Full;
        }
        out.push_encoded(run.bytes);
        Read::Copied {
            cursor: run.last,
            count: run.last - cursor,
            at_head: run.last == self.head && run.last < end,
            left_out: 0,
        }
    }

    /// Reads on from a cursor in a segment that ends at `end`: the newest of each key up to there.
    pub fn read_compacted(
        &self,
        at: usize,
        (cursor, end): (u64, u64),
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
            if offset > end {
                break;
            }
            if !out.is_empty() && out.len() - begin + frame.len() > bytes_max {
                return if count == 0 {
                    Read::Full
                } else {
                    Read::Copied {
                        cursor: reached,
                        count,
                        at_head: false,
                        left_out: self.head,
                    }
                };
            }
            out.push_encoded(frame);
            (reached, count) = (offset, count + 1);
        }
        Read::Copied {
            cursor: end.min(self.head),
            count,
            at_head: self.head < end,
            left_out: self.head,
        }
    }
}
