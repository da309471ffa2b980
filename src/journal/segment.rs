//! One segment: a numbered file with a header that says what it is. Called by the journal.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::OpenError;

/// The format this version writes and the only one it reads.
pub(super) const FORMAT: u32 = 1;
const MAGIC: [u8; 8] = *b"TIDEWIRE";
/// Magic, format (u32), number (u32), salt (u32), checksum of these (u32).
pub(super) const HEADER: usize = 24;

/// One segment and what is known of its use.
#[derive(Debug)]
pub(crate) struct Segment {
    /// The open file.
    pub file: Arc<File>,
    /// Seeds the checksums of its frames.
    pub salt: u32,
    /// Bytes that hold whole frames, the header among them.
    pub len: u64,
    /// Bytes of frames that the indexes point at.
    pub live: u64,
    /// Dedup entries in it are forgotten after this, Unix ms.
    pub ids_until: u64,
}

impl Segment {
    fn new(file: File, salt: u32, len: u64) -> Self {
        Self {
            file: Arc::new(file),
            salt,
            len,
            live: 0,
            ids_until: 0,
        }
    }

    /// Makes the segment with this number; a torn one of that number is overwritten.
    pub(super) fn create(dir: &Path, number: u32) -> io::Result<Self> {
        let mut salt = [0; 4];
        aws_lc_rs::rand::fill(&mut salt).map_err(io::Error::other)?;
        let salt = u32::from_le_bytes(salt);
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(&MAGIC);
        header[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        header[12..16].copy_from_slice(&number.to_le_bytes());
        header[16..20].copy_from_slice(&salt.to_le_bytes());
        let sum = crc32fast::hash(&header[..20]);
        header[20..].copy_from_slice(&sum.to_le_bytes());
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path(dir, number))?;
        file.write_all_at(&header, 0)?;
        Ok(Self::new(file, salt, HEADER as u64))
    }

    /// Opens the segment with this number. None: only the beginning of a header is there.
    pub(super) fn open(dir: &Path, number: u32) -> Result<Option<Self>, OpenError> {
        let path = path(dir, number);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(OpenError::io(&path))?;
        let len = file.metadata().map_err(OpenError::io(&path))?.len();
        let mut header = [0; HEADER];
        let have = HEADER.min(usize::try_from(len).unwrap_or(HEADER));
        file.read_exact_at(&mut header[..have], 0)
            .map_err(OpenError::io(&path))?;
        let magic = have.min(MAGIC.len());
        if header.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        if header[..magic] != MAGIC[..magic] {
            return Err(OpenError::Foreign(path));
        }
        if have < HEADER {
            return Ok(None);
        }
        let field = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        if field(8) != FORMAT {
            return Err(OpenError::Version {
                file: path,
                found: field(8),
                known: FORMAT,
            });
        }
        if field(20) != crc32fast::hash(&header[..20]) || field(12) != number {
            return Err(OpenError::Damaged { file: path, at: 0 });
        }
        Ok(Some(Self::new(file, field(16), len)))
    }
}

/// The file of a segment.
pub(super) fn path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:010}.log"))
}

/// The number of a segment's file name; none: not a segment.
pub(super) fn number(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".log").filter(|name| name.len() == 10)?;
    digits.parse().ok()
}
