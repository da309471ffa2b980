//! Frames: how one record stands in a segment (length, checksum, kind, body), and the scanner
//! that walks them. Called by the journal and by compaction; never knows what a body means.

use std::{fs::File, io, os::unix::fs::FileExt, sync::Arc};

/// Bytes before a body: length of the body (u32), checksum (u32), kind (u8).
pub(crate) const FRAME_HEAD: usize = 9;
/// Largest body: far above any publication or checkpoint; a length past it is damage.
pub(crate) const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What the scanner reads at once: large enough for a disk's full speed, small enough for a cache.
const CHUNK: usize = 256 * 1024;

/// Opens a frame at the end of `buf`; `close` completes it.
pub(super) fn open(buf: &mut Vec<u8>, kind: u8) -> usize {
    let start = buf.len();
    buf.extend_from_slice(&[0; FRAME_HEAD - 1]);
    buf.push(kind);
    start
}

/// Completes the frame that began at `start` and answers its whole length.
pub(super) fn close(buf: &mut [u8], start: usize, salt: u32) -> u32 {
    let frame = &mut buf[start..];
    let whole = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    let body = whole.saturating_sub(9);
    frame[..4].copy_from_slice(&body.to_le_bytes());
    let sum = checksum(salt, body, &frame[8..]);
    frame[4..8].copy_from_slice(&sum.to_le_bytes());
    whole
}

/// The salt of the segment keeps bytes that a publisher chose from ever passing for a frame.
fn checksum(salt: u32, body: u32, rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    hasher.update(&body.to_le_bytes());
    hasher.update(rest);
    hasher.finalize()
}

/// Checks the frame that `bytes` begins with: its kind, body and whole length.
pub(crate) fn check(bytes: &[u8], salt: u32) -> Option<(u8, &[u8], u32)> {
    let body = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
    let whole = usize::try_from(body).ok()?.checked_add(FRAME_HEAD)?;
    let sum = u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?);
    let rest = bytes.get(8..whole)?;
    (sum == checksum(salt, body, rest)).then_some(())?;
    Some((rest[0], &rest[1..], u32::try_from(whole).ok()?))
}

/// One step of a scan.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    /// A whole frame.
    Frame {
        /// Where it begins in the file.
        at: u32,
        /// Its whole length.
        len: u32,
        /// Its kind.
        kind: u8,
        /// Its body.
        body: &'a [u8],
    },
    /// The file ends with the last frame.
    End,
    /// The bytes from here on are no frame.
    Broken {
        /// Where.
        at: u64,
    },
}

/// Walks the frames of one segment with positioned reads and one bounded buffer.
#[derive(Debug)]
pub(crate) struct Scanner {
    file: Arc<File>,
    salt: u32,
    end: u64,
    base: u64,
    buf: Vec<u8>,
    used: usize,
}

impl Scanner {
    /// Scans `file` from `start` to `end`.
    pub(crate) const fn new(file: Arc<File>, salt: u32, start: u64, end: u64) -> Self {
        Self {
            file,
            salt,
            end,
            base: start,
            buf: Vec::new(),
            used: 0,
        }
    }

    fn at(&self) -> u64 {
        self.base + self.used as u64
    }

    /// Makes `need` bytes available from here on, or all there are.
    fn fill(&mut self, need: usize) -> io::Result<()> {
        if self.buf.len() - self.used >= need {
            return Ok(());
        }
        self.base = self.at();
        self.buf.drain(..self.used);
        self.used = 0;
        let have = self.buf.len();
        let left = usize::try_from(self.end - self.base).unwrap_or(usize::MAX) - have;
        let more = left.min(CHUNK.max(need - have));
        self.buf.resize(have + more, 0);
        self.file
            .read_exact_at(&mut self.buf[have..], self.base + have as u64)
    }

    /// The next frame.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn step(&mut self) -> io::Result<Step<'_>> {
        let at = self.at();
        if at >= self.end {
            return Ok(Step::End);
        }
        self.fill(FRAME_HEAD)?;
        let rest = &self.buf[self.used..];
        let body = match rest.get(..4).and_then(|head| head.try_into().ok()) {
            Some(head) => u32::from_le_bytes(head) as usize,
            None => return Ok(Step::Broken { at }),
        };
        if body > BODY_BYTES_MAX || at + (body + FRAME_HEAD) as u64 > self.end {
            return Ok(Step::Broken { at });
        }
        self.fill(body + FRAME_HEAD)?;
        let from = self.used;
        match (check(&self.buf[from..], self.salt), u32::try_from(at)) {
            (Some((kind, body, len)), Ok(at)) => {
                self.used += len as usize;
                Ok(Step::Frame {
                    at,
                    len,
                    kind,
                    body,
                })
            }
            (None, _) | (_, Err(_)) => Ok(Step::Broken { at }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_whole_or_none() {
        let mut buf = Vec::new();
        let start = open(&mut buf, 7);
        buf.extend_from_slice(b"body");
        assert_eq!(close(&mut buf, start, 5), 13);
        assert_eq!(check(&buf, 5), Some((7, &b"body"[..], 13)));
        assert_eq!(check(&buf, 6), None, "another segment's salt");
        for cut in 0..buf.len() {
            assert_eq!(check(&buf[..cut], 5), None);
        }
        for at in 0..buf.len() {
            buf[at] ^= 1;
            assert_eq!(check(&buf, 5), None, "flip at {at}");
            buf[at] ^= 1;
        }
    }
}
