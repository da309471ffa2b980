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
    deliver::{Move, Written, advance, gap, new_life, start_over},
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
            match self.fetch(&job).await {
                Ok(loaded) => self.apply(&job, &loaded),
                Err(_unavailable) => {
                    self.lock().behind.insert(job.slot);
                    tokio::select! {
                        () = tokio::time::sleep(RETRY) => {}
                        () = self.ended() => {}
                    }
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

    /// Writes what was read, if the subscription still waits for it.
    fn apply(self: &Arc<Self>, job: &Job, loaded: &Loaded) {
        let mut out = self.lock();
        if out.is_ended() {
            return;
        }
        let Some(sub) = out
            .session
            .as_ref()
            .and_then(|session| session.sub(job.slot))
        else {
            return;
        };
        if sub.number != job.number || sub.progress != job.progress {
            // Somebody else moved it; a pull finds what it needs.
            self.mark_ready(job.slot);
            self.pull_under(&mut out);
            return;
        }
        if out.blocked {
            out.behind.insert(job.slot);
            return;
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
            return;
        };
        let (progress, count) = match loaded {
            Loaded::History(page) => from_history(sub, page, &mut message),
            Loaded::State(page) => from_state(sub, page, &mut message),
        };
        let step = Move {
            slot: job.slot,
            progress,
            count,
        };
        if self.write(&mut out, message, &[step]) == Written::Nothing {
            out.behind.insert(job.slot);
        } else {
            self.mark_ready(job.slot);
            self.pull_under(&mut out);
        }
    }
}

/// Frames of a history page after the cursor; a `gap` for what history dropped before it.
fn from_history(sub: &Sub, page: &Page, message: &mut Message) -> (Progress, u64) {
    let mut progress = sub.progress;
    let (life, position) = sub.channel.position();
    if life != progress.life || page.head.position.epoch != position.epoch {
        if life != progress.life {
            new_life(sub, &mut progress, life, position, message);
        }
        return (progress, 0);
    }
    let first = page.first().unwrap_or(page.head.position.offset + 1);
    if first > progress.cursor + 1 {
        gap(sub, &mut progress, first - 1, GapReason::Expired, message);
        return (progress, 0);
    }
    let frames = page.frames(sub.channel.name(), message.encoding());
    let Some(run) = frames.run(progress.cursor, HISTORY_BYTES_MAX) else {
        return (progress, 0);
    };
    let count = run.last - progress.cursor;
    message.push_encoded(run.bytes);
    advance(&mut progress, run.last, count);
    (progress, count)
}

/// A page of a snapshot, or of the newest publications per key above the cursor.
fn from_state(sub: &Sub, page: &StatePage, message: &mut Message) -> (Progress, u64) {
    let mut progress = sub.progress;
    let (life, position) = sub.channel.position();
    if life != progress.life {
        new_life(sub, &mut progress, life, position, message);
        return (progress, 0);
    }
    if page.head.position.epoch != position.epoch {
        return (progress, 0);
    }
    match progress.phase {
        Phase::Snapshot { .. } => snapshot(sub, page, &mut progress, message),
        Phase::Replay | Phase::Live => catch_up(sub, page, &mut progress, message),
    }
}

fn snapshot(
    sub: &Sub,
    page: &StatePage,
    progress: &mut Progress,
    message: &mut Message,
) -> (Progress, u64) {
    let items: Vec<StateItem> = page
        .items
        .iter()
        .filter(|item| item.publication.offset <= progress.cursor)
        .cloned()
        .collect();
    let more = page.more && items.len() == page.items.len();
    let next = items.last().map_or(1, |item| item.publication.offset + 1);
    message.push(&Frame::State {
        channel: sub.channel.name().clone(),
        items,
        more,
    });
    progress.phase = if more {
        Phase::Snapshot { from: next }
    } else {
        Phase::Replay
    };
    (*progress, 0)
}

fn catch_up(
    sub: &Sub,
    page: &StatePage,
    progress: &mut Progress,
    message: &mut Message,
) -> (Progress, u64) {
    if progress.cursor < page.head.state_floor {
        // A tombstone above the cursor was dropped: the reader starts over with what there is.
        let next = Progress {
            life: progress.life,
            cursor: page.head.position.offset,
            phase: Phase::Snapshot { from: 1 },
            replayed: 0,
        };
        let epoch = page.head.position.epoch.clone();
        start_over(sub, progress, next, epoch, message);
        return (*progress, 0);
    }
    let mut count = 0;
    for item in &page.items {
        message.push(&Frame::Msg {
            channel: sub.channel.name().clone(),
            publication: Arc::clone(&item.publication),
        });
        count += 1;
    }
    let reached = if page.more {
        page.items
            .last()
            .map_or(progress.cursor, |item| item.publication.offset)
    } else {
        page.head.position.offset
    };
    advance(progress, reached.max(progress.cursor), count);
    (*progress, count)
}
