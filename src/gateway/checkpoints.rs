//! Writing sessions down: coalesced, at a bounded rate, each write a claim.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tidewire_protocol::CloseCode;

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
/// Most checkpoints of one round: 2,000 a second, so that a storm does not fill the store.
const ROUND_MAX: usize = 500;

/// Connections whose session the store does not know as it is.
#[derive(Debug, Default)]
pub struct Checkpoints {
    pending: Mutex<BTreeMap<ConnectionId, Arc<Connection>>>,
}

impl Checkpoints {
    /// The session is to be written in the next round.
    pub fn note(&self, connection: &Arc<Connection>) {
        self.pending
            .lock()
            .entry(connection.id)
            .or_insert_with(|| Arc::clone(connection));
    }

    /// Notes a session whose subscriptions changed.
    pub fn note_changed(&self, connection: &Arc<Connection>) {
        if connection.with_session(|session| session.unwritten()) == Some(Unwritten::Subscriptions)
        {
            self.note(connection);
        }
    }

    /// Notes a session with anything unwritten: called once a heartbeat, which is how often
    /// floors are worth a write.
    pub fn note_floors(&self, connection: &Arc<Connection>) {
        if connection
            .with_session(|session| session.unwritten())
            .is_some_and(|unwritten| unwritten > Unwritten::None)
        {
            self.note(connection);
        }
    }

    fn take(&self) -> Vec<Arc<Connection>> {
        let mut pending = self.pending.lock();
        let mut taken = Vec::new();
        while taken.len() < ROUND_MAX
            && let Some((_, connection)) = pending.pop_first()
        {
            taken.push(connection);
        }
        taken
    }
}

/// Writes what was noted, round by round.
pub async fn run(gateway: Arc<Gateway>) {
    loop {
        tokio::time::sleep(COALESCE).await;
        round(&gateway).await;
    }
}

/// Extends the lives of all sessions with a connection, every half of their time.
pub async fn extend(gateway: Arc<Gateway>) {
    let ttl_ms = gateway.session_ttl_ms();
    loop {
        tokio::time::sleep(Duration::from_millis((ttl_ms / 2).max(1))).await;
        let sessions: Vec<SessionId> = gateway.session_ids();
        for chunk in sessions.chunks(ROUND_MAX) {
            if let Err(error) = gateway.store.extend(chunk, 2 * ttl_ms).await {
                tracing::warn!(%error, "the lives of sessions were not extended");
            }
        }
    }
}

async fn round(gateway: &Gateway) {
    let connections = gateway.checkpoints.take();
    let (mut writes, mut writers) = (Vec::new(), Vec::new());
    for connection in connections {
        if let Some(write) = write_of(gateway, &connection, true) {
            writes.push(write);
            writers.push(connection);
        }
    }
    if writes.is_empty() {
        return;
    }
    gateway.metrics.store_writes.increment(writes.len() as u64);
    for (connection, result) in writers.iter().zip(gateway.store.write(writes).await) {
        match result {
            Ok(()) => {}
            Err(StoreError::Fenced { attempt }) => {
                connection.close(CloseCode::Replaced, None, Some(attempt))
            }
            Err(StoreError::Unavailable) => {
                connection.with_session(crate::session::Session::write_failed);
                gateway.checkpoints.note(connection);
            }
        }
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
