//! One channel as this client holds it: the cursor, and what each frame does to it.
//!
//! A frame goes in, one step comes out, and the cursor has moved before the step is seen. It never
//! lets a publication through twice, nor skips one in mode `every` without saying so.

use tidewire_protocol::{Epoch, Position, command::Mode, frame::Recovery};

use crate::event::GapReason;

/// What a frame comes to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// Nothing the application has to know.
    Nothing,
    /// A delivery began.
    Begun {
        recovery: Recovery,
        /// The cursor went on from where it was.
        kept: bool,
    },
    /// The publication is new.
    Deliver { replayed: bool, skipped: u64 },
    /// Publications that cannot be had. A gap of reason [`GapReason::Missing`] was shown by a
    /// frame that is to be fed once more.
    Gap {
        from: u64,
        to: u64,
        reason: GapReason,
    },
    /// The log lost its end.
    Rewind,
    /// Caught up.
    Live { recovery: Recovery, replayed: u64 },
    /// What comes does not go on from the cursor: subscribe again from there.
    Hole,
}

/// How far a subscription has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not subscribed.
    Closed,
    /// Asked for.
    Opening,
    /// Answered, catching up.
    Replaying,
    /// Caught up.
    Live,
}

/// The cursor of one channel.
#[derive(Debug)]
pub(crate) struct ChannelLog {
    pub(crate) phase: Phase,
    /// The last publication taken, or where delivery began.
    pub(crate) cursor: Option<Position>,
    recovery: Recovery,
    mode: Mode,
    asked_mode: Mode,
    /// The epoch of the position that was asked for.
    asked_epoch: Option<Epoch>,
    /// Requests to subscribe that the node has not answered: an earlier answer is not ours.
    unanswered: u32,
    replayed: u64,
    /// The cursor at which a hole was seen: the same hole twice is a gap, so that a faulty node
    /// cannot make us loop.
    hole_at: Option<u64>,
    /// What comes does not go on from the cursor: nothing is taken until the node answers from
    /// there.
    astray: bool,
}

impl ChannelLog {
    /// Begins after `cursor`, if there is one.
    pub(crate) const fn new(cursor: Option<Position>) -> Self {
        Self {
            phase: Phase::Closed,
            cursor,
            recovery: Recovery::Fresh,
            mode: Mode::Every,
            asked_mode: Mode::Every,
            asked_epoch: None,
            unanswered: 0,
            replayed: 0,
            hole_at: None,
            astray: false,
        }
    }

    /// A `sub`, or an entry of a hello, was sent that named a position of this
    /// epoch; none: no position.
    pub(crate) fn opening(&mut self, mode: Mode, epoch: Option<Epoch>) {
        // What comes before the answer goes on from where another request, or none, had led.
        self.astray |= self.phase == Phase::Closed;
        self.phase = Phase::Opening;
        self.asked_mode = mode;
        self.asked_epoch = epoch;
        self.unanswered += 1;
    }

    /// The connection ended: nothing sent on it will be answered. The cursor stays.
    pub(crate) const fn lost(&mut self) {
        self.phase = Phase::Closed;
        self.unanswered = 0;
        self.astray = false;
    }

    /// Takes nothing until what is asked from `cursor` is answered. Answers under way may still come.
    pub(crate) fn close(&mut self, cursor: Option<Position>) {
        self.phase = Phase::Closed;
        self.cursor = cursor;
    }

    /// A request was refused, or the subscription withdrawn. False where that answers a request
    /// given up since.
    pub(crate) fn refused(&mut self) -> bool {
        self.unanswered = self.unanswered.saturating_sub(1);
        let ours = self.phase != Phase::Closed && self.unanswered == 0;
        if ours {
            self.phase = Phase::Closed;
        }
        ours
    }

    /// A subscription began, asked for or (`reset` under a living reader) not.
    pub(crate) fn begun(&mut self, position: Position, recovery: Recovery) -> Step {
        self.unanswered = self.unanswered.saturating_sub(1);
        if self.phase == Phase::Closed || self.unanswered > 0 {
            return Step::Nothing;
        }
        self.astray = self.was_overtaken(&position.epoch, recovery);
        if self.astray {
            self.phase = Phase::Replaying;
            return Step::Hole;
        }
        let same = |cursor: &Position| cursor.epoch == position.epoch;
        let kept = recovery == Recovery::Full && self.cursor.as_ref().is_some_and(same);
        if !kept {
            self.cursor = Some(position);
            self.hole_at = None;
        }
        self.phase = Phase::Replaying;
        self.mode = self.asked_mode;
        self.recovery = recovery;
        self.replayed = 0;
        Step::Begun { recovery, kept }
    }

    /// Whether this beginning is of another epoch than the cursor, or of no position though there
    /// is a cursor: an older connection gave it after this one had asked.
    fn was_overtaken(&self, epoch: &Epoch, recovery: Recovery) -> bool {
        let Some(cursor) = &self.cursor else {
            return false;
        };
        let asked = self.asked_epoch.as_ref();
        recovery != Recovery::Reset
            && asked.is_none_or(|asked| asked == epoch && cursor.epoch != *epoch)
    }

    /// A publication at `offset`.
    pub(crate) fn message(&mut self, offset: u64) -> Step {
        let Some(cursor) = self.followed() else {
            return Step::Nothing;
        };
        if offset <= cursor {
            return Step::Nothing;
        }
        let skipped = offset - cursor - 1;
        if skipped > 0 && self.mode == Mode::Every {
            return self.hole(cursor, offset - 1);
        }
        self.advance(offset);
        let replayed = self.phase != Phase::Live;
        if replayed {
            self.replayed += 1;
        }
        Step::Deliver { replayed, skipped }
    }

    /// The node says that `from` to `to` cannot be had.
    pub(crate) fn gap(&mut self, from: u64, to: u64, reason: GapReason) -> Step {
        let Some(cursor) = self.followed() else {
            return Step::Nothing;
        };
        if to <= cursor {
            return Step::Nothing;
        }
        if from > cursor + 1 && self.mode == Mode::Every {
            return self.hole(cursor, from - 1);
        }
        self.skip(cursor, to, reason)
    }

    /// The log goes on after `to` under another epoch, without the last `lost` of what the node
    /// served.
    pub(crate) fn rewind(&mut self, epoch: &Epoch, to: u64, lost: u64) -> Step {
        let held = self.cursor.as_ref().map(|cursor| &cursor.epoch);
        let Some(cursor) = self.followed().filter(|_| held != Some(epoch)) else {
            return Step::Nothing;
        };
        if to > cursor && self.mode == Mode::Every {
            return self.hole(cursor, to);
        }
        // It served less than an older connection gave: it knows nothing of what goes with that.
        if cursor.saturating_sub(to) > lost && self.hole_at != Some(cursor) {
            return self.ask_again(cursor);
        }
        self.cursor = Some(Position {
            epoch: epoch.clone(),
            offset: to,
        });
        self.hole_at = None;
        Step::Rewind
    }

    /// The node has sent everything up to `offset`.
    pub(crate) fn live(&mut self, offset: u64) -> Step {
        let Some(cursor) = self.followed().filter(|_| self.phase == Phase::Replaying) else {
            return Step::Nothing;
        };
        if offset > cursor {
            if self.mode == Mode::Every {
                return self.hole(cursor, offset);
            }
            self.advance(offset);
        }
        self.phase = Phase::Live;
        Step::Live {
            recovery: self.recovery,
            replayed: self.replayed,
        }
    }

    /// Whether a delivery has begun that goes on from the cursor.
    pub(crate) const fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Replaying | Phase::Live) && !self.astray
    }

    /// The cursor's offset, where frames are taken.
    fn followed(&self) -> Option<u64> {
        let cursor = self.cursor.as_ref().map(|cursor| cursor.offset);
        cursor.filter(|_| self.phase != Phase::Closed && !self.astray)
    }

    fn hole(&mut self, cursor: u64, to: u64) -> Step {
        if self.hole_at == Some(cursor) && self.phase != Phase::Opening {
            return self.skip(cursor, to, GapReason::Missing);
        }
        self.ask_again(cursor)
    }

    fn ask_again(&mut self, cursor: u64) -> Step {
        self.astray = true;
        if self.phase == Phase::Opening {
            // The answer under way explains it, or will.
            return Step::Nothing;
        }
        self.hole_at = Some(cursor);
        Step::Hole
    }

    fn skip(&mut self, cursor: u64, to: u64, reason: GapReason) -> Step {
        self.advance(to);
        Step::Gap {
            from: cursor + 1,
            to,
            reason,
        }
    }

    fn advance(&mut self, to: u64) {
        if let Some(cursor) = &mut self.cursor {
            cursor.offset = to;
        }
    }
}
