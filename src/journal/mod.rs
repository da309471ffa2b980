//! The journal: one folder of segments to which every record is appended. Called under the lock
//! of `storage`; owns bytes, checksums, recovery and what is dead in which segment, and never
//! knows what a record means.
//!
//! Segments leave only from the oldest end. So a record that ends another's life always outlasts
//! it, and a replay in log order needs no bookkeeping of what was removed.

mod error;
mod fields;
mod frame;
mod reclaim;
mod record;
mod recover;
mod segment;

use std::{
    collections::BTreeMap,
    fs::{File, TryLockError},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

pub(crate) use error::{Failed, OpenError};
pub(crate) use frame::{BODY_BYTES_MAX, Scanner, Step, check};
pub(crate) use reclaim::Oldest;
pub(crate) use record::{ChannelRecord, Data, Dedup, PublicationRecord, Record, SECRET_BYTES};
use segment::Segment;

/// Smallest and largest segment: below, files cost more than bytes; above, one segment is too
/// large a share of a disk.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 64 * 1024..=1024 * 1024 * 1024;
/// The write buffer is given back when a batch made it larger than this.
const BUFFER_KEPT: usize = 1024 * 1024;

/// Where a frame stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Place {
    pub segment: u32,
    pub at: u32,
    /// Length of the whole frame.
    pub len: u32,
}

/// What opening a folder took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Recovery {
    /// Records replayed.
    pub records: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Bytes of a torn end that were cut off.
    pub cut: u64,
}

/// The open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    dir: PathBuf,
    /// The folder itself: carries the lock, and is synced after files come or go.
    folder: Arc<File>,
    segment_bytes: u64,
    segments: BTreeMap<u32, Segment>,
    active: u32,
    buf: Vec<u8>,
    /// Bytes appended since the journal was opened.
    written: u64,
    /// How much of `written` has reached the disk.
    durable: u64,
    unsynced: Vec<Arc<File>>,
    folder_unsynced: bool,
    mark: Option<(u32, u32)>,
    /// Ids remembered by the windows of all channels.
    ids: u64,
    failed: bool,
}

/// A sync to run outside the lock.
#[derive(Debug)]
pub(crate) struct SyncJob {
    files: Vec<Arc<File>>,
    folder: Option<Arc<File>>,
    upto: u64,
    place: (u32, u32),
}

impl SyncJob {
    /// How far the log is on disk once it ran.
    pub(crate) const fn upto(&self) -> u64 {
        self.upto
    }

    /// Runs it.
    ///
    /// # Errors
    /// The disk refused: the journal must fail.
    pub(crate) fn run(&self) -> io::Result<()> {
        for file in &self.files {
            file.sync_data()?;
        }
        self.folder
            .as_ref()
            .map_or(Ok(()), |folder| folder.sync_all())
    }
}

impl Journal {
    /// Opens or begins the journal in `dir` and hands every record to `replay` in log order.
    ///
    /// # Errors
    /// See `OpenError`; the folder is as it was.
    pub(crate) fn open(
        dir: &Path,
        segment_bytes: u64,
        replay: &mut dyn FnMut(Place, &Record<'_>),
    ) -> Result<(Self, Recovery), OpenError> {
        if !SEGMENT_BYTES.contains(&segment_bytes) {
            return Err(OpenError::SegmentBytes);
        }
        std::fs::create_dir_all(dir).map_err(OpenError::io(dir))?;
        let folder = File::open(dir).map_err(OpenError::io(dir))?;
        match folder.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked(dir.to_owned())),
            Err(TryLockError::Error(source)) => return Err(OpenError::io(dir)(source)),
        }
        let recovered = recover::recover(dir, replay)?;
        let mut recovery = Recovery {
            records: recovered.records,
            bytes: recovered.bytes,
            cut: 0,
        };
        let mut journal = Self {
            dir: dir.to_owned(),
            folder: Arc::new(folder),
            segment_bytes,
            segments: recovered.segments,
            active: 0,
            buf: Vec::new(),
            written: 0,
            durable: 0,
            unsynced: Vec::new(),
            folder_unsynced: true,
            mark: None,
            ids: 0,
            failed: false,
        };
        journal
            .settle(recovered.cut, &recovered.drop, &mut recovery)
            .map_err(OpenError::io(dir))?;
        Ok((journal, recovery))
    }

    /// Cuts the torn end off and makes what was replayed durable, so that nothing served from it
    /// can be unsaid.
    fn settle(
        &mut self,
        cut: Option<(u32, u64)>,
        drop: &[u32],
        recovery: &mut Recovery,
    ) -> io::Result<()> {
        for &number in drop.iter().rev() {
            let path = segment::path(&self.dir, number);
            recovery.cut += path.metadata()?.len();
            std::fs::remove_file(path)?;
        }
        if let Some((number, len)) = cut
            && let Some(segment) = self.segments.get(&number)
        {
            recovery.cut += segment.file.metadata()?.len() - len;
            segment.file.set_len(len)?;
        }
        for segment in self.segments.values() {
            segment.file.sync_data()?;
        }
        match self.segments.last_key_value() {
            Some((&number, segment)) => {
                self.active = number;
                self.mark = Some((number, u32::try_from(segment.len).unwrap_or(u32::MAX)));
            }
            None => self.begin_segment(drop.first().copied().unwrap_or(1))?,
        }
        Ok(())
    }

    fn begin_segment(&mut self, number: u32) -> io::Result<()> {
        let segment = Segment::create(&self.dir, number)?;
        self.unsynced.push(segment.file.clone());
        self.folder_unsynced = true;
        self.segments.insert(number, segment);
        self.active = number;
        Ok(())
    }

    /// Begins a batch: what is pushed until `commit` goes out in one write.
    ///
    /// # Errors
    /// The journal failed, before or by this.
    pub(crate) fn begin(&mut self) -> Result<(), Failed> {
        self.check()?;
        self.buf.clear();
        if self.active().len >= self.segment_bytes
            && let Err(error) = self.begin_segment(self.active + 1)
        {
            return Err(self.fail("a segment cannot be created", &error));
        }
        Ok(())
    }

    /// Adds a record to the batch; where it will stand.
    pub(crate) fn push(&mut self, record: &Record<'_>) -> Place {
        if let Some((segment, at)) = self.mark.take() {
            self.append(&Record::Mark { segment, at });
        }
        self.append(record)
    }

    fn append(&mut self, record: &Record<'_>) -> Place {
        let Some((&active, segment)) = self.segments.last_key_value() else {
            return Place::default();
        };
        let at = segment.len + self.buf.len() as u64;
        let len = record.write(&mut self.buf, segment.salt);
        Place {
            segment: active,
            at: u32::try_from(at).unwrap_or(u32::MAX),
            len,
        }
    }

    /// Writes the batch to the operating system; how far the log reaches. A batch that cannot be
    /// written fails the journal for good, since the indexes already hold it.
    ///
    /// # Errors
    /// Nothing of the batch may be acknowledged.
    pub(crate) fn commit(&mut self) -> Result<u64, Failed> {
        self.check()?;
        if self.buf.is_empty() {
            return Ok(self.written);
        }
        let (at, file) = (self.active().len, self.active().file.clone());
        let end = at + self.buf.len() as u64;
        let done = if end > u64::from(u32::MAX) {
            Err(io::ErrorKind::FileTooLarge.into())
        } else {
            file.write_all_at(&self.buf, at)
        };
        if let Err(error) = done {
            if let Err(error) = file.set_len(at) {
                tracing::warn!(%error, "the torn end of the log stays until the next start");
            }
            return Err(self.fail("the log cannot be written", &error));
        }
        if !self
            .unsynced
            .last()
            .is_some_and(|last| Arc::ptr_eq(last, &file))
        {
            self.unsynced.push(file);
        }
        self.written += self.buf.len() as u64;
        if let Some(mut active) = self.segments.last_entry() {
            active.get_mut().len = end;
        }
        self.buf.clear();
        self.buf.shrink_to(BUFFER_KEPT);
        Ok(self.written)
    }

    fn active(&self) -> &Segment {
        &self.segments[&self.active]
    }

    /// Fails if the journal failed.
    pub(crate) const fn check(&self) -> Result<(), Failed> {
        if self.failed { Err(Failed) } else { Ok(()) }
    }

    /// Ends the journal's service: nothing is taken or answered any more.
    pub(crate) fn fail(&mut self, what: &'static str, error: &io::Error) -> Failed {
        tracing::error!(dir = %self.dir.display(), %error, "storage failed: {what}; restart the node once the cause is gone");
        self.failed = true;
        Failed
    }

    /// Ends the journal's service on purpose: syncs, notes that, and gives the folder free.
    pub(crate) fn close(&mut self) {
        if let Err(Failed) = self.close_synced() {
            tracing::warn!(dir = %self.dir.display(), "the storage was not closed cleanly");
        }
        self.failed = true;
        if let Err(error) = self.folder.unlock() {
            tracing::warn!(dir = %self.dir.display(), %error, "the folder stays locked");
        }
    }

    fn close_synced(&mut self) -> Result<(), Failed> {
        self.begin()?;
        let job = self.begin_sync();
        if let Err(error) = job.run() {
            return Err(self.fail("the log cannot be synced", &error));
        }
        self.end_sync(&job);
        if let Some((segment, at)) = self.mark.take() {
            self.append(&Record::Mark { segment, at });
        }
        self.commit().map(|_| ())
    }

    /// How far the log reaches, in bytes since it was opened.
    pub(crate) const fn written(&self) -> u64 {
        self.written
    }

    /// Whether something written has not reached the disk.
    pub(crate) const fn is_dirty(&self) -> bool {
        self.durable < self.written || self.folder_unsynced
    }

    /// What has to be synced; run it outside the lock, then call `end_sync`.
    pub(crate) fn begin_sync(&mut self) -> SyncJob {
        SyncJob {
            files: std::mem::take(&mut self.unsynced),
            folder: std::mem::take(&mut self.folder_unsynced).then(|| self.folder.clone()),
            upto: self.written,
            place: (
                self.active,
                u32::try_from(self.active().len).unwrap_or(u32::MAX),
            ),
        }
    }

    /// Notes that a job's bytes have reached the disk.
    pub(crate) fn end_sync(&mut self, job: &SyncJob) {
        if job.upto > self.durable {
            self.durable = job.upto;
            self.mark = Some(job.place);
        }
    }

    /// Counts a frame as pointed at.
    pub(crate) fn retain(&mut self, place: Place) {
        if let Some(segment) = self.segments.get_mut(&place.segment) {
            segment.live += u64::from(place.len);
        }
    }

    /// Counts a frame as dead.
    pub(crate) fn release(&mut self, place: Place) {
        if let Some(segment) = self.segments.get_mut(&place.segment) {
            debug_assert!(
                segment.live >= u64::from(place.len),
                "released twice: {place:?}"
            );
            segment.live = segment.live.saturating_sub(u64::from(place.len));
        }
    }

    /// Notes that the segment of `place` holds a dedup entry.
    pub(crate) fn remember(&mut self, place: Place, until: u64) {
        if let Some(segment) = self.segments.get_mut(&place.segment) {
            segment.ids_until = segment.ids_until.max(until);
        }
    }

    /// The file and salt of a segment, to read from outside the lock.
    pub(crate) fn reader(&self, segment: u32) -> Option<(Arc<File>, u32)> {
        let segment = self.segments.get(&segment)?;
        Some((segment.file.clone(), segment.salt))
    }
}
