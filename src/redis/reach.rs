//! Since when Redis is out of reach, over all servers.
//!
//! Told by the keepers of connections, watched by the broker. Never decides by itself.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::address::ServerAddress;
use crate::clock;

/// The servers that are out of reach.
#[derive(Debug)]
pub(super) struct Reach {
    lost: Mutex<BTreeMap<ServerAddress, u64>>,
    since: watch::Sender<Option<u64>>,
}

impl Reach {
    pub(super) fn new() -> Self {
        Self {
            lost: Mutex::default(),
            since: watch::Sender::new(None),
        }
    }

    pub(super) fn watch(&self) -> watch::Receiver<Option<u64>> {
        self.since.subscribe()
    }

    pub(super) fn is_lost(&self) -> bool {
        self.since.borrow().is_some()
    }

    pub(super) fn is_lost_at(&self, server: &ServerAddress) -> bool {
        self.lost.lock().contains_key(server)
    }

    /// A server takes the place of one that is out of reach: it is, too, until it answers.
    pub(super) fn inherit(&self, server: &ServerAddress) {
        let mut lost = self.lost.lock();
        if let Some(since) = lost.values().min().copied() {
            lost.insert(server.clone(), since);
        }
    }

    /// The server does not answer; the first time counts.
    pub(super) fn lose(&self, server: &ServerAddress) {
        let mut lost = self.lost.lock();
        if !lost.contains_key(server) {
            tracing::warn!(%server, "redis is out of reach");
            lost.insert(server.clone(), clock::now_ms());
        }
        self.tell(&lost);
    }

    /// The server answers, or is none of ours any more.
    pub(super) fn regain(&self, server: &ServerAddress) {
        let mut lost = self.lost.lock();
        if lost.remove(server).is_some() {
            tracing::info!(%server, "redis is in reach again");
        }
        self.tell(&lost);
    }

    fn tell(&self, lost: &BTreeMap<ServerAddress, u64>) {
        let first = lost.values().min().copied();
        self.since.send_if_modified(|since| {
            let changed = *since != first;
            *since = first;
            changed
        });
    }
}
