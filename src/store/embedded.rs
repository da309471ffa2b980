//! Checkpoint store on the embedded journal: the index of sessions, and the seam on it. Bodies
//! stay on disk; never looks inside one.

use std::{collections::BTreeMap, fs::File, io, ops::Bound, os::unix::fs::FileExt, sync::Arc};

use bytes::Bytes;
use tokio::sync::watch;

use super::{Checkpoint, CheckpointStore, Claimed, Fence, Held, SessionId, StoreError, Write};
use crate::{
    broker::BoxFuture,
    journal::{BODY_BYTES_MAX, Failed, Journal, Place, Record, check},
    storage::Shared,
};

/// Most bytes of a record besides the body.
const RECORD_BYTES: usize = 1024;

/// One session: its body stands in the record at `place`.
#[derive(Debug, Clone, Copy)]
struct Entry {
    fence: Fence,
    expires: u64,
    place: Place,
}

impl Entry {
    /// Whether `fence` may take the session.
    const fn admits(&self, fence: Fence) -> bool {
        fence.attempt > self.fence.attempt
            || (fence.attempt == self.fence.attempt && fence.nonce == self.fence.nonce)
    }
}

/// Where a body stands, opened under the lock so that it stays readable outside.
#[derive(Debug)]
struct Body {
    place: Place,
    file: Option<(Arc<File>, u32)>,
}

impl Body {
    fn of(entry: &Entry, journal: &Journal) -> Self {
        Self {
            place: entry.place,
            file: journal.reader(entry.place.segment),
        }
    }

    /// Reads it. A checkpoint is at most 256 KiB: no other thread is asked.
    fn read(&self) -> Result<Bytes, StoreError> {
        self.bytes().map_err(|error| {
            tracing::error!(%error, "a checkpoint cannot be read");
            StoreError::Unavailable
        })
    }

    fn bytes(&self) -> io::Result<Bytes> {
        let (file, salt) = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let mut buf = vec![0; self.place.len as usize];
        file.read_exact_at(&mut buf, u64::from(self.place.at))?;
        let record = check(&buf, *salt).and_then(|(kind, body, _)| Record::read(kind, body));
        match record {
            Some(Record::Session { body, .. }) => Ok(Bytes::copy_from_slice(body)),
            Some(_) | None => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// The sessions of a node, under the lock of `storage`.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    entries: BTreeMap<SessionId, Entry>,
    /// Where the sweep goes on.
    swept: Option<SessionId>,
}

impl Sessions {
    /// Takes one record of a replay.
    pub(crate) fn apply(&mut self, place: Place, record: &Record<'_>) {
        match *record {
            Record::Session {
                id,
                attempt,
                nonce,
                expires,
                ..
            } => {
                let fence = Fence { attempt, nonce };
                let entry = Entry {
                    fence,
                    expires,
                    place,
                };
                self.entries.insert(SessionId(Arc::from(id)), entry);
            }
            Record::Claim {
                id,
                attempt,
                nonce,
                expires,
            } => {
                if let Some(entry) = self.entries.get_mut(id) {
                    entry.fence = Fence { attempt, nonce };
                    entry.expires = expires;
                }
            }
            Record::Extend { id, expires } => {
                if let Some(entry) = self.entries.get_mut(id) {
                    entry.expires = expires;
                }
            }
            Record::Removed { id } => {
                self.entries.remove(id);
            }
            Record::Publication(_)
            | Record::Channel(_)
            | Record::Dedup { .. }
            | Record::Ended { .. }
            | Record::Secret(_)
            | Record::Mark { .. } => {}
        }
    }

    /// Ends a replay.
    pub(crate) fn finish(&mut self, journal: &mut Journal, now: u64) {
        self.entries.retain(|_, entry| entry.expires > now);
        for entry in self.entries.values() {
            journal.retain(entry.place);
        }
    }

    fn live(&self, session: &SessionId, now: u64) -> Option<&Entry> {
        let entry = self.entries.get(session)?;
        (entry.expires > now).then_some(entry)
    }

    fn fenced(&self, session: &SessionId, fence: Fence, now: u64) -> Result<(), StoreError> {
        match self.live(session, now) {
            Some(entry) if !entry.admits(fence) => Err(StoreError::Fenced {
                attempt: entry.fence.attempt,
            }),
            Some(_) | None => Ok(()),
        }
    }

    fn write(&mut self, write: &Write, journal: &mut Journal, now: u64) -> Result<(), StoreError> {
        let Checkpoint { fence, body } = &write.checkpoint;
        if body.len() + RECORD_BYTES > BODY_BYTES_MAX {
            return Err(StoreError::Unavailable);
        }
        self.fenced(&write.session, *fence, now)?;
        let expires = now.saturating_add(write.ttl_ms);
        let place = journal.push(&Record::Session {
            id: &write.session.0,
            attempt: fence.attempt,
            nonce: fence.nonce,
            expires,
            body,
        });
        journal.retain(place);
        let entry = Entry {
            fence: *fence,
            expires,
            place,
        };
        if let Some(old) = self.entries.insert(write.session.clone(), entry) {
            journal.release(old.place);
        }
        Ok(())
    }

    fn claim(
        &mut self,
        session: &SessionId,
        fence: Fence,
        expires: u64,
        journal: &mut Journal,
        now: u64,
    ) -> Result<Option<Body>, StoreError> {
        self.fenced(session, fence, now)?;
        let Some(entry) = self
            .entries
            .get_mut(session)
            .filter(|entry| entry.expires > now)
        else {
            return Ok(None);
        };
        entry.fence = fence;
        entry.expires = expires;
        journal.push(&Record::Claim {
            id: &session.0,
            attempt: fence.attempt,
            nonce: fence.nonce,
            expires,
        });
        Ok(Some(Body::of(entry, journal)))
    }

    fn extend(&mut self, session: &SessionId, expires: u64, journal: &mut Journal, now: u64) {
        let entry = self.entries.get_mut(session);
        if let Some(entry) = entry.filter(|entry| entry.expires > now) {
            entry.expires = expires;
            journal.push(&Record::Extend {
                id: &session.0,
                expires,
            });
        }
    }

    fn forget(&mut self, session: &SessionId, journal: &mut Journal) {
        if let Some(entry) = self.entries.remove(session) {
            journal.release(entry.place);
            journal.push(&Record::Removed { id: &session.0 });
        }
    }
}

impl Sessions {
    /// Visits the next sessions and forgets those whose time is over; false: that was the end of
    /// the round.
    pub(crate) fn sweep(&mut self, most: usize, journal: &mut Journal, now: u64) -> bool {
        let from = match self.swept.take() {
            Some(id) => Bound::Excluded(id),
            None => Bound::Unbounded,
        };
        let next = self.entries.range::<SessionId, _>((from, Bound::Unbounded));
        let mut visited = 0;
        let mut over = Vec::new();
        let mut last = None;
        for (id, entry) in next.take(most) {
            visited += 1;
            last = Some(id);
            if entry.expires <= now {
                over.push(id.clone());
            }
        }
        self.swept = last.filter(|_| visited == most).cloned();
        for id in over {
            if let Some(entry) = self.entries.remove(&id) {
                journal.release(entry.place);
            }
        }
        self.swept.is_some()
    }

    /// Copies the record at `place` to the end of the journal where it is still needed.
    pub(crate) fn relocate(
        &mut self,
        place: Place,
        record: &Record<'_>,
        journal: &mut Journal,
        now: u64,
    ) {
        let Record::Session { id, body, .. } = *record else {
            return;
        };
        let Some(entry) = self
            .entries
            .get_mut(id)
            .filter(|entry| entry.place == place)
        else {
            return;
        };
        journal.release(place);
        if entry.expires <= now {
            self.entries.remove(id);
            return;
        }
        entry.place = journal.push(&Record::Session {
            id,
            attempt: entry.fence.attempt,
            nonce: entry.fence.nonce,
            expires: entry.expires,
            body,
        });
        journal.retain(entry.place);
    }
}

impl From<Failed> for StoreError {
    fn from(_: Failed) -> Self {
        Self::Unavailable
    }
}

/// The checkpoint store of a node that runs alone.
#[derive(Debug)]
pub(crate) struct EmbeddedStore {
    shared: Arc<Shared>,
}

impl EmbeddedStore {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl CheckpointStore for EmbeddedStore {
    fn claim<'a>(
        &'a self,
        session: &'a SessionId,
        fence: Fence,
        ttl_ms: u64,
    ) -> BoxFuture<'a, Result<Option<Claimed>, StoreError>> {
        Box::pin(async move {
            let done = self.shared.change(|state, now, _| {
                let expires = now.saturating_add(ttl_ms);
                state
                    .sessions
                    .claim(session, fence, expires, &mut state.journal, now)
            });
            let body = self.shared.acknowledged(done).await??;
            let claimed = |body: Body| {
                let body = body.read()?;
                Ok(Claimed { body, node: None })
            };
            body.map(claimed).transpose()
        })
    }

    fn write(&self, batch: Vec<Write>) -> BoxFuture<'_, Vec<Result<(), StoreError>>> {
        Box::pin(async move {
            let done = self.shared.change(|state, now, _| {
                batch
                    .iter()
                    .map(|write| state.sessions.write(write, &mut state.journal, now))
                    .collect()
            });
            match self.shared.acknowledged(done).await {
                Ok(answers) => answers,
                Err(Failed) => vec![Err(StoreError::Unavailable); batch.len()],
            }
        })
    }

    fn extend<'a>(
        &'a self,
        sessions: &'a [SessionId],
        ttl_ms: u64,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let done = self.shared.change(|state, now, _| {
                let expires = now.saturating_add(ttl_ms);
                for session in sessions {
                    state
                        .sessions
                        .extend(session, expires, &mut state.journal, now);
                }
            });
            Ok(self.shared.acknowledged(done).await?)
        })
    }

    fn remove<'a>(
        &'a self,
        session: &'a SessionId,
        fence: Fence,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let done = self.shared.change(|state, now, _| {
                state.sessions.fenced(session, fence, now)?;
                state.sessions.forget(session, &mut state.journal);
                Ok(())
            });
            self.shared.acknowledged(done).await?
        })
    }

    fn read<'a>(
        &'a self,
        session: &'a SessionId,
    ) -> BoxFuture<'a, Result<Option<Held>, StoreError>> {
        Box::pin(async move {
            let found = self.shared.look(|state, now| {
                let entry = state.sessions.live(session, now)?;
                Some((entry.fence, Body::of(entry, &state.journal)))
            });
            let found = self.shared.acknowledged(found).await?;
            let read = |(fence, body): (Fence, Body)| {
                let body = body.read()?;
                Ok(Held {
                    checkpoint: Checkpoint { fence, body },
                    node: None,
                })
            };
            found.map(read).transpose()
        })
    }

    fn losses(&self) -> watch::Receiver<u64> {
        // What was written stays written: the count never moves.
        watch::channel(0).1
    }
}
