//! Writing sessions down: coalesced, at a bounded rate, each write a claim.
//!
//! Owns which sessions the store does not know as they are, those of ended connections among
//! them. Called by whoever changes a session; what the store refuses for a while stays noted.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tidewire_protocol::CloseCode;
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    Gateway,
    connection::{Connection, ConnectionId},
};
use crate::{
    session::Unwritten,
    store::{Checkpoint, SessionId, StoreError, Write},
};

/// How long changes gather before they are written.
const COALESCE: Duration = Duration::from_millis(250);
/// Longest wait while the store does not answer.
const COALESCE_MAX: Duration = Duration::from_secs(2);
/// Most checkpoints of one round: 2,000 a second, so that a storm does not fill the store.
const ROUND_MAX: usize = 500;
/// Most bytes of sessions whose connection ended while the store was away. Past it the checkpoint
/// before the last change stands; the client's own positions win over it anyway.
const ENDED_BYTES_MAX: usize = 64 << 20;
/// What each of them costs besides its body.
const ENDED_BYTES: usize = 256;

/// Sessions the store does not know as they are.
#[derive(Debug, Default)]
pub struct Checkpoints {
    pending: Mutex<Pending>,
}

#[derive(Debug, Default)]
struct Pending {
    /// In the order they were noted, so that none waits for ever.
    queue: VecDeque<Arc<Connection>>,
    noted: HashSet<ConnectionId>,
    /// Sessions without a connection, and until when their checkpoint is worth a write.
    ended: BTreeMap<SessionId, (Write, Instant)>,
    ended_bytes: usize,
}

impl Pending {
    fn note(&mut self, connection: &Arc<Connection>) {
        if self.noted.insert(connection.id) {
            self.queue.push_back(Arc::clone(connection));
        }
    }

    fn take(&mut self) -> (Vec<Write>, Vec<Arc<Connection>>) {
        let (mut ended, mut connections) = (Vec::new(), Vec::new());
        let now = Instant::now();
        while ended.len() < ROUND_MAX
            && let Some((session, (write, until))) = self.ended.pop_first()
        {
            self.ended_bytes -= cost(&session, &write);
            if now < until {
                ended.push(write);
            }
        }
        while ended.len() + connections.len() < ROUND_MAX
            && let Some(connection) = self.queue.pop_front()
        {
            self.noted.remove(&connection.id);
            connections.push(connection);
        }
        (ended, connections)
    }
}

fn cost(session: &SessionId, write: &Write) -> usize {
    ENDED_BYTES + session.0.len() + write.checkpoint.body.len()
}

impl Checkpoints {
    /// The session is to be written in one of the next rounds.
    pub fn note(&self, connection: &Arc<Connection>) {
        self.pending.lock().note(connection);
    }

    /// Notes a session whose subscriptions changed.
    pub fn note_changed(&self, connection: &Arc<Connection>) {
        if connection.with_session(|session| session.unwritten()) == Some(Unwritten::Subscriptions)
        {
            self.note(connection);
        }
    }

    /// Notes a session with anything unwritten, floors included.
    pub fn note_floors(&self, connection: &Arc<Connection>) {
        if connection
            .with_session(|session| session.unwritten())
            .is_some_and(|unwritten| unwritten > Unwritten::None)
        {
            self.note(connection);
        }
    }

    /// Notes every session: the store may have forgotten who owns them, or others may have
    /// claimed them unnoticed. Each write is a claim and tells which.
    pub fn note_all(&self, gateway: &Gateway) {
        for connection in gateway.connections() {
            self.note(&connection);
        }
    }

    /// Keeps the last checkpoint of a session whose connection ended while the store was away.
    fn keep(&self, write: Write) {
        let mut pending = self.pending.lock();
        let cost = cost(&write.session, &write);
        if pending.ended_bytes + cost > ENDED_BYTES_MAX {
            tracing::warn!(session_id = %write.session.0, "no room to keep a checkpoint");
            return;
        }
        let until = Instant::now() + Duration::from_millis(write.ttl_ms);
        pending.ended_bytes += cost;
        let session = write.session.clone();
        if let Some((old, _)) = pending.ended.insert(session.clone(), (write, until)) {
            pending.ended_bytes -= self::cost(&session, &old);
        }
    }

    /// Takes back the kept checkpoint of a session.
    fn take_kept(&self, session: &SessionId) -> Option<Write> {
        let mut pending = self.pending.lock();
        let (write, _) = pending.ended.remove(session)?;
        pending.ended_bytes -= cost(session, &write);
        Some(write)
    }

    fn is_empty(&self) -> bool {
        let pending = self.pending.lock();
        pending.queue.is_empty() && pending.ended.is_empty()
    }
}

/// Writes what was noted, round by round, and all sessions whenever the store may have forgotten
/// some, or this node's lease had ended.
pub async fn run(gateway: Arc<Gateway>) {
    let mut losses = gateway.store.losses();
    let mut lapses = gateway.control.nodes.lapses();
    let mut wait = COALESCE;
    loop {
        sleep(wait).await;
        let lost = losses.has_changed().unwrap_or(false);
        if lost || lapses.has_changed().unwrap_or(false) {
            losses.mark_unchanged();
            lapses.mark_unchanged();
            tracing::info!(lost, "every session is written again");
            gateway.checkpoints.note_all(&gateway);
        }
        wait = if round(&gateway).await {
            COALESCE
        } else {
            (2 * wait).min(COALESCE_MAX)
        };
    }
}

/// Writes everything that is noted or unwritten, until `deadline`: before the node's clients are
/// moved.
pub async fn flush(gateway: &Gateway, deadline: Instant) {
    for connection in gateway.connections() {
        gateway.checkpoints.note_floors(&connection);
    }
    let written = async {
        while !gateway.checkpoints.is_empty() {
            if !round(gateway).await {
                sleep(COALESCE).await;
            }
        }
    };
    if timeout_at(deadline, written).await.is_err() {
        tracing::warn!("not every session could be written down in time");
    }
}

/// Extends the lives of all sessions with a connection, every half of their time.
pub async fn extend(gateway: Arc<Gateway>) {
    let ttl_ms = gateway.session_ttl_ms();
    loop {
        sleep(Duration::from_millis((ttl_ms / 2).max(1))).await;
        let sessions: Vec<SessionId> = gateway.session_ids();
        for chunk in sessions.chunks(ROUND_MAX) {
            if let Err(error) = gateway.store.extend(chunk, 2 * ttl_ms).await {
                tracing::warn!(%error, "the lives of sessions were not extended");
            }
            sleep(COALESCE).await;
        }
    }
}

/// Writes one round; false: the store does not answer, and what it did not take is noted again.
async fn round(gateway: &Gateway) -> bool {
    let (mut writes, connections) = gateway.checkpoints.pending.lock().take();
    let mut writers: Vec<Option<Arc<Connection>>> = vec![None; writes.len()];
    for connection in connections {
        if let Some(write) = write_of(gateway, &connection, true) {
            writes.push(write);
            writers.push(Some(connection));
        }
    }
    if writes.is_empty() {
        return true;
    }
    let ended: Vec<_> = writes
        .iter()
        .zip(&writers)
        .map(|(write, writer)| writer.is_none().then(|| write.clone()))
        .collect();
    let results = gateway.store.write(writes).await;
    let (mut written, mut answers) = (0, true);
    for ((writer, ended), result) in writers.into_iter().zip(ended).zip(results) {
        match (result, writer) {
            (Ok(()), _) => written += 1,
            (Err(StoreError::Fenced { attempt }), Some(connection)) => {
                connection.close(CloseCode::Replaced, None, Some(attempt));
            }
            // Whoever claimed it goes on from the checkpoint before.
            (Err(StoreError::Fenced { .. }), None) => {}
            (Err(StoreError::Unavailable), Some(connection)) => {
                answers = false;
                connection.with_session(crate::session::Session::write_failed);
                gateway.checkpoints.note(&connection);
            }
            (Err(StoreError::Unavailable), None) => {
                answers = false;
                if let Some(write) = ended {
                    gateway.checkpoints.keep(write);
                }
            }
        }
    }
    gateway.metrics.store_writes.increment(written);
    answers
}

/// Writes the last checkpoint of a session whose connection ended; true: another claim has it.
pub async fn write_last(gateway: &Gateway, write: Write) -> bool {
    let kept = write.clone();
    let result = gateway.store.write(vec![write]).await.pop();
    match result.unwrap_or(Err(StoreError::Unavailable)) {
        Ok(()) => false,
        Err(StoreError::Fenced { .. }) => true,
        Err(StoreError::Unavailable) => {
            gateway.checkpoints.keep(kept);
            false
        }
    }
}

/// Writes what this node kept of a session that is about to be claimed.
pub async fn write_kept(gateway: &Gateway, session: &SessionId) {
    if let Some(write) = gateway.checkpoints.take_kept(session) {
        write_last(gateway, write).await;
    }
}

/// The checkpoint of a connection's session as it is. `connected`: it goes on here.
pub fn write_of(gateway: &Gateway, connection: &Connection, connected: bool) -> Option<Write> {
    connection.with_session(|session| Write {
        session: session.id.clone(),
        checkpoint: Checkpoint {
            fence: session.fence,
            body: session.checkpoint(),
        },
        ttl_ms: 2 * gateway.session_ttl_ms(),
        connected,
    })
}
