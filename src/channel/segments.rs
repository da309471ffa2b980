//! The generations of one life of a log, as this node knows them: where each ends, and what
//! follows.
//!
//! Plain data inside `log`. Segments are numbered, so that a reader's cursor can name its own;
//! a number is never drawn twice in a life. Never looks at frames.

use tidewire_protocol::{Epoch, Position};

use crate::broker::lineage::{Lineage, Parts, SEGMENTS_MAX};

/// Most segments kept that were cut off: readers in older ones start over.
const CUT_MAX: usize = SEGMENTS_MAX;

/// The place where the log goes on in another segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boundary {
    /// The segment it goes on in.
    pub segment: u32,
    /// Its epoch.
    pub epoch: Epoch,
    /// The last offset both sides share.
    pub to: u64,
}

/// What lies ahead of a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ahead {
    /// Publications of its segment up to this offset; `u64::MAX`: the segment mints.
    Within(u64),
    /// The end of its segment.
    Boundary(Boundary),
    /// The segment is not known: it was forgotten, or never was of this life.
    Unknown,
}

/// Where a client's position stands in this log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// In this segment: a read from there finds all that follows, a rewind among it.
    In {
        /// Its number.
        segment: u32,
    },
    /// In a generation known only by the one it followed: the client goes back to here.
    Beside(Boundary),
    /// In a generation newer than any of this log, which may be that of a primary that was left;
    /// with what the client would go back to, if that is known.
    Newer(Option<Boundary>),
    /// In another life, or at an offset never minted.
    Elsewhere,
}

/// A segment that does not mint.
#[derive(Debug, Clone)]
struct Past {
    number: u32,
    epoch: Epoch,
    start: u64,
    /// The last offset of it that is on the surviving log.
    end: u64,
}

/// The segments of a log.
#[derive(Debug)]
pub struct Segments {
    number: u32,
    epoch: Epoch,
    start: u64,
    /// Those before the one that mints, oldest first; none in a log of one generation.
    survivors: Vec<Past>,
    /// Those that lost their end, oldest first.
    cut: Vec<Past>,
    drawn: u32,
}

impl Segments {
    /// Those of a log that is not known yet.
    pub fn unknown() -> Self {
        Self {
            number: 0,
            epoch: Epoch::unknown(),
            start: 1,
            survivors: Vec::new(),
            cut: Vec::new(),
            drawn: 0,
        }
    }

    /// The segment that mints.
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// The epoch that mints.
    pub const fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    const fn draw(&mut self) -> u32 {
        let number = self.drawn;
        self.drawn = self.drawn.wrapping_add(1);
        number
    }

    fn past(&self) -> impl Iterator<Item = &Past> {
        self.survivors.iter().chain(&self.cut)
    }

    /// The epoch of a segment. None: it is not known.
    pub fn epoch_of(&self, number: u32) -> Option<&Epoch> {
        if number == self.number {
            return Some(&self.epoch);
        }
        let past = self.past().find(|past| past.number == number)?;
        Some(&past.epoch)
    }

    /// What lies ahead of a cursor in a segment.
    pub fn ahead(&self, number: u32, cursor: u64) -> Ahead {
        if number == self.number {
            return Ahead::Within(u64::MAX);
        }
        match self.past().find(|past| past.number == number) {
            Some(past) if cursor < past.end => Ahead::Within(past.end),
            Some(past) => Ahead::Boundary(self.after(past.end)),
            None => Ahead::Unknown,
        }
    }

    /// The boundary behind an offset of the surviving log. Segments that minted nothing are
    /// passed over.
    fn after(&self, to: u64) -> Boundary {
        let past = self.survivors.iter().rev();
        let next = (self.start > to + 1)
            .then(|| past.into_iter().find(|past| past.start <= to + 1))
            .flatten();
        let (segment, epoch) = match next {
            Some(past) => (past.number, past.epoch.clone()),
            None if self.start <= to + 1 => (self.number, self.epoch.clone()),
            // Below the oldest segment that is remembered: it stands for those before it.
            None => {
                let oldest = self.survivors.first();
                oldest.map_or((self.number, self.epoch.clone()), |past| {
                    (past.number, past.epoch.clone())
                })
            }
        };
        Boundary { segment, epoch, to }
    }

    /// Begins another life.
    pub fn begin(&mut self, lineage: &Lineage) {
        *self = Self::unknown();
        self.follow(lineage, &[]);
    }

    /// The generation that mints is followed by another, and nothing was lost.
    pub fn extend(&mut self, epoch: &Epoch, start: u64) {
        let number = self.draw();
        let past = Past {
            number: std::mem::replace(&mut self.number, number),
            epoch: std::mem::replace(&mut self.epoch, epoch.clone()),
            start: std::mem::replace(&mut self.start, start),
            end: start.saturating_sub(1),
        };
        self.survivors.push(past);
        let over = self.survivors.len().saturating_sub(SEGMENTS_MAX - 1);
        self.survivors.drain(..over);
    }

    /// Takes over the lineage of the surviving log, which ends at `head`. Segments that are not
    /// in it are cut where the two part; those that share nothing are forgotten.
    pub fn merge(&mut self, lineage: &Lineage, head: u64) {
        let mut known = std::mem::take(&mut self.survivors);
        known.append(&mut self.cut);
        known.push(Past {
            number: self.number,
            epoch: self.epoch.clone(),
            start: self.start,
            end: 0,
        });
        known.sort_unstable_by_key(|past| past.number);
        self.follow(lineage, &known);
        for mut past in known {
            let is_on_log = past.epoch == self.epoch
                || self.survivors.iter().any(|held| held.number == past.number);
            if is_on_log {
                continue;
            }
            if let Some(shared) = self.shared(&past.epoch, head) {
                past.end = shared;
                self.cut.push(past);
            }
        }
        let over = self.cut.len().saturating_sub(CUT_MAX);
        self.cut.drain(..over);
    }

    /// Makes the lineage the surviving log; what is known of it keeps its number.
    fn follow(&mut self, lineage: &Lineage, known: &[Past]) {
        let segments = lineage.segments();
        for (at, segment) in segments.iter().enumerate() {
            let held = known.iter().find(|past| past.epoch == segment.epoch);
            let number = held.map_or_else(|| self.draw(), |past| past.number);
            match segments.get(at + 1) {
                Some(next) => self.survivors.push(Past {
                    number,
                    epoch: segment.epoch.clone(),
                    start: segment.start,
                    end: next.start.saturating_sub(1),
                }),
                None => {
                    self.number = number;
                    self.epoch = segment.epoch.clone();
                    self.start = segment.start;
                }
            }
        }
    }

    /// The last offset up to which the log of an epoch and this one are the same.
    fn shared(&self, epoch: &Epoch, head: u64) -> Option<u64> {
        let theirs = Parts::of(epoch);
        if theirs.life != Parts::of(&self.epoch).life {
            return None;
        }
        theirs.shared(self.begins_its_life(), |generation| {
            self.end_of(generation, head)
        })
    }

    /// Whether no generation before the oldest was forgotten.
    fn begins_its_life(&self) -> bool {
        let oldest = self.survivors.first();
        let epoch = oldest.map_or(&self.epoch, |past| &past.epoch);
        Parts::of(epoch).previous.is_empty()
    }

    /// The last offset of a segment that is on the surviving log. None: it is not known.
    pub fn end_of_segment(&self, number: u32, head: u64) -> Option<u64> {
        if number == self.number {
            return Some(head);
        }
        let past = self.past().find(|past| past.number == number)?;
        Some(past.end)
    }

    fn end_of(&self, generation: &str, head: u64) -> Option<u64> {
        if Parts::of(&self.epoch).generation == generation {
            return Some(head);
        }
        self.past()
            .find(|past| Parts::of(&past.epoch).generation == generation)
            .map(|past| past.end)
    }

    /// Judges a position by this log, whose last offset is `head`.
    pub fn stand(&self, position: &Position, head: u64) -> Standing {
        if position.epoch == self.epoch {
            return if position.offset <= head {
                let segment = self.number;
                Standing::In { segment }
            } else {
                // What this generation minted does not vanish while it lives.
                Standing::Elsewhere
            };
        }
        if let Some(past) = self.past().find(|past| past.epoch == position.epoch) {
            let segment = past.number;
            return Standing::In { segment };
        }
        // Generations are the primary's: they tell a later one also where the life is another.
        let is_newer = Parts::of(&position.epoch).is_newer_than(&Parts::of(&self.epoch));
        let shared = self.shared(&position.epoch, head);
        let boundary = shared.map(|shared| self.after(shared.min(position.offset)));
        match boundary {
            boundary if is_newer => Standing::Newer(boundary),
            Some(boundary) => Standing::Beside(boundary),
            None => Standing::Elsewhere,
        }
    }
}
