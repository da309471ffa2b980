//! Telling clients that the broker is out of reach, and that it is back.
//!
//! Reads what `feed` knows of it; each connection is told once, whoever comes first: this task or
//! its own hello. Never closes a connection: sessions outlive a broker that is away.

use std::{sync::Arc, time::Duration};

use tidewire_protocol::Frame;

use super::{Gateway, connection::Connection};

/// Steps in which all are told, and the wait between two: within a second, and no thread writes to
/// all sockets at once.
const STEPS: usize = 40;
const STEP_EVERY: Duration = Duration::from_millis(20);

/// Tells every connection whenever it changes.
pub async fn run(gateway: Arc<Gateway>) {
    let mut stale = gateway.feed.logs().doubts().stale();
    while stale.changed().await.is_ok() {
        let is_stale = stale.borrow_and_update().is_some();
        tracing::warn!(is_stale, "what clients see may be old");
        let connections = gateway.connections();
        for step in connections.chunks(connections.len().div_ceil(STEPS).max(1)) {
            step.iter().for_each(tell);
            tokio::time::sleep(STEP_EVERY).await;
        }
    }
}

/// Tells a connection what it was not told yet.
pub fn tell(connection: &Arc<Connection>) {
    let mut out = connection.lock();
    // Under the lock: whoever tells last tells what holds.
    let since = connection.gateway.feed.logs().doubts().stale_since();
    if out.told_stale == since.is_some() {
        return;
    }
    out.told_stale = since.is_some();
    let frame = Frame::Stale {
        channel: None,
        since: since.unwrap_or(0),
    };
    out.push(connection.encoding, &frame);
    connection.pull_under(&mut out);
}
