//! Node-local logs: what this node holds of each channel it follows.
//!
//! A `Channel` is the tail of a channel's log as ready frames, the compacted view for readers in
//! mode `latest`, and the list of readers. `feed` is its only writer; connections read from
//! their cursors. SYNC: may lock, never awaits, never calls the broker. A cursor that the tail
//! does not reach is answered with `Read::Behind`; the reader goes to history with it.

mod compacted;
mod frames;
mod log;
mod message;
mod page;
mod readers;
mod reading;
mod segments;
#[cfg(test)]
mod tests;
mod told;
mod writing;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use parking_lot::Mutex;
use tidewire_protocol::{ChannelName, Encoding, Position, command::Mode};

use self::{
    compacted::Compacted,
    log::{Log, Phase, lane, next_version},
    readers::Readers,
    segments::Segments,
    told::Tally,
};
pub use self::{
    frames::Frames,
    log::Read,
    message::{HEADER_BYTES_MAX, Message},
    page::Page,
    readers::{Reader, ReaderKey},
    reading::{LocalHead, Look, Place},
    segments::{Boundary, Standing},
    told::Told,
    writing::{Appended, Settled},
};
use crate::telemetry::metrics::NamespaceMetrics;

/// The tail of one channel on this node, shared by all who read it.
#[derive(Debug)]
pub struct Channel {
    // Locks are taken in the order: connection, readers, log. Appending takes `log` alone, since
    // it may run under the broker's lock.
    name: ChannelName,
    counts: Option<Arc<NamespaceMetrics>>,
    keeps_history: bool,
    tail_bytes: usize,
    /// Whether a `mark_readers` is owed. Set after the append, cleared before the marking.
    dirty: AtomicBool,
    /// When readers last had something to read here, Unix ms: tails that nobody reads go first.
    read_at: AtomicU64,
    told: Tally,
    log: Mutex<Log>,
    readers: Mutex<ReaderList>,
}

#[derive(Debug, Default)]
struct ReaderList {
    readers: Readers,
    latest: [u32; 2],
    /// The feed let go of this channel; who comes now must ask the feed again.
    closed: bool,
}

/// How a channel is read: by which encoding and mode.
#[derive(Debug, Clone, Copy)]
pub struct View {
    pub encoding: Encoding,
    pub mode: Mode,
}

/// What a channel is made of.
#[derive(Debug, Clone)]
pub struct ChannelOptions {
    /// The counters of its namespace.
    pub counts: Option<Arc<NamespaceMetrics>>,
    /// Whether the broker keeps history of it.
    pub keeps_history: bool,
    /// Most bytes of its tail per encoding.
    pub tail_bytes: usize,
}

/// Where a reader that joins stands.
#[derive(Debug, Clone)]
pub struct Joined {
    /// Its place in the list of readers.
    pub key: ReaderKey,
    /// The head at the moment it joined.
    pub head: LocalHead,
}

impl Channel {
    /// A channel whose head is not known: `cut` makes it live.
    pub fn new(name: ChannelName, options: ChannelOptions) -> Self {
        Self {
            name,
            counts: options.counts,
            keeps_history: options.keeps_history,
            tail_bytes: options.tail_bytes,
            dirty: AtomicBool::new(false),
            read_at: AtomicU64::new(0),
            told: Tally::default(),
            log: Mutex::new(Log {
                phase: Phase::Cutting(None),
                life: 0,
                segments: Segments::unknown(),
                head: 0,
                version: next_version(),
                tails: [None, None],
                compacted: [None, None],
            }),
            readers: Mutex::default(),
        }
    }

    pub const fn name(&self) -> &ChannelName {
        &self.name
    }

    /// The counters of its namespace.
    pub const fn counts(&self) -> Option<&Arc<NamespaceMetrics>> {
        self.counts.as_ref()
    }

    /// The version of the stored log and its head: what was read of history after this call may be
    /// kept under the version for as long as it stands.
    pub fn version(&self) -> (u64, Position) {
        let log = self.log.lock();
        (log.version, log.position())
    }

    /// Marks every reader and adds the idle ones to `idle`; answers how many there are.
    pub fn mark_readers(&self, idle: &mut Vec<Arc<dyn Reader>>) -> usize {
        self.dirty.store(false, Ordering::Release);
        let list = self.readers.lock();
        list.readers.mark(idle);
        list.readers.len()
    }

    /// Adds a reader. The head is taken after the reader is in the list, so what is appended
    /// from then on marks it. None: the feed let go of this channel.
    pub fn join(&self, reader: Arc<dyn Reader>, slot: u8, view: View) -> Option<Joined> {
        let mut list = self.readers.lock();
        if list.closed {
            return None;
        }
        let key = list.readers.insert(reader, slot);
        if view.mode == Mode::Latest {
            list.latest[lane(view.encoding)] += 1;
        }
        let mut log = self.log.lock();
        let head = log.head;
        let at = lane(view.encoding);
        log.tails[at].get_or_insert_with(|| Frames::new(view.encoding, head + 1));
        if view.mode == Mode::Latest {
            log.compacted[at].get_or_insert_with(|| Compacted::new(head));
        }
        Some(Joined {
            key,
            head: log.local_head(),
        })
    }

    /// Removes a reader.
    pub fn leave(&self, key: ReaderKey, view: View) {
        let mut list = self.readers.lock();
        list.readers.remove(key);
        if view.mode == Mode::Latest {
            let at = lane(view.encoding);
            list.latest[at] = list.latest[at].saturating_sub(1);
            if list.latest[at] == 0 {
                self.log.lock().compacted[at] = None;
            }
        }
    }

    /// A reader here was told of a gap, or of a rewind that took something back.
    pub fn tell(&self, gap: bool, rewind: bool) {
        self.told.add(gap, rewind);
    }

    /// What readers here were told since the node follows it.
    pub fn told(&self) -> Told {
        self.told.told()
    }

    /// How many readers there are.
    pub fn readers(&self) -> usize {
        self.readers.lock().readers.len()
    }

    /// Shuts the list of readers if it is empty. True: the channel may be dropped.
    pub fn close_if_unread(&self) -> bool {
        let mut list = self.readers.lock();
        if list.readers.is_empty() {
            list.closed = true;
        }
        list.closed
    }

    /// Shuts the list of readers whoever is in it: the channel never became live.
    pub fn close(&self) {
        self.readers.lock().closed = true;
    }

    /// Bytes of frames held: tails and compacted tails.
    pub fn frame_bytes(&self) -> usize {
        let log = self.log.lock();
        let tails: usize = log.tails.iter().flatten().map(Frames::len_bytes).sum();
        let compacted: usize = log.compacted.iter().flatten().map(Compacted::bytes).sum();
        tails + compacted
    }

    /// Whether somebody reads a tail that is the only copy of its frames: such go last.
    pub fn is_only_copy(&self) -> bool {
        !self.keeps_history && self.readers() > 0
    }

    /// When readers last had something to read here, Unix ms.
    pub fn read_at(&self) -> u64 {
        self.read_at.load(Ordering::Relaxed)
    }

    /// Notes when readers had something to read here, Unix ms.
    pub fn touch(&self, now_ms: u64) {
        self.read_at.store(now_ms, Ordering::Relaxed);
    }
}
