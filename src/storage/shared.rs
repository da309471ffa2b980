//! The one lock of the storage, and how a change becomes an acknowledgement: write, index,
//! announce in order, then wait for the disk where the setting says so.

use std::{sync::Arc, time::Duration};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tidewire_protocol::{ChannelName, Epoch, Publication, TraceParent};
use tokio::sync::watch;

use super::Options;
use crate::{
    broker::{
        Announce, Head,
        embedded::{Channels, Step},
    },
    config::Sync,
    journal::{Failed, Journal},
    store::embedded::Sessions,
};

/// Something to announce.
#[derive(Debug)]
pub(crate) enum Event {
    /// The log of a followed channel holds a publication.
    Append {
        channel: ChannelName,
        epoch: Epoch,
        publication: Arc<Publication>,
        /// The trace it belongs to.
        trace: Option<TraceParent>,
    },
    /// A followed channel began another life.
    Reset { channel: ChannelName, head: Head },
    /// An entry of a followed channel was blanked.
    Blank { channel: ChannelName, offset: u64 },
}

impl Event {
    fn tell(&self, announce: &dyn Announce) {
        match self {
            Self::Append {
                channel,
                epoch,
                publication,
                trace,
            } => {
                announce.append(channel, epoch, publication);
                if let Some(trace) = *trace {
                    announce.traced(channel, publication.offset, trace);
                }
            }
            Self::Reset { channel, head } => announce.reset(channel, head),
            Self::Blank { channel, offset } => announce.blank(channel, *offset),
        }
    }
}

/// Everything under the lock.
#[derive(Debug)]
pub(crate) struct State {
    pub journal: Journal,
    pub channels: Channels,
    pub sessions: Sessions,
    /// Events that wait for a sync.
    pub(super) waiting: Vec<Event>,
    pub(super) announce: Option<Arc<dyn Announce>>,
}

impl State {
    /// A step of the broker on this state.
    pub(crate) const fn step<'a>(&'a mut self, now: u64, events: &'a mut Vec<Event>) -> Step<'a> {
        Step {
            channels: &mut self.channels,
            journal: &mut self.journal,
            events,
            now,
        }
    }
}

/// How far the log is on disk, or that it failed.
type Durable = Result<u64, Failed>;

/// An answer, and how far the log must be on disk before it may be given.
pub(crate) type Answer<T> = Result<(T, u64), Failed>;

/// The storage as its two seams and its threads share it.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    pub(super) sync: Sync,
    clock: super::Clock,
    durable: watch::Sender<Durable>,
    pub(super) dirty: Condvar,
    /// Told after each sync, and when the storage fails or stops.
    pub(super) synced: Condvar,
    pub(super) stopped: (Mutex<bool>, Condvar),
    /// One round of the keeper at a time.
    pub(super) keeping: Mutex<()>,
}

impl Shared {
    pub(super) fn new(state: State, options: &Options) -> Self {
        Self {
            state: Mutex::new(state),
            sync: options.sync,
            clock: options.clock.clone(),
            durable: watch::Sender::new(Ok(0)),
            dirty: Condvar::new(),
            synced: Condvar::new(),
            stopped: (Mutex::new(false), Condvar::new()),
            keeping: Mutex::new(()),
        }
    }

    pub(crate) fn announce_to(&self, announce: Arc<dyn Announce>) {
        self.lock().announce = Some(announce);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(super) fn now(&self) -> u64 {
        (self.clock.0)()
    }

    /// Runs `change` and writes what it pushed in one write; its answer counts once
    /// `acknowledged` let it through.
    pub(crate) fn change<T>(
        &self,
        change: impl FnOnce(&mut State, u64, &mut Vec<Event>) -> T,
    ) -> Answer<T> {
        let now = self.now();
        let mut events = Vec::new();
        let mut state = self.lock();
        state.journal.begin()?;
        let answer = change(&mut state, now, &mut events);
        let upto = match state.journal.commit() {
            Ok(upto) => upto,
            Err(failed) => {
                state.waiting.clear();
                drop(state);
                self.fail();
                return Err(failed);
            }
        };
        if state.journal.is_dirty() {
            self.dirty.notify_one();
        }
        if self.sync == Sync::Always {
            state.waiting.append(&mut events);
            return Ok((answer, upto));
        }
        let announce = match &state.announce {
            Some(announce) if !events.is_empty() => announce.clone(),
            Some(_) | None => return Ok((answer, upto)),
        };
        for event in &events {
            event.tell(&*announce);
        }
        drop(state);
        announce.flush();
        Ok((answer, upto))
    }

    /// Runs `look`, which changes nothing that is kept.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&mut State, u64) -> T) -> Answer<T> {
        let now = self.now();
        let mut state = self.lock();
        state.journal.check()?;
        let answer = look(&mut state, now);
        Ok((answer, state.journal.written()))
    }

    /// Stops announcing a channel.
    pub(crate) fn unfollow(&self, channel: &ChannelName) {
        self.lock().channels.unfollow(channel);
    }

    /// Lets an answer through once what it rests on cannot be unsaid.
    pub(crate) async fn acknowledged<T>(&self, answer: Answer<T>) -> Result<T, Failed> {
        let (answer, upto) = answer?;
        if self.sync == Sync::Always {
            let mut durable = self.durable.subscribe();
            let reached = durable
                .wait_for(|durable| durable.map_or(true, |durable| durable >= upto))
                .await;
            match reached {
                Ok(durable) => (*durable)?,
                Err(_) => return Err(Failed),
            };
        }
        Ok(answer)
    }

    /// Lets the answers through that wait for this much of the log.
    pub(super) fn tell_durable(&self, upto: u64) {
        self.durable.send_if_modified(|durable| match durable {
            Ok(reached) => {
                *reached = upto;
                true
            }
            Err(Failed) => false,
        });
    }

    /// Tells everyone who waits that nothing will come.
    pub(super) fn fail(&self) {
        self.synced.notify_all();
        self.durable.send_modify(|durable| *durable = Err(Failed));
    }

    /// Announces what has reached the disk, outside the lock.
    pub(super) fn tell(&self, announce: Option<&Arc<dyn Announce>>, events: &[Event]) {
        if let Some(announce) = announce.filter(|_| !events.is_empty()) {
            for event in events {
                event.tell(&**announce);
            }
            announce.flush();
        }
    }

    /// Sleeps on a thread of the storage; false: it is to end.
    pub(super) fn pause(&self, time: Duration) -> bool {
        let mut stopped = self.stopped.0.lock();
        if !*stopped {
            self.stopped.1.wait_for(&mut stopped, time);
        }
        !*stopped
    }

    pub(super) fn is_stopped(&self) -> bool {
        *self.stopped.0.lock()
    }

    /// Asks the threads to end.
    pub(super) fn stop(&self) {
        *self.stopped.0.lock() = true;
        self.stopped.1.notify_all();
        let _state = self.lock();
        self.dirty.notify_all();
        self.synced.notify_all();
    }

    /// Waits on a thread of the storage until everything written is on disk.
    pub(super) fn wait_durable(&self) -> Result<(), Failed> {
        let mut state = self.lock();
        let upto = state.journal.written();
        while !state.journal.is_durable(upto) {
            state.journal.check()?;
            if self.is_stopped() {
                return Err(Failed);
            }
            self.synced.wait(&mut state);
        }
        Ok(())
    }

    /// Frees the folder; the threads have ended.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.journal.close();
        state.announce = None;
        drop(state);
        self.fail();
    }
}
