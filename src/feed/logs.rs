//! The node's map of channels, and the delivery of what the broker announced.
//!
//! Implements the broker's `Announce`: appends to channels, and on `flush` lets each reader pull
//! once, on the thread that has the publications. Knows no broker, so that the broker may own it.

use std::{cell::RefCell, sync::Arc, time::Duration};

use dashmap::DashMap;
use parking_lot::Mutex;
use tidewire_protocol::{ChannelName, Epoch, TraceParent, frame::Publication};
use tokio::sync::SetOnce;

use super::doubts::Doubts;
use crate::{
    broker::{Announce, BrokerError, Head},
    channel::{Appended, Channel, ChannelOptions, Reader, Settled},
    clock,
    tasks::Tasks,
    telemetry::{
        labels::RepairCause,
        metrics::Metrics,
        spans::{Fanout, Received, Tracer},
        tally::Tally,
    },
};

/// Bounds of what the node keeps of channels.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Most bytes of all tails together.
    pub tails_bytes: usize,
    /// Most bytes of cached history pages.
    pub pages_bytes: u64,
    /// How long a channel nobody reads stays followed, ms: a reload finds it warm.
    pub linger_ms: u64,
}

/// Longest wait for the head of a channel: past it the caller is refused and may ask again.
const LIVE_MAX: Duration = Duration::from_secs(10);
/// Readers that pull on the thread that has the publications, and the size of the chunks the
/// others are handed out in (measured in research/delivery-core.md: about 0.8 ms of writes).
const CHUNK: usize = 128;
/// Publications of traces in one batch; a batch has at most as many announcements.
const RECEIVED_MAX: usize = 1_024;

/// One followed channel and whether its head is known yet.
#[derive(Debug)]
pub struct Slot {
    channel: Arc<Channel>,
    settled: SetOnce<Result<(), BrokerError>>,
}

impl Slot {
    pub fn channel(&self) -> &Arc<Channel> {
        &self.channel
    }

    /// Makes the channel live and lets in who waits for it. False: as of `Channel::cut`.
    pub fn cut(&self, head: &Head) -> bool {
        // From here its linger counts: nobody may have joined yet.
        self.channel.touch(clock::now_ms());
        let is_cut = self.channel.cut(head);
        if is_cut {
            self.settle(Ok(()));
        }
        is_cut
    }

    pub fn settle(&self, result: Result<(), BrokerError>) {
        // Only the one task that leads a slot settles it.
        self.settled.set(result).unwrap_or_default();
    }

    /// Waits for the head.
    ///
    /// # Errors
    /// `Unavailable` where it could not be read, or not in time.
    pub async fn live(&self) -> Result<Arc<Channel>, BrokerError> {
        let settled = tokio::time::timeout(LIVE_MAX, self.settled.wait()).await;
        settled.map_or(Err(BrokerError::Unavailable), Clone::clone)?;
        Ok(Arc::clone(&self.channel))
    }
}

/// A channel whose readers are to be marked.
#[derive(Debug)]
struct Dirty {
    channel: Arc<Channel>,
    /// When the broker stamped the oldest publication since the last marking, Unix ms; none: it
    /// is no publication that they have to look at.
    stamp_ms: Option<u64>,
}

/// The channels this node follows.
#[derive(Debug)]
pub struct Logs {
    channels: DashMap<ChannelName, Arc<Slot>>,
    dirty: Mutex<Vec<Dirty>>,
    tracer: Tracer,
    /// Publications that belong to traces, until they are handed out.
    received: Mutex<Vec<Received>>,
    doubts: Doubts,
    settings: Settings,
    tasks: Tasks,
    metrics: Arc<Metrics>,
}

thread_local! {
    /// Readers to pull, reused from flush to flush.
    static IDLE: RefCell<Vec<Arc<dyn Reader>>> = const { RefCell::new(Vec::new()) };
}

impl Logs {
    pub fn new(settings: Settings, tasks: Tasks, metrics: Arc<Metrics>, tracer: Tracer) -> Self {
        Self {
            channels: DashMap::new(),
            dirty: Mutex::default(),
            tracer,
            received: Mutex::default(),
            doubts: Doubts::default(),
            settings,
            tasks,
            metrics,
        }
    }

    pub const fn settings(&self) -> Settings {
        self.settings
    }

    /// The channels to be compared with the broker, and whether it is in reach.
    pub const fn doubts(&self) -> &Doubts {
        &self.doubts
    }

    /// A followed channel.
    pub fn get(&self, name: &ChannelName) -> Option<Arc<Channel>> {
        let slot = self.channels.get(name)?;
        Some(Arc::clone(&slot.channel))
    }

    /// The names of all followed channels that pass, in order.
    pub fn names(&self, passes: &dyn Fn(&ChannelName) -> bool) -> Vec<ChannelName> {
        let mut names: Vec<_> = self
            .channels
            .iter()
            .map(|slot| slot.channel.name().clone())
            .filter(passes)
            .collect();
        names.sort_unstable();
        names
    }

    /// Counts what a comparison found, and notes who is to be told of it at the next `flush`.
    pub fn settled(
        &self,
        channel: &Arc<Channel>,
        (settled, owes_mark): (Settled, bool),
        cause: RepairCause,
    ) -> Settled {
        if settled.changed() {
            self.metrics.repairs.count(cause);
        }
        self.note(channel, settled, owes_mark);
        settled
    }

    fn note(&self, channel: &Arc<Channel>, settled: Settled, owes_mark: bool) {
        if let Settled::Forked { is_whole: false } = settled {
            self.metrics.rewinds.increment(1);
        }
        if owes_mark {
            self.soiled(channel, None);
        }
    }

    fn soiled(&self, channel: &Arc<Channel>, stamp_ms: Option<u64>) {
        let channel = Arc::clone(channel);
        self.dirty.lock().push(Dirty { channel, stamp_ms });
    }

    /// How many channels are followed.
    pub fn len(&self) -> usize {
        self.channels.len()
    }

    /// The slot of a channel; true: the caller made it and must find its head.
    pub fn slot(&self, name: &ChannelName, options: &ChannelOptions) -> (Arc<Slot>, bool) {
        if let Some(slot) = self.channels.get(name) {
            return (Arc::clone(&slot), false);
        }
        let mut made = false;
        let slot = Arc::clone(&self.channels.entry(name.clone()).or_insert_with(|| {
            made = true;
            let channel = Arc::new(Channel::new(name.clone(), options.clone()));
            Arc::new(Slot {
                channel,
                settled: SetOnce::new(),
            })
        }));
        (slot, made)
    }

    /// Forgets a channel whose head could not be found.
    pub fn remove(&self, slot: &Slot) {
        slot.channel.close();
        self.channels.remove_if(slot.channel.name(), |_, held| {
            Arc::ptr_eq(&held.channel, &slot.channel)
        });
    }

    /// Drops unread channels and evicts tails over the budget, least recently read first and only
    /// copies last; answers the channels dropped.
    pub fn sweep(&self, now_ms: u64) -> Vec<Arc<Channel>> {
        let (mut dropped, mut tails, mut bytes) = (Vec::new(), Vec::new(), 0);
        self.channels.retain(|_, slot| {
            let channel = &slot.channel;
            let idle = slot.settled.initialized()
                && channel.readers() == 0
                && now_ms.saturating_sub(channel.read_at()) > self.settings.linger_ms;
            if idle && channel.close_if_unread() {
                dropped.push(Arc::clone(channel));
                return false;
            }
            let held = channel.frame_bytes();
            bytes += held;
            if held > 0 {
                let rank = (channel.is_only_copy(), channel.read_at());
                tails.push((rank, held, Arc::clone(channel)));
            }
            true
        });
        if bytes > self.settings.tails_bytes {
            // The name decides between equals, so that chance does not.
            tails.sort_unstable_by(|(one, _, channel), (next, _, other)| {
                (one, channel.name()).cmp(&(next, other.name()))
            });
            for (_, held, channel) in tails {
                if bytes <= self.settings.tails_bytes {
                    break;
                }
                channel.evict();
                bytes = bytes.saturating_sub(held);
            }
        }
        self.metrics.channels.set(self.channels.len() as f64);
        dropped.sort_unstable_by(|one, next| one.name().cmp(next.name()));
        dropped
    }

    /// Lets readers pull: those of one chunk here, of the others each in a task. The time since
    /// `stamp_ms` is measured once for each chunk, when the last of it was written; spans end with
    /// the last chunk.
    fn deliver(
        &self,
        idle: &mut Vec<Arc<dyn Reader>>,
        stamp_ms: Option<u64>,
        fanout: Option<Fanout>,
    ) {
        let fanout = fanout.map(Arc::new);
        while idle.len() > CHUNK {
            let chunk = idle.split_off(idle.len() - CHUNK);
            let (metrics, held) = (Arc::clone(&self.metrics), fanout.clone());
            self.tasks.spawn(async move {
                pull_all(chunk, stamp_ms, &metrics);
                drop(held);
            });
        }
        pull_all(idle.drain(..), stamp_ms, &self.metrics);
    }

    /// What was received of traces since the last batch; nothing is looked at where none are made.
    fn take_fanout(&self) -> Option<Fanout> {
        if !self.tracer.is_on() {
            return None;
        }
        let received = std::mem::take(&mut *self.received.lock());
        self.tracer.fan_out(received)
    }
}

fn pull_all(
    readers: impl IntoIterator<Item = Arc<dyn Reader>>,
    stamp_ms: Option<u64>,
    metrics: &Metrics,
) {
    let (mut count, mut tally) = (0_usize, Tally::new(metrics));
    for reader in readers {
        reader.pull(&mut tally);
        count += 1;
    }
    if let Some(stamp_ms) = stamp_ms.filter(|_| count > 0) {
        metrics.delivered(stamp_ms);
    }
}

impl Announce for Logs {
    fn append(&self, channel: &ChannelName, epoch: &Epoch, publication: &Arc<Publication>) {
        let Some(slot) = self.channels.get(channel) else {
            return;
        };
        match slot.channel.append(epoch, publication) {
            Appended::Added { owes_mark, hole } => {
                if owes_mark {
                    self.soiled(&slot.channel, Some(publication.ts));
                }
                if hole {
                    self.metrics.repairs.count(RepairCause::Hole);
                }
            }
            Appended::Dropped => {}
            Appended::Doubted => self.doubts.add([channel.clone()], RepairCause::Hole),
            Appended::Refused => {
                self.metrics.invariant_violations.increment(1);
                tracing::error!(offset = publication.offset, "a tail would have had a hole");
                slot.channel.evict();
                self.doubts.add([channel.clone()], RepairCause::Hole);
            }
        }
    }

    fn traced(&self, channel: &ChannelName, offset: u64, trace: TraceParent) {
        if !self.channels.contains_key(channel) {
            return;
        }
        let Some(received) = self.tracer.received(trace, channel, offset) else {
            return;
        };
        let mut waiting = self.received.lock();
        if waiting.len() < RECEIVED_MAX {
            waiting.push(received);
        }
    }

    fn reset(&self, channel: &ChannelName, head: &Head) {
        if let Some(slot) = self.channels.get(channel) {
            let (settled, owes_mark) = slot.channel.reset(head);
            self.note(&slot.channel, settled, owes_mark);
        }
    }

    fn blank(&self, channel: &ChannelName, offset: u64) {
        if let Some(slot) = self.channels.get(channel) {
            slot.channel.blank(offset);
        }
    }

    fn flush(&self) {
        let dirty = std::mem::take(&mut *self.dirty.lock());
        let mut fanout = self.take_fanout();
        if dirty.is_empty() {
            return;
        }
        let mut idle = IDLE.with(RefCell::take);
        let now_ms = clock::now_ms();
        for dirty in &dirty {
            let readers = dirty.channel.mark_readers(&mut idle);
            if readers > 0 {
                dirty.channel.touch(now_ms);
            }
            self.metrics.fanout_size.record(readers as f64);
            if let Some(fanout) = &mut fanout {
                fanout.has_readers(dirty.channel.name(), readers);
            }
        }
        let oldest = dirty.iter().filter_map(|dirty| dirty.stamp_ms).min();
        self.deliver(&mut idle, oldest, fanout);
        IDLE.with(|cell| cell.replace(idle));
    }

    fn doubt(&self, is_doubted: &dyn Fn(&ChannelName) -> bool) {
        self.doubts.add(self.names(is_doubted), RepairCause::Doubt);
    }

    fn reach(&self, lost_since_ms: Option<u64>) {
        match lost_since_ms {
            Some(since_ms) => self.doubts.lose(since_ms),
            None => self.doubts.regain(&self.names(&|_| true)),
        }
    }
}
