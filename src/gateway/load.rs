//! Pages for subscriptions that fell behind the tail: history, state snapshots, catch-up of
//! readers in mode `latest`.
//!
//! One task per connection while something is behind. What a socket that takes bytes is behind in
//! is read at once, so that a resume of many channels waits for the broker once; for a slow one
//! there is one page in flight. It writes only while the socket takes bytes, and leaves the rest
//! to whoever finds the socket writable again.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;

use super::{
    connection::{Connection, Out},
    deliver::Written,
};
use crate::{
    broker::BrokerError,
    channel::{Channel, Message},
    session::{Loaded, Need, Paged, Progress, put},
    telemetry::tally::Tally,
};

/// Wait before a broker that did not answer is asked again.
const RETRY: Duration = Duration::from_millis(250);

/// Most pages in flight for one connection: a usual session, and 16 MiB of the largest pages for
/// as long as the broker takes to answer.
const PAGES_AT_ONCE: usize = 64;

/// What a subscription waits for.
struct Job {
    slot: u8,
    number: u32,
    channel: Arc<Channel>,
    need: Need,
    progress: Progress,
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
        loop {
            let jobs = self.next_jobs();
            if jobs.is_empty() {
                return;
            }
            let pages = join_all(jobs.iter().map(|job| self.fetch(job))).await;
            let mut has_failed = false;
            for (job, page) in jobs.iter().zip(pages) {
                let moved = page.is_ok_and(|loaded| self.apply(job, &loaded));
                if !moved {
                    self.lock().behind.insert(job.slot);
                    has_failed = true;
                }
            }
            if has_failed {
                tokio::select! {
                    biased;
                    () = tokio::time::sleep(RETRY) => {}
                    () = self.ended() => {}
                }
            }
        }
    }

    /// The next subscriptions that are behind; none ends the task.
    fn next_jobs(&self) -> Vec<Job> {
        let mut out = self.lock();
        let at_once = if out.full { 1 } else { PAGES_AT_ONCE };
        let mut jobs = Vec::new();
        while jobs.len() < at_once && !out.blocked && !out.is_ended() {
            let Some(slot) = out.behind.next(out.turn) else {
                break;
            };
            out.behind.remove(slot);
            out.turn = slot.wrapping_add(1);
            if let Some(sub) = out.session.as_ref().and_then(|session| session.sub(slot)) {
                jobs.push(Job {
                    slot,
                    number: sub.number,
                    channel: Arc::clone(&sub.channel),
                    need: Need::of(sub),
                    progress: sub.progress,
                });
            }
        }
        out.loading = !jobs.is_empty();
        jobs
    }

    async fn fetch(&self, job: &Job) -> Result<Loaded, BrokerError> {
        let feed = &self.gateway.feed;
        match job.need {
            Need::History { after } => Ok(Loaded::History(feed.page(&job.channel, after).await?)),
            Need::State(query) => Ok(Loaded::State(feed.state(job.channel.name(), query).await?)),
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
        let step = match put(job.slot, sub, loaded, &mut message) {
            Paged::Moved(step) => step,
            Paged::Nothing => return false,
            Paged::OtherLog => {
                self.gateway.feed.doubt(job.channel.name());
                return false;
            }
        };
        let mut tally = Tally::new(&self.gateway.metrics);
        if self.write(&mut out, message, &[step], &mut tally) == Written::Nothing {
            out.behind.insert(job.slot);
        } else {
            self.mark_ready(job.slot);
            self.pull_under(&mut out);
        }
        true
    }
}
