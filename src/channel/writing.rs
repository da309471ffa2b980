//! What the feed does to a channel: the first head, what is announced, and what a comparison of
//! heads found.
//!
//! Called by `feed` alone. Never asks the broker: what does not continue the log is a doubt, and
//! the answer comes back through `settle`.

use std::sync::{Arc, atomic::Ordering};

use tidewire_protocol::{Epoch, Position, frame::Publication};

use super::{
    Channel,
    compacted::Compacted,
    log::{Continues, Phase, next_version},
};
use crate::broker::{Head, lineage::Parts};

/// What became of an announced publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// The log holds it.
    Added {
        /// The channel was clean: whoever appended owes it a `mark_readers`.
        owes_mark: bool,
        /// Publications before it were not announced; readers fetch them from history.
        hole: bool,
    },
    /// It was known, or a generation before the log's announced it.
    Dropped,
    /// It does not continue the log: heads are to be compared.
    Doubted,
    /// The frames held would not have been consecutive: a defect of the hub.
    Refused,
}

/// What a comparison of heads came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// The log is as it was.
    Same,
    /// It had grown: what is missing is read from history.
    Moved,
    /// It goes on in another generation.
    Forked {
        /// All that this node held of it is on the surviving log.
        is_whole: bool,
    },
    /// It began another life.
    Replaced,
    /// The answer may be older than what this node knows: the broker is to be asked again.
    Unsure,
}

impl Settled {
    /// Whether readers have something to look at.
    pub const fn changed(self) -> bool {
        match self {
            Self::Moved | Self::Forked { .. } | Self::Replaced => true,
            Self::Same | Self::Unsure => false,
        }
    }
}

impl Channel {
    /// Sets the head that divides what must be read from what was announced. False: what was
    /// announced meanwhile is of another log; the caller must ask for the head again.
    pub fn cut(&self, head: &Head) -> bool {
        let mut log = self.log.lock();
        let Phase::Cutting(announced) = &mut log.phase else {
            return true;
        };
        let announced = announced.take();
        let same_log = |announced: &Position| announced.epoch == head.position.epoch;
        let is_stale = |announced: &Position| is_older(&announced.epoch, &head.position.epoch);
        if announced
            .as_ref()
            .is_some_and(|announced| !same_log(announced) && !is_stale(announced))
        {
            return false;
        }
        log.phase = Phase::Live;
        log.begin(head);
        if let Some(announced) = announced.filter(same_log)
            && announced.offset > log.head
        {
            log.move_head(announced.offset);
        }
        true
    }

    /// Takes what was announced: the next publication, or the first of the generation that
    /// follows. A hole moves the beginning of the tail behind it.
    pub fn append(&self, epoch: &Epoch, publication: &Arc<Publication>) -> Appended {
        let mut log = self.log.lock();
        if let Phase::Cutting(announced) = &mut log.phase {
            let is_stale = (announced.as_ref()).is_some_and(|last| is_older(epoch, &last.epoch));
            if !is_stale {
                *announced = Some(Position {
                    epoch: epoch.clone(),
                    offset: publication.offset,
                });
            }
            return Appended::Dropped;
        }
        if log.segments.epoch() == epoch {
            if publication.offset <= log.head {
                return Appended::Dropped;
            }
        } else {
            match log.continues(epoch, publication.offset) {
                Continues::AsNext => log.extend(epoch),
                Continues::Stale => return Appended::Dropped,
                Continues::Unclear => return Appended::Doubted,
            }
        }
        let hole = publication.offset > log.head + 1;
        if !log.append(&self.name, publication, self.tail_bytes) {
            return Appended::Refused;
        }
        drop(log);
        Appended::Added {
            owes_mark: self.soil(),
            hole,
        }
    }

    /// Notes that readers have something to look at. True: the caller owes a `mark_readers`.
    fn soil(&self) -> bool {
        !self.dirty.swap(true, Ordering::AcqRel)
    }

    /// The broker announced that the log goes on from this head. True as in `append`.
    pub fn reset(&self, head: &Head) -> (Settled, bool) {
        let mut log = self.log.lock();
        if let Phase::Cutting(announced) = &mut log.phase {
            *announced = Some(head.position.clone());
            return (Settled::Same, false);
        }
        let settled = log.settle(head);
        drop(log);
        (settled, settled.changed() && self.soil())
    }

    /// Takes the answer to a comparison of heads that was begun at `version`. The flag as in
    /// `append`.
    pub fn settle(&self, head: &Head, version: u64) -> (Settled, bool) {
        let mut log = self.log.lock();
        let is_live = matches!(log.phase, Phase::Live);
        // Of two lives nobody can say which is newer; the one begun meanwhile stays.
        let is_current = log.version == version
            || Parts::of(log.segments.epoch()).life == Parts::of(&head.position.epoch).life;
        let settled = if is_live && is_current {
            log.settle(head)
        } else {
            Settled::Unsure
        };
        drop(log);
        (settled, settled.changed() && self.soil())
    }

    /// Takes an answer of an older generation that nothing newer contradicted for long.
    pub fn adopt(&self, head: &Head) -> (Settled, bool) {
        let mut log = self.log.lock();
        let settled = match log.phase {
            Phase::Live => log.adopt(head),
            Phase::Cutting(_) => Settled::Unsure,
        };
        drop(log);
        (settled, settled.changed() && self.soil())
    }

    /// Whether the log is known and has not come to this position.
    pub fn is_short_of(&self, position: &Position) -> bool {
        let log = self.log.lock();
        let (epoch, reached) = (log.segments.epoch(), log.head);
        matches!(log.phase, Phase::Live)
            && if *epoch == position.epoch {
                reached < position.offset
            } else {
                !is_older(&position.epoch, epoch)
            }
    }

    /// Forgets the frames up to an entry that was blanked: history serves the blank.
    pub fn blank(&self, offset: u64) {
        let mut log = self.log.lock();
        log.version = next_version();
        for tail in log.tails.iter_mut().flatten() {
            tail.drop_through(offset);
        }
        for compacted in log.compacted.iter_mut().flatten() {
            compacted.drop_through(offset);
        }
    }

    /// Drops all frames; readers behind the head go to history or state, or meet a gap.
    pub fn evict(&self) {
        let mut log = self.log.lock();
        let head = log.head;
        for tail in log.tails.iter_mut().flatten() {
            tail.clear();
        }
        for compacted in log.compacted.iter_mut().flatten() {
            *compacted = Compacted::new(head);
        }
    }
}

/// Whether an epoch is of a generation before the other's, in the same life.
fn is_older(epoch: &Epoch, than: &Epoch) -> bool {
    let (theirs, ours) = (Parts::of(epoch), Parts::of(than));
    theirs.life == ours.life && ours.is_newer_than(&theirs)
}
