//! One subscription's part of a message: what is put into it, and where the cursor then stands.
//!
//! A step is planned while the message is built and takes effect only when the message leaves:
//! whoever drives a connection then moves the subscription to it. PURE: counts nothing. Marks (`gap`, `live`, a new life) are made here, in their place between frames.

use tidewire_protocol::{
    Epoch, Frame, Position,
    command::{Fallback, Mode},
    frame::{GapReason, Recovery},
};

use super::{Phase, Progress, Sub};
use crate::channel::{Boundary, LocalHead, Message, Read};

/// Most looks of one read: a new life, a few boundaries, a gap, the frames, the mark.
const LOOKS_MAX: usize = 8;

/// What a subscription does if the message leaves.
#[derive(Debug)]
pub struct Step {
    pub slot: u8,
    pub progress: Progress,
    /// Publications in the message.
    pub delivered: u64,
    /// Whether nothing was left to read: the subscription's rate (`hz`) counts from here.
    pub at_head: bool,
    /// Why a gap is in it.
    pub gap: Option<GapReason>,
    /// The lowest offset the client goes back to: nothing above is acknowledged any more.
    kept: u64,
}

/// What is left of a subscription after it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Nothing: it is at the head.
    Done,
    /// More than fitted.
    More,
    /// Pages of history or state.
    Behind,
}

impl Step {
    /// A step that goes nowhere yet.
    pub const fn at(slot: u8, sub: &Sub) -> Self {
        Self {
            slot,
            progress: sub.progress,
            delivered: 0,
            at_head: false,
            gap: None,
            kept: u64::MAX,
        }
    }

    /// The message left: the subscription is where it leads.
    pub fn take_effect(&self, sub: &mut Sub) {
        sub.move_to(self.progress);
        sub.floor = sub.floor.min(self.kept);
    }

    /// Whether it takes back something the client had seen.
    pub const fn takes_back(&self, before: &Sub) -> bool {
        self.kept < before.progress.cursor
    }

    /// Reads a subscription into the message, at most `bytes_max` of frames.
    pub fn read(slot: u8, sub: &Sub, message: &mut Message, bytes_max: usize) -> (Self, End) {
        let mut step = Self::at(slot, sub);
        for _ in 0..LOOKS_MAX {
            if matches!(step.progress.phase, Phase::Snapshot { .. }) {
                return (step, End::Behind);
            }
            let place = step.progress.place();
            match sub.channel.read(sub.wishes.mode, place, message, bytes_max) {
                Read::Copied {
                    cursor,
                    count,
                    at_head,
                    left_out,
                } => {
                    step.advance(cursor, count);
                    step.leave_out(left_out);
                    if !at_head {
                        return (step, End::More);
                    }
                    step.catch_up(sub, message);
                    return (step, End::Done);
                }
                Read::AtHead => {
                    step.catch_up(sub, message);
                    return (step, End::Done);
                }
                Read::Full => return (step, End::More),
                Read::Behind => return (step, End::Behind),
                Read::Gap { to, reason } => step.pass_gap(sub, to, reason, message),
                Read::Boundary(boundary) => step.cross(sub, boundary, message),
                Read::NewLife(head) => step.begin_life(sub, head, message),
            }
        }
        (step, End::More)
    }

    /// Moves over publications that are in the message.
    pub fn advance(&mut self, cursor: u64, count: u64) {
        self.progress.cursor = cursor;
        self.delivered += count;
        if self.progress.phase == Phase::Replay {
            self.progress.replayed += count;
        }
    }

    /// Notes that values were left out for newer ones up to an offset.
    pub const fn leave_out(&mut self, upto: u64) {
        if upto > self.progress.left_out {
            self.progress.left_out = upto;
        }
    }

    /// At the head: `live` ends a replay.
    fn catch_up(&mut self, sub: &Sub, message: &mut Message) {
        self.at_head = true;
        if self.progress.phase == Phase::Replay {
            self.progress.phase = Phase::Live;
            message.push(&Frame::Live {
                channel: sub.channel.name().clone(),
                offset: self.progress.cursor,
                replayed: self.progress.replayed,
            });
        }
    }

    /// Tells that publications up to `to` are gone; what was joined to the position follows.
    pub fn pass_gap(&mut self, sub: &Sub, to: u64, reason: GapReason, message: &mut Message) {
        message.push(&Frame::Gap {
            channel: sub.channel.name().clone(),
            from: self.progress.cursor + 1,
            to,
            reason,
        });
        self.gap = Some(reason);
        self.progress.cursor = to;
        if sub.wishes.fallback == Fallback::State {
            self.begin_snapshot();
        }
    }

    /// A snapshot of what the cursor stands on follows, then a replay.
    const fn begin_snapshot(&mut self) {
        if matches!(self.progress.phase, Phase::Live) {
            self.progress.replayed = 0;
        }
        self.progress.phase = Phase::Snapshot { from: 1 };
    }

    /// Goes on in another segment, and tells how much of what the client had seen is not in it.
    /// Values that the client holds may be among that, or those may be for which others were left
    /// out: where it holds any, it gets them anew.
    pub fn cross(&mut self, sub: &Sub, boundary: Boundary, message: &mut Message) {
        let Boundary { segment, epoch, to } = boundary;
        let lost = self.progress.cursor.saturating_sub(to);
        message.push(&Frame::Rewind {
            channel: sub.channel.name().clone(),
            epoch,
            to,
            lost,
        });
        (self.progress.segment, self.progress.cursor) = (segment, to);
        self.kept = self.kept.min(to);
        if lost == 0 && self.progress.left_out <= to {
            return;
        }
        self.progress.left_out = to;
        let holds_state = sub.wishes.fallback == Fallback::State
            || matches!(self.progress.phase, Phase::Snapshot { .. });
        match sub.wishes.mode {
            Mode::Latest => self.start_over_at(sub, sub.channel.head(), message),
            Mode::Every if holds_state => self.begin_snapshot(),
            Mode::Every => {}
        }
    }

    /// Starts over with the whole state at a head.
    pub fn start_over_at(&mut self, sub: &Sub, head: LocalHead, message: &mut Message) {
        let offset = head.position.offset;
        let next = Progress {
            life: head.life,
            segment: head.segment,
            cursor: offset,
            left_out: offset,
            begun: offset,
            phase: Phase::Snapshot { from: 1 },
            replayed: 0,
        };
        self.start_over(sub, head.position.epoch, next, message);
    }

    /// Tells that the log began another life, and starts over with what was joined to the
    /// position: its state, its last publications, or nothing that came before.
    pub fn begin_life(&mut self, sub: &Sub, head: LocalHead, message: &mut Message) {
        let position = head.position;
        let (cursor, phase) = match sub.wishes.fallback {
            Fallback::Now => (position.offset, Phase::Replay),
            Fallback::State => (position.offset, Phase::Snapshot { from: 1 }),
            Fallback::Last(n) => (position.offset.saturating_sub(u64::from(n)), Phase::Replay),
        };
        let next = Progress {
            life: head.life,
            segment: head.segment,
            cursor,
            left_out: cursor,
            begun: cursor,
            phase,
            replayed: 0,
        };
        self.start_over(sub, position.epoch, next, message);
    }

    /// Tells that delivery starts over at `next`.
    fn start_over(&mut self, sub: &Sub, epoch: Epoch, next: Progress, message: &mut Message) {
        self.progress = next;
        self.kept = u64::MAX;
        message.push(&Frame::Subscribed {
            i: None,
            channel: sub.channel.name().clone(),
            position: Position {
                epoch,
                offset: next.cursor,
            },
            recovery: Recovery::Reset,
        });
    }
}
