//! The thread that keeps house: sweeps what time ended and reclaims the oldest segments. Works in
//! slices so short that nobody who waits for the lock notices.

use std::time::Duration;

use super::{Shared, State};
use crate::journal::{Failed, Oldest, Place, Record, Scanner, Step};

/// Between two rounds: a second's writes of a fast disk are the most that waits for reclaiming.
const ROUND: Duration = Duration::from_millis(250);
/// Channels or sessions one slice of the sweep visits.
const SWEEP_SLICE: usize = 64;
/// Slices of the sweep in one round: 32,768 channels a second.
const SWEEP_SLICES: usize = 128;
/// Rounds without a sweep after it has seen everything: whoever asks is answered without what
/// time ended, so the sweep only gives memory back.
const SWEEP_REST: u32 = 8;
/// Most bytes and records one slice of a compaction copies: well under a millisecond.
const COPY_BYTES: usize = 64 * 1024;
const COPY_RECORDS: usize = 256;

/// Runs until the storage stops or fails.
pub(super) fn run(shared: &Shared) {
    let mut rest = 0;
    while shared.pause(ROUND) {
        match round(shared, &mut rest) {
            Ok(()) => {}
            Err(Halt::Failed) => return,
            Err(Halt::Damaged(error)) => {
                tracing::error!(%error, "a segment cannot be compacted; the log only grows from here");
                return;
            }
        }
    }
}

/// One round: sweep, unless there is a rest, then reclaim.
pub(super) fn round(shared: &Shared, rest: &mut u32) -> Result<(), Halt> {
    let _keeping = shared.keeping.lock();
    if *rest > 0 {
        *rest -= 1;
    } else if sweep(shared)? {
        *rest = SWEEP_REST;
    }
    reclaim(shared)
}

/// Why the keeper stops.
#[derive(Debug)]
pub(super) enum Halt {
    /// The storage failed or stops.
    Failed,
    /// A segment cannot be read or removed.
    Damaged(std::io::Error),
}

impl From<Failed> for Halt {
    fn from(_: Failed) -> Self {
        Self::Failed
    }
}

fn damaged(text: &'static str) -> Halt {
    Halt::Damaged(std::io::Error::new(std::io::ErrorKind::InvalidData, text))
}

/// True: everything was visited.
fn sweep(shared: &Shared) -> Result<bool, Halt> {
    let (mut channels, mut sessions) = (true, true);
    for _ in 0..SWEEP_SLICES {
        if !(channels || sessions) || shared.is_stopped() {
            break;
        }
        shared.change(|state, now, _| {
            let State {
                journal,
                channels: known,
                sessions: held,
                ..
            } = state;
            channels = channels && known.sweep(SWEEP_SLICE, journal, now);
            sessions = sessions && held.sweep(SWEEP_SLICE, journal, now);
        })?;
    }
    Ok(!(channels || sessions))
}

/// Removes dead segments at the old end, and compacts there while the journal is too large.
fn reclaim(shared: &Shared) -> Result<(), Halt> {
    loop {
        let (oldest, _) = shared.look(|state, now| state.journal.oldest(now))?;
        let Some(oldest) = oldest.filter(|oldest| oldest.dead || oldest.crowded) else {
            return Ok(());
        };
        if !oldest.dead {
            copy_live(shared, oldest)?;
        }
        remove(shared, oldest)?;
    }
}

fn copy_live(shared: &Shared, oldest: Oldest) -> Result<(), Halt> {
    let (scanner, _) = shared.look(|state, _| state.journal.scan(oldest.number))?;
    let mut scanner = scanner.ok_or_else(|| damaged("the segment is gone"))?;
    let mut slice = Slice::default();
    while slice.read(&mut scanner, oldest.number)? {
        if shared.is_stopped() {
            return Err(Halt::Failed);
        }
        shared.change(|state, now, _| {
            for (place, record) in slice.records() {
                state
                    .channels
                    .relocate(place, &record, &mut state.journal, now);
                state
                    .sessions
                    .relocate(place, &record, &mut state.journal, now);
            }
        })?;
    }
    Ok(())
}

/// The first half of a compaction, for the tests of crashes.
#[cfg(test)]
pub(super) fn copy_oldest(shared: &Shared) {
    let _keeping = shared.keeping.lock();
    let (oldest, _) = shared.look(|state, now| state.journal.oldest(now)).unwrap();
    if let Some(oldest) = oldest {
        copy_live(shared, oldest).unwrap();
    }
}

/// Removes the segment once what replaces it, and what ended the rest of it, is on disk.
fn remove(shared: &Shared, oldest: Oldest) -> Result<(), Halt> {
    let mut more = true;
    while more {
        let change = |state: &mut State, _, _: &mut _| {
            state.channels.write_floors(SWEEP_SLICE, &mut state.journal)
        };
        (more, _) = shared.change(change)?;
    }
    shared.wait_durable()?;
    let (removed, _) = shared.look(|state, _| state.journal.remove(oldest))?;
    match removed {
        Ok(Some(_closed_here)) => Ok(()),
        Ok(None) => Err(damaged("a record that is needed was not copied")),
        Err(error) => Err(Halt::Damaged(error)),
    }
}

/// Some frames of a segment, copied out of the scanner.
#[derive(Debug, Default)]
struct Slice {
    bytes: Vec<u8>,
    frames: Vec<(Place, u8, usize)>,
}

impl Slice {
    /// Reads the next frames; false: there are none.
    fn read(&mut self, scanner: &mut Scanner, segment: u32) -> Result<bool, Halt> {
        self.bytes.clear();
        self.frames.clear();
        while self.bytes.len() < COPY_BYTES && self.frames.len() < COPY_RECORDS {
            match scanner.step().map_err(Halt::Damaged)? {
                Step::End => break,
                Step::Broken { .. } => return Err(damaged("a frame is damaged")),
                Step::Frame {
                    at,
                    len,
                    kind,
                    body,
                } => {
                    let place = Place { segment, at, len };
                    self.frames.push((place, kind, self.bytes.len()));
                    self.bytes.extend_from_slice(body);
                }
            }
        }
        Ok(!self.frames.is_empty())
    }

    fn records(&self) -> impl Iterator<Item = (Place, Record<'_>)> {
        let ends = self.frames.iter().skip(1).map(|(_, _, start)| *start);
        let ends = ends.chain([self.bytes.len()]);
        self.frames.iter().zip(ends).filter_map(|(frame, end)| {
            let (place, kind, start) = *frame;
            Some((place, Record::read(kind, &self.bytes[start..end])?))
        })
    }
}
