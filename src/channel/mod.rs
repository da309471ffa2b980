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
#[cfg(test)]
mod tests;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use parking_lot::Mutex;
use tidewire_protocol::{
    ChannelName, Encoding, Epoch, Position, command::Mode, frame::Publication,
};

use self::{
    compacted::Compacted,
    log::{Announced, Log, Phase, lane, next_version},
    readers::Readers,
};
pub use self::{
    frames::Frames,
    log::Read,
    message::{HEADER_BYTES_MAX, Message},
    page::Page,
    readers::{Reader, ReaderKey},
};
use crate::{broker::Head, telemetry::metrics::NamespaceMetrics};

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
    /// When a reader last read here, Unix ms: tails that nobody reads go first.
    read_at: AtomicU64,
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

/// A reader's cursor, as this node names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The life of the log it belongs to.
    pub life: u32,
    /// The segment it is in.
    pub segment: u32,
    /// The last offset given to the reader.
    pub cursor: u64,
}

/// The head of a log, as this node knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalHead {
    /// The life the log is in.
    pub life: u32,
    /// The segment that mints.
    pub segment: u32,
    /// Its epoch and the last offset minted.
    pub position: Position,
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
            log: Mutex::new(Log {
                phase: Phase::Cutting(None),
                life: 0,
                epoch: Epoch::unknown(),
                segment: 0,
                head: 0,
                head_ts: 0,
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
    pub fn counts(&self) -> Option<&NamespaceMetrics> {
        self.counts.as_deref()
    }

    /// The head.
    pub fn head(&self) -> LocalHead {
        self.log.lock().local_head()
    }

    /// The epoch a cursor belongs to. None: the log it was in is gone.
    pub fn epoch_at(&self, place: Place) -> Option<Epoch> {
        let log = self.log.lock();
        (log.life == place.life).then(|| log.epoch.clone())
    }

    /// The version of the stored log and its head: what was read of history after this call may be
    /// kept under the version for as long as it stands.
    pub fn version(&self) -> (u64, Position) {
        let log = self.log.lock();
        (log.version, log.position())
    }

    /// Sets the head that divides what must be read from what was announced. False: what was
    /// announced meanwhile is of another life; the caller must ask for the head again.
    pub fn cut(&self, head: &Head) -> bool {
        let mut log = self.log.lock();
        let Phase::Cutting(announced) = &mut log.phase else {
            return true;
        };
        let announced = announced.take();
        if let Some(announced) = &announced
            && announced.position.epoch != head.position.epoch
        {
            return false;
        }
        log.phase = Phase::Live;
        log.begin(&head.position);
        if let Some(Announced { position, ts }) = announced
            && position.offset > log.head
        {
            log.begin(&position);
            log.head_ts = ts;
        }
        true
    }

    /// Appends the next publication. One at or below the head is dropped; a hole moves the
    /// beginning of the tail behind it, so that readers fetch it from history. True: the channel
    /// was clean, and the caller owes it a `mark_readers`.
    pub fn append(&self, epoch: &Epoch, publication: &Arc<Publication>) -> bool {
        let mut log = self.log.lock();
        if let Phase::Cutting(announced) = &mut log.phase {
            *announced = Some(Announced {
                position: Position {
                    epoch: epoch.clone(),
                    offset: publication.offset,
                },
                ts: publication.ts,
            });
            return false;
        }
        if log.epoch != *epoch || publication.offset <= log.head {
            return false;
        }
        log.append(&self.name, publication, self.tail_bytes);
        drop(log);
        !self.dirty.swap(true, Ordering::AcqRel)
    }

    /// The log began another life. True as in `append`.
    pub fn reset(&self, head: &Head) -> bool {
        let mut log = self.log.lock();
        if let Phase::Cutting(announced) = &mut log.phase {
            *announced = Some(Announced {
                position: head.position.clone(),
                ts: 0,
            });
            return false;
        }
        if log.epoch == head.position.epoch {
            return false;
        }
        log.life += 1;
        log.begin(&head.position);
        log.version = next_version();
        drop(log);
        !self.dirty.swap(true, Ordering::AcqRel)
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

    /// Marks every reader and adds the idle ones to `idle`; answers how many there are and when
    /// the newest publication was accepted.
    pub fn mark_readers(&self, idle: &mut Vec<Arc<dyn Reader>>) -> (usize, u64) {
        self.dirty.store(false, Ordering::Release);
        let list = self.readers.lock();
        list.readers.mark(idle);
        let readers = list.readers.len();
        drop(list);
        (readers, self.log.lock().head_ts)
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

    /// When a reader last read here, Unix ms.
    pub fn read_at(&self) -> u64 {
        self.read_at.load(Ordering::Relaxed)
    }

    /// Notes when a reader read here, Unix ms.
    pub fn touch(&self, now_ms: u64) {
        self.read_at.store(now_ms, Ordering::Relaxed);
    }

    /// Adds frames after `cursor` to the message, at most `bytes_max` of them; one frame larger
    /// than that is added alone to a message that is empty.
    pub fn read(&self, mode: Mode, place: Place, out: &mut Message, bytes_max: usize) -> Read {
        let Place { life, cursor, .. } = place;
        let log = self.log.lock();
        if log.life != life {
            return Read::NewLife(log.local_head());
        }
        if cursor >= log.head {
            return Read::AtHead;
        }
        let at = lane(out.encoding());
        match mode {
            Mode::Every => log.read_tail(at, cursor, out, bytes_max, self.keeps_history),
            Mode::Latest => log.read_compacted(at, cursor, out, bytes_max),
        }
    }
}
