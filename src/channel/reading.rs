//! What readers ask of a channel: frames behind their cursor, where the log goes on elsewhere,
//! and where a client's position stands.
//!
//! Called by `session` for every step. Never changes the log.

use tidewire_protocol::{Encoding, Epoch, Position, command::Mode};

use super::{
    Boundary, Channel, Message, Standing,
    log::{Log, Read, lane},
    segments::Ahead,
};

/// A reader's cursor, as this node names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The life of the log it belongs to.
    pub life: u32,
    /// The segment it is in.
    pub segment: u32,
    /// The last offset given to the reader.
    pub cursor: u64,
}

/// The head of a log, as this node knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalHead {
    /// The life the log is in.
    pub life: u32,
    /// The segment that mints.
    pub segment: u32,
    /// Its epoch and the last offset minted.
    pub position: Position,
}

/// What a reader that was brought a page finds in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// Of the page, what lies after its cursor and up to this offset is for the reader.
    Within(u64),
    /// Its segment ends at or below its cursor.
    Boundary(Boundary),
    /// The page is of another log: one of the two is behind.
    OtherLog,
    /// The log began another life, or forgot the reader's segment; this is its head.
    NewLife(LocalHead),
}

impl Log {
    fn ahead(&self, place: Place) -> Ahead {
        if place.life == self.life {
            self.segments.ahead(place.segment, place.cursor)
        } else {
            Ahead::Unknown
        }
    }
}

impl Channel {
    /// The head.
    pub fn head(&self) -> LocalHead {
        self.log.lock().local_head()
    }

    /// The epoch of the segment a cursor is in. None: the log it was in is gone.
    pub fn epoch_at(&self, place: Place) -> Option<Epoch> {
        let log = self.log.lock();
        let is_known = place.life == log.life;
        is_known
            .then(|| log.segments.epoch_of(place.segment).cloned())
            .flatten()
    }

    /// Judges a client's position. `head` is what the broker answered of late: its last offset
    /// counts where it is of this log, since what was announced may still be on its way.
    pub fn stand(&self, position: &Position, head: &Position) -> Standing {
        let log = self.log.lock();
        let mut reached = log.head;
        if head.epoch == *log.segments.epoch() {
            reached = reached.max(head.offset);
        }
        log.segments.stand(position, reached)
    }

    /// Whether this node's log alone says how a reader at a client's position goes on: it is on the
    /// log, at or below its head, and nothing that only the broker knows (which tombstones were
    /// dropped) can have passed below it. What the log does not know yet reaches such a reader as
    /// it reaches all others: with the next comparison of heads.
    pub fn serves(&self, position: &Position, mode: Mode, encoding: Encoding) -> bool {
        let log = self.log.lock();
        let is_in = matches!(log.segments.stand(position, log.head), Standing::In { .. });
        is_in
            && match mode {
                Mode::Every => true,
                Mode::Latest => log.compacted[lane(encoding)]
                    .as_ref()
                    .is_some_and(|view| view.complete_above() <= position.offset),
            }
    }

    /// What a reader does with a page whose head is of `epoch`, in one look at the log.
    pub fn look(&self, place: Place, epoch: &Epoch) -> Look {
        let log = self.log.lock();
        let is_its_page = log.segments.epoch() == epoch;
        match log.ahead(place) {
            Ahead::Unknown => Look::NewLife(log.local_head()),
            Ahead::Boundary(boundary) => Look::Boundary(boundary),
            Ahead::Within(end) if is_its_page => Look::Within(end),
            Ahead::Within(_) => Look::OtherLog,
        }
    }

    /// Adds frames after the cursor to the message, at most `bytes_max` of them; one frame larger
    /// than that is added alone to a message that is empty. Never crosses the end of a segment.
    pub fn read(&self, mode: Mode, place: Place, out: &mut Message, bytes_max: usize) -> Read {
        let log = self.log.lock();
        // Before the head is looked at: a log that lost its end has it below the cursor.
        let end = match log.ahead(place) {
            Ahead::Within(end) => end,
            Ahead::Boundary(boundary) => return Read::Boundary(boundary),
            Ahead::Unknown => return Read::NewLife(log.local_head()),
        };
        let cursor = place.cursor;
        if cursor >= log.head {
            return Read::AtHead;
        }
        let at = lane(out.encoding());
        match mode {
            Mode::Every => log.read_tail(at, (cursor, end), out, bytes_max, self.keeps_history),
            Mode::Latest => log.read_compacted(at, (cursor, end), out, bytes_max),
        }
    }
}
