//! Pages for subscriptions that fell behind the tail: history, state snapshots, catch-up of
//! readers in mode `latest`.
//!
//! One task per connection while something is behind, one page in flight; it writes only while
//! the socket takes bytes, and leaves the rest to whoever finds the socket writable again.

use std::{sync::Arc, time::Duration};

use tidewire_protocol::{
    Frame,
    command::Mode,
    frame::{GapReason, StateItem},
};

use super::{
    connection::{Connection, Out},
    deliver::Written,
    step::Step,
};
use crate::{
    broker::{BrokerError, PageLimit, StatePage},
    channel::{Channel, Message},
    feed::Page,
    session::{Phase, Progress, Sub},
};

/// Most bytes of history in one write: half of a turn, so that live subscriptions get theirs.
const HISTORY_BYTES_MAX: usize = 32 * 1024;
/// Bounds of one page of state on the wire.
const STATE_LIMIT: PageLimit = PageLimit {
    items: 256,
    bytes: 32 * 1024,
};
/// Wait before a broker that did not answer is asked again.
const RETRY: Duration = Duration::from_millis(250);

/// What a subscription waits for.
struct Job {
    slot: u8,
    number: u32,
    channel: Arc<Channel>,
    mode: Mode,
    progress: Progress,
}

enum Loaded {
    History(Arc<Page>),
    State(StatePage),
}

impl Connection {
    /// Starts the task that reads pages, if something is behind and none runs.
    pub(super) fn load_if_behind(self: &Arc<Self>, out: &mut Out) {
        if out.loading || out.blocked || out.is_ended() || out.behind.is_empty() {
            return;
        }
        out.loading = true;
        let connection = Arc::clone(self);
        self.gateway
            .tasks
            .spawn(async move { connection.load().await });
    }

    async fn load(self: Arc<Self>) {
        while let Some(job) = self.next_job() {
            let moved = match self.fetch(&job).await {
                Ok(loaded) => self.apply(&job, &loaded),
                Err(_unavailable) => false,
            };
            if !moved {
                self.lock().behind.insert(job.slot);
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => {}
                    () = self.ended() => {}
                }
            }
        }
    }

    /// The next subscription that is behind; none ends the task.
    fn next_job(&self) -> Option<Job> {
        let mut out = self.lock();
        let job = loop {
            if out.blocked || out.is_ended() {
                break None;
            }
            let Some(slot) = out.behind.next(out.turn) else {
                break None;
            };
            out.behind.remove(slot);
            out.turn = slot.wrapping_add(1);
            if let Some(sub) = out.session.as_ref().and_then(|session| session.sub(slot)) {
                break Some(Job {
                    slot,
                    number: sub.number,
                    channel: Arc::clone(&sub.channel),
                    mode: sub.wishes.mode,
                    progress: sub.progress,
                });
            }
        };
        out.loading = job.is_some();
        job
    }

    async fn fetch(&self, job: &Job) -> Result<Loaded, BrokerError> {
        let feed = &self.gateway.feed;
        let name = job.channel.name();
        match (job.progress.phase, job.mode) {
            (Phase::Snapshot { from }, _) => Ok(Loaded::State(
                feed.state(name, from, false, STATE_LIMIT).await?,
            )),
            (Phase::Replay | Phase::Live, Mode::Every) => Ok(Loaded::History(
                feed.page(&job.channel, job.progress.cursor).await?,
            )),
            (Phase::Replay | Phase::Live, Mode::Latest) => Ok(Loaded::State(
                feed.state(name, job.progress.cursor + 1, true, STATE_LIMIT)
                    .await?,
            )),
        }
    }

    /// Writes what was read, if the subscription still waits for it. False: it brought nothing,
    /// and is to be read again after a while.
    fn apply(self: &Arc<Self>, job: &Job, loaded: &Loaded) -> bool {
        let mut out = self.lock();
        if out.is_ended() {
            return true;
        }
        let Some(sub) = out
            .session
            .as_ref()
            .and_then(|session| session.sub(job.slot))
        else {
            return true;
        };
        if sub.number != job.number || sub.progress != job.progress {
            // Somebody else moved it; a pull finds what it needs.
            self.mark_ready(job.slot);
            self.pull_under(&mut out);
            return true;
        }
        if out.blocked {
            out.behind.insert(job.slot);
            return true;
        }
        let mut message = Message::reusing(self.encoding, Vec::new());
        let lane = out.lane(self.encoding);
        if !lane.is_empty() {
            message.push_encoded(lane);
        }
        let Some(sub) = out
            .session
            .as_ref()
            .and_then(|session| session.sub(job.slot))
        else {
            return true;
        };
        let step = match loaded {
            Loaded::History(page) => from_history(job.slot, sub, page, &mut message),
            Loaded::State(page) => from_state(job.slot, sub, page, &mut message),
        };
        if step.progress == job.progress {
            return false;
        }
        if self.write(&mut out, message, &[step]) == Written::Nothing {
            out.behind.insert(job.slot);
        } else {
            self.mark_ready(job.slot);
            self.pull_under(&mut out);
        }
        true
    }
}

/// Frames of a history page after the cursor; a `gap` for what history dropped before it.
fn from_history(slot: u8, sub: &Sub, page: &Page, message: &mut Message) -> Step {
    let mut step = Step::at(slot, sub);
    let (life, position) = sub.channel.position();
    if life != step.progress.life {
        step.begin_life(sub, life, position, message);
        return step;
    }
    if page.head.position.epoch != position.epoch {
        return step;
    }
    let first = page.first().unwrap_or(page.head.position.offset + 1);
    if first > step.progress.cursor + 1 {
        step.pass_gap(sub, first - 1, GapReason::Expired, message);
        return step;
    }
    let frames = page.frames(sub.channel.name(), message.encoding());
    if let Some(run) = frames.run(step.progress.cursor, HISTORY_BYTES_MAX) {
        message.push_encoded(run.bytes);
        step.advance(run.last, run.last - step.progress.cursor);
    }
    step
}

/// A page of a snapshot, or of the newest publications per key above the cursor.
fn from_state(slot: u8, sub: &Sub, page: &StatePage, message: &mut Message) -> Step {
    let mut step = Step::at(slot, sub);
    let (life, position) = sub.channel.position();
    if life != step.progress.life {
        step.begin_life(sub, life, position, message);
    } else if page.head.position.epoch == position.epoch {
        match step.progress.phase {
            Phase::Snapshot { .. } => snapshot(sub, page, &mut step, message),
            Phase::Replay | Phase::Live => catch_up(sub, page, &mut step, message),
        }
    }
    step
}

fn snapshot(sub: &Sub, page: &StatePage, step: &mut Step, message: &mut Message) {
    let cut = step.progress.cursor;
    let items: Vec<StateItem> = page
        .items
        .iter()
        .filter(|item| item.publication.offset <= cut)
        .cloned()
        .collect();
    let more = page.more && items.len() == page.items.len();
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

fn catch_up(sub: &Sub, page: &StatePage, step: &mut Step, message: &mut Message) {
    let cursor = step.progress.cursor;
    if cursor < page.head.state_floor {
        // A tombstone above the cursor was dropped: the reader starts over with what there is.
        step.start_over(
            sub,
            page.head.position.epoch.clone(),
            Progress {
                life: step.progress.life,
                cursor: page.head.position.offset,
                begun: page.head.position.offset,
                phase: Phase::Snapshot { from: 1 },
                replayed: 0,
            },
            message,
        );
        return;
    }
    for item in &page.items {
        message.push(&Frame::Msg {
            channel: sub.channel.name().clone(),
            publication: Arc::clone(&item.publication),
        });
    }
    let reached = match page.items.last() {
        Some(last) if page.more => last.publication.offset,
        Some(_) | None => page.head.position.offset,
    };
    step.advance(reached.max(cursor), page.items.len() as u64);
}
