//! Which nodes live: each holds a lease, a key of `$sys:nodes` that expires unless it is renewed.
//!
//! Owns this node's lease and the view of the others', with how long that view has been whole:
//! who could not look cannot say that a node is gone. Called by presence and drain; never sweeps.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tidewire_protocol::{ChannelName, Name, Payload, frame::Acknowledge};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    each_entry,
    orders::{KEYS_MAX, of_node},
};
use crate::{
    auth::operator,
    broker::{Broker, BrokerError, Publish, Retention},
};

/// How long a lease stands without being renewed, ms.
const LEASE_MS: u64 = 15_000;
/// How often it is renewed: two renewals may fail.
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// The same while an operator looks at the nodes, a little less than the time between two ticks.
const OBSERVED_EVERY: Duration = Duration::from_millis(900);
/// How often leases are looked at; with the lease's length and the sweep, members of a killed node
/// leave within 20 s.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// What failed is tried again this often.
const TICK: Duration = Duration::from_secs(1);
/// Looks further apart than this are two views: the node was frozen, or the broker away.
const VIEW_BREAKS: Duration = Duration::from_secs(7);

/// What a node says of itself in its lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// When it started, Unix ms.
    #[serde(default)]
    pub started: u64,
    /// Where it listens.
    #[serde(default)]
    pub address: String,
    /// Open connections.
    #[serde(default)]
    pub connections: usize,
    /// Sessions with a connection there.
    #[serde(default)]
    pub sessions: usize,
    /// Whether it is leaving: nobody is moved there.
    #[serde(default)]
    pub draining: bool,
    /// Whether an operator looks at the nodes there: all renew more often then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub observed: bool,
    /// What operators see of it; `admin` makes and reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<serde_json::Value>,
}

/// The view of all leases.
#[derive(Debug, Default)]
struct View {
    living: BTreeMap<Name, Lease>,
    /// Nodes whose lease this node saw end, and whose members nobody swept yet as far as it knows.
    departed: BTreeSet<Name>,
    /// The first and the last look of the present view.
    looked: Option<(Instant, Instant)>,
    renewed: Option<Instant>,
}

/// The leases of the cluster.
#[derive(Debug)]
pub struct Nodes {
    broker: Arc<dyn Broker>,
    node: Name,
    /// Nobody else can be on this broker: every other lease is of an earlier run of this node.
    alone: bool,
    draining: AtomicBool,
    observed: AtomicBool,
    row: Mutex<Option<serde_json::Value>>,
    view: Mutex<View>,
    lapses: watch::Sender<u64>,
}

impl Nodes {
    /// The leases as `node` sees them; nothing is written before `run`.
    pub fn new(broker: Arc<dyn Broker>, node: Name, alone: bool) -> Self {
        Self {
            broker,
            node,
            alone,
            draining: AtomicBool::new(false),
            observed: AtomicBool::new(false),
            row: Mutex::default(),
            view: Mutex::default(),
            lapses: watch::Sender::new(0),
        }
    }

    /// Counts how often this node's lease had ended before it was renewed: others may have swept
    /// its members.
    pub fn lapses(&self) -> watch::Receiver<u64> {
        self.lapses.subscribe()
    }

    /// Says with the next renewal that this node leaves.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.view.lock().renewed = None;
    }

    /// Takes what the next renewals show of this node.
    pub fn show(&self, row: serde_json::Value) {
        *self.row.lock() = Some(row);
    }

    /// Notes whether an operator looks at the nodes from here.
    pub fn observe(&self, observed: bool) {
        self.observed.store(observed, Ordering::Relaxed);
    }

    /// Whether an operator looks at the nodes, here or on any node.
    pub fn is_observed(&self) -> bool {
        self.observed.load(Ordering::Relaxed)
            || self.view.lock().living.values().any(|lease| lease.observed)
    }

    /// Every node that lives, as it last said; this one is in it once it has looked.
    pub fn leases(&self) -> BTreeMap<Name, Lease> {
        self.view.lock().living.clone()
    }

    /// How many other nodes could take this one's clients.
    pub fn takers(&self) -> usize {
        let view = self.view.lock();
        let takes = |(name, lease): &(&Name, &Lease)| **name != self.node && !lease.draining;
        view.living.iter().filter(takes).count()
    }

    /// How many nodes live, this one included.
    pub fn living(&self) -> usize {
        self.view.lock().living.len().max(1)
    }

    /// For how long leases have been seen without a break; zero while they cannot be read.
    pub fn watched(&self) -> Duration {
        match self.view.lock().looked {
            Some((first, last)) if last.elapsed() < VIEW_BREAKS => first.elapsed(),
            Some(_) | None => Duration::ZERO,
        }
    }

    /// Whether a node holds its lease.
    pub fn is_living(&self, node: &Name) -> bool {
        *node == self.node || self.view.lock().living.contains_key(node)
    }

    /// Nodes whose lease ended, in the order of names.
    pub fn departed(&self) -> Vec<Name> {
        self.view.lock().departed.iter().cloned().collect()
    }

    /// Notes a node that left members behind, as found in the broker.
    pub fn note_departed(&self, node: Name) {
        if !self.is_living(&node) {
            self.view.lock().departed.insert(node);
        }
    }

    /// The members of a node were swept.
    pub fn swept(&self, node: &Name) {
        self.view.lock().departed.remove(node);
    }

    /// This node's turn among those that could sweep after `departed`: 0 goes first. All nodes
    /// that see the same leases agree.
    pub fn turn(&self, departed: &Name) -> usize {
        let rank = |node: &Name| super::digest_key(format!("{departed} {node}").as_bytes());
        let own = rank(&self.node);
        let view = self.view.lock();
        let others = view.living.keys().filter(|node| **node != self.node);
        others.filter(|node| rank(node) < own).count()
    }

    /// Keeps the lease and the view; `say` is what the lease holds.
    pub async fn run(&self, say: impl Fn() -> Lease + Send + Sync) {
        let mut every = interval(TICK);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            let renew_every = if self.is_observed() {
                OBSERVED_EVERY
            } else {
                RENEW_EVERY
            };
            let renewed = self.view.lock().renewed;
            if renewed.is_none_or(|at| at.elapsed() >= renew_every) {
                self.renew(say()).await;
            }
            let looked = self.view.lock().looked;
            if looked.is_none_or(|(_, last)| last.elapsed() >= LOOK_EVERY)
                && let Err(error) = self.look().await
            {
                tracing::debug!(%error, "the leases of nodes cannot be read");
            }
        }
    }

    /// Renews the lease at once. A node that leaves within a tick says so with its last one.
    pub async fn renew(&self, mut lease: Lease) {
        lease.draining = self.draining.load(Ordering::Relaxed);
        lease.observed = self.observed.load(Ordering::Relaxed);
        lease.row = self.row.lock().clone();
        let Some(publish) = self.publish(&lease) else {
            return;
        };
        let begun = Instant::now();
        let failed = self.broker.publish(vec![publish]).await.into_iter();
        if let Some(error) = failed.filter_map(Result::err).next() {
            tracing::debug!(%error, "this node's lease was not renewed");
            return;
        }
        let before = self.view.lock().renewed.replace(begun);
        let lapsed = |at: Instant| at.elapsed() > Duration::from_millis(LEASE_MS);
        if before.is_some_and(lapsed) {
            tracing::warn!("this node's lease had ended; its members are put in place again");
            self.lapses.send_modify(|count| *count += 1);
        }
    }

    fn publish(&self, lease: &Lease) -> Option<Publish> {
        let retention = Retention {
            history_size: 0,
            history_ttl_ms: 0,
            state: true,
            state_keys: KEYS_MAX,
            state_ttl_ms: LEASE_MS,
            tombstone_ttl_ms: LEASE_MS,
            dedup_ttl_ms: LEASE_MS,
            acknowledge: Acknowledge::Log,
        };
        Some(Publish {
            key: Some(self.node.clone()),
            ttl_ms: Some(LEASE_MS),
            ..of_node(ChannelName::new(operator::NODES).ok()?, retention, lease)?
        })
    }

    async fn look(&self) -> Result<(), BrokerError> {
        let Ok(channel) = ChannelName::new(operator::NODES) else {
            return Ok(());
        };
        let begun = Instant::now();
        let (mut living, mut former) = (BTreeMap::new(), Vec::new());
        each_entry(&*self.broker, &channel, |entry| {
            let Some(name) = entry.key.clone() else {
                return;
            };
            if self.alone && name != self.node {
                former.push(name);
            } else if let Some(Payload::Json(text)) = &entry.payload
                && let Ok(lease) = serde_json::from_slice(text)
            {
                living.insert(name, lease);
            }
        })
        .await?;
        self.saw(living, former, begun);
        Ok(())
    }

    fn saw(&self, living: BTreeMap<Name, Lease>, former: Vec<Name>, begun: Instant) {
        let mut view = self.view.lock();
        let before = std::mem::replace(&mut view.living, living);
        let gone = before.into_keys().filter(|name| *name != self.node);
        let gone: Vec<_> = gone.chain(former).collect();
        for name in gone {
            if !view.living.contains_key(&name) {
                view.departed.insert(name);
            }
        }
        let View {
            living, departed, ..
        } = &mut *view;
        departed.retain(|name| !living.contains_key(name));
        let first = match view.looked {
            Some((first, last)) if begun.duration_since(last) < VIEW_BREAKS => first,
            Some(_) | None => begun,
        };
        view.looked = Some((first, Instant::now()));
    }
}
