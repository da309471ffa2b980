//! Reclaiming: which segment goes next, and its end. Called by the keeper thread of `storage`.

use std::{fs::File, sync::Arc};

use super::{Journal, Scanner, frame::FRAME_HEAD, record::Dedup, segment, segment::HEADER};

/// What one remembered id costs on disk when it stands alone.
pub(super) const ID_BYTES: u64 = (FRAME_HEAD + 16 + size_of::<Dedup>()) as u64;

/// The oldest segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Oldest {
    pub number: u32,
    /// Whether nothing in it is pointed at.
    pub dead: bool,
    /// Whether the journal holds more than twice what is live, and a segment.
    pub crowded: bool,
}

impl Journal {
    /// The oldest segment, unless it is the one written to.
    pub(crate) fn oldest(&self, now: u64) -> Option<Oldest> {
        let (&number, segment) = self.segments.first_key_value()?;
        if number == self.active {
            return None;
        }
        let live: u64 = self.segments.values().map(|segment| segment.live).sum();
        let total: u64 = self.segments.values().map(|segment| segment.len).sum();
        let live = live + self.ids * ID_BYTES;
        Some(Oldest {
            number,
            dead: segment.live == 0 && segment.ids_until <= now,
            crowded: total > 2 * live + self.segment_bytes,
        })
    }

    /// Walks the frames of a segment that is not written to any more.
    pub(crate) fn scan(&self, number: u32) -> Option<Scanner> {
        let segment = self.segments.get(&number)?;
        let (file, len) = (segment.file.clone(), segment.len);
        Some(Scanner::new(file, segment.salt, HEADER as u64, len))
    }

    /// Removes the oldest segment and answers its file, to be closed outside the lock: giving
    /// its blocks back takes the system milliseconds. None: something in it is still pointed at,
    /// and it stays.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub(crate) fn remove(&mut self, oldest: Oldest) -> std::io::Result<Option<Arc<File>>> {
        match self.segments.first_key_value() {
            Some((&number, segment)) if number == oldest.number && segment.live == 0 => {
                std::fs::remove_file(segment::path(&self.dir, number))?;
                self.folder_unsynced = true;
                Ok(self.segments.remove(&number).map(|segment| segment.file))
            }
            Some(_) | None => Ok(None),
        }
    }

    /// Counts ids that are remembered, so that they are no reason to compact.
    pub(crate) fn count_ids(&mut self, remembered: usize, forgotten: usize) {
        self.ids = (self.ids + remembered as u64).saturating_sub(forgotten as u64);
    }

    /// Whether everything up to here has reached the disk.
    pub(crate) const fn is_durable(&self, upto: u64) -> bool {
        self.durable >= upto
    }

    /// Lets the operating system refuse every write from here on.
    #[cfg(test)]
    pub(crate) fn fail_writes(&mut self) {
        let path = segment::path(&self.dir, self.active);
        let read_only = File::open(path).unwrap();
        self.segments.get_mut(&self.active).unwrap().file = Arc::new(read_only);
    }

    /// Bytes of all segments.
    #[cfg(test)]
    pub(crate) fn total_bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.len).sum()
    }
}
