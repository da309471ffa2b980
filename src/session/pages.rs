//! Pages for a subscription that fell behind the tail: which one it needs, and what of it goes
//! into a message.
//!
//! PURE like the rest of `session`; whoever drives a connection reads the page and writes the
//! message. Never moves the subscription: that is for the step that left.

use std::sync::Arc;

use tidewire_protocol::{
    Frame,
    command::Mode,
    frame::{GapReason, StateItem},
};

use super::{Phase, Step, Sub};
use crate::{
    broker::{PageLimit, StatePage, StateQuery},
    channel::{Look, Message, Page},
};

/// Most bytes of history in one write: half of a turn, so that live subscriptions get theirs.
const HISTORY_BYTES_MAX: usize = 32 * 1024;
/// Bounds of one page of state on the wire.
const STATE_LIMIT: PageLimit = PageLimit {
    items: 256,
    bytes: 32 * 1024,
};

/// What a subscription that is behind goes on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The page of history with what comes after this offset.
    History {
        /// The cursor.
        after: u64,
    },
    /// A page of keyed state.
    State(StateQuery),
}

impl Need {
    /// What the subscription needs as it is.
    pub const fn of(sub: &Sub) -> Self {
        let (from, catch_up) = match (sub.progress.phase, sub.wishes.mode) {
            (Phase::Snapshot { from }, _) => (from, false),
            (Phase::Replay | Phase::Live, Mode::Latest) => (sub.progress.cursor + 1, true),
            (Phase::Replay | Phase::Live, Mode::Every) => {
                return Self::History {
                    after: sub.progress.cursor,
                };
            }
        };
        Self::State(StateQuery {
            from,
            catch_up,
            limit: STATE_LIMIT,
        })
    }
}

/// What was read for a need.
#[derive(Debug)]
pub enum Loaded {
    /// History, shared by all who need it.
    History(Arc<Page>),
    /// State.
    State(StatePage),
}

/// What a page came to.
#[derive(Debug)]
pub enum Paged {
    /// It is in the message; the step counts once that left.
    Moved(Step),
    /// It brought nothing: it is to be read again after a while.
    Nothing,
    /// It is of another log than the channel's: besides, heads are to be compared.
    OtherLog,
}

/// Puts what was read into the message.
pub fn put(slot: u8, sub: &Sub, loaded: &Loaded, message: &mut Message) -> Paged {
    let mut step = Step::at(slot, sub);
    let epoch = match loaded {
        Loaded::History(page) => &page.head.position.epoch,
        Loaded::State(page) => &page.head.position.epoch,
    };
    let place = step.progress.place();
    let end = match sub.channel.look(place, epoch) {
        Look::Within(end) => end,
        Look::Boundary(boundary) => {
            step.cross(sub, boundary, message);
            return Paged::Moved(step);
        }
        Look::OtherLog => return Paged::OtherLog,
        Look::NewLife(head) => {
            step.begin_life(sub, head, message);
            return Paged::Moved(step);
        }
    };
    match (loaded, step.progress.phase) {
        (Loaded::History(page), _) => history(sub, page, end, &mut step, message),
        (Loaded::State(page), Phase::Snapshot { .. }) => snapshot(sub, page, &mut step, message),
        (Loaded::State(page), Phase::Replay | Phase::Live) => {
            catch_up(sub, page, end, &mut step, message);
        }
    }
    if step.progress == sub.progress {
        Paged::Nothing
    } else {
        Paged::Moved(step)
    }
}

/// Frames of a history page after the cursor; a `gap` for what history dropped before it.
fn history(sub: &Sub, page: &Page, end: u64, step: &mut Step, message: &mut Message) {
    let first = page.first().unwrap_or(page.head.position.offset + 1);
    if first > step.progress.cursor + 1 {
        step.pass_gap(sub, end.min(first - 1), GapReason::Expired, message);
        return;
    }
    let frames = page.frames(sub.channel.name(), message.encoding());
    if let Some(run) = frames.run(step.progress.cursor, end, HISTORY_BYTES_MAX) {
        message.push_encoded(run.bytes);
        step.advance(run.last, run.last - step.progress.cursor);
    }
}

/// A page of a snapshot.
fn snapshot(sub: &Sub, page: &StatePage, step: &mut Step, message: &mut Message) {
    let cut = step.progress.cursor;
    let items: Vec<StateItem> = page
        .items
        .iter()
        .filter(|item| item.publication.offset <= cut)
        .cloned()
        .collect();
    let more = page.more && items.len() == page.items.len();
    step.leave_out(page.head.position.offset);
    step.progress.phase = match items.last() {
        Some(last) if more => Phase::Snapshot {
            from: last.publication.offset + 1,
        },
        Some(_) | None => Phase::Replay,
    };
    message.push(&Frame::State {
        channel: sub.channel.name().clone(),
        items,
        more,
    });
}

/// The newest publications per key above the cursor and up to `end`.
fn catch_up(sub: &Sub, page: &StatePage, end: u64, step: &mut Step, message: &mut Message) {
    let cursor = step.progress.cursor;
    if cursor < page.head.state_floor {
        // A tombstone above the cursor was dropped: the reader starts over with what there is.
        let mut head = sub.channel.head();
        if head.position.epoch == page.head.position.epoch {
            head.position.offset = page.head.position.offset;
        }
        step.start_over_at(sub, head, message);
        return;
    }
    let mut count = 0;
    for item in &page.items {
        if item.publication.offset > end {
            break;
        }
        count += 1;
        message.push(&Frame::Msg {
            channel: sub.channel.name().clone(),
            publication: Arc::clone(&item.publication),
        });
    }
    let reached = match page.items.last() {
        Some(last) if page.more => last.publication.offset,
        Some(_) | None => page.head.position.offset,
    };
    step.advance(reached.min(end).max(cursor), count);
    step.leave_out(page.head.position.offset);
}
