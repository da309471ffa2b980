//! What nodes tell each other: orders as a log that each follows by cursor, and leases.
//!
//! Owns `$sys:control` (revocations as keyed state, user disconnects), `$sys:node:<id>`
//! (takeovers) and `$sys:nodes` (leases). Called by `gateway`, which acts on what is heard, and by
//! `presence` and `api`; never touches a connection. A node alone goes the same ways.

mod follower;
mod nodes;
mod orders;
mod outbox;
mod questions;
mod revocations;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tidewire_protocol::{ChannelName, Name, Publication};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use self::{follower::Verified, outbox::Outbox, revocations::Revocations};
pub use self::{
    follower::{Follower, Heard},
    nodes::{Lease, Nodes},
    orders::{CONTROL, Order, of_node},
    questions::{Answers, Question, Wanted},
    revocations::{TTL_MS_MAX, Target},
};
use crate::{
    auth::Identity,
    broker::{Broker, BrokerError, PageLimit, StateQuery},
    feed::Feed,
    store::SessionId,
};

/// A node that could not compare `$sys:control` for this long decides nothing about rights.
pub const VERIFIED_MAX: Duration = Duration::from_secs(30);
/// How long a client waits for a node that has just started to have read `$sys:control`.
const FIRST_READ_MAX: Duration = Duration::from_secs(2);
/// How long a probe may take.
const PROBE_MAX: Duration = Duration::from_secs(2);
/// One page of what is read whole.
const STATE_PAGE: PageLimit = PageLimit {
    items: 1024,
    bytes: 1 << 20,
};
/// Wait before a broker that did not answer is asked again.
const RETRY: Duration = Duration::from_millis(250);

/// What this node is told and tells.
#[derive(Debug)]
pub struct Control {
    pub nodes: Arc<Nodes>,
    node: Name,
    feed: Feed,
    revocations: Revocations,
    outbox: Outbox,
    /// When `$sys:control` was last read to its head, and this node's own channel.
    verified: Arc<Verified>,
    own_verified: Arc<Verified>,
    /// Counts the questions asked.
    asked: AtomicU64,
    /// The probes sent, and the last that came back.
    probes: AtomicU64,
    probed: watch::Sender<u64>,
}

impl Control {
    /// Nothing is followed or told before the tasks of `gateway` run.
    pub fn new(node: Name, feed: Feed, nodes: Arc<Nodes>) -> Self {
        Self {
            nodes,
            node,
            revocations: Revocations::new(feed.broker_handle()),
            feed,
            outbox: Outbox::default(),
            verified: Arc::default(),
            own_verified: Arc::default(),
            asked: AtomicU64::new(0),
            probes: AtomicU64::new(0),
            probed: watch::Sender::new(0),
        }
    }

    /// A follower of the orders to all nodes.
    pub fn follow_all(&self) -> Option<Follower> {
        let name = ChannelName::new(CONTROL).ok()?;
        Some(Follower::new(
            self.feed.clone(),
            name,
            Arc::clone(&self.verified),
        ))
    }

    /// A follower of the orders to this node.
    pub fn follow_own(&self) -> Option<Follower> {
        let name = orders::node_channel(&self.node)?;
        Some(Follower::new(
            self.feed.clone(),
            name,
            Arc::clone(&self.own_verified),
        ))
    }

    /// Publishes takeovers as they come.
    pub async fn run_outbox(&self) {
        self.outbox.run(self.feed.broker_handle()).await;
    }

    /// Whether this node knows who is shut out: `$sys:control` was compared within 30 s.
    pub fn is_verified(&self) -> bool {
        self.verified_ago().is_some_and(|ago| ago <= VERIFIED_MAX)
    }

    /// The same; a node that has just started is waited for.
    pub async fn verified(&self) -> bool {
        let first = timeout(FIRST_READ_MAX, self.verified.first()).await;
        first.is_ok() && self.is_verified()
    }

    /// How long ago `$sys:control` was read to its head; none: never.
    pub fn verified_ago(&self) -> Option<Duration> {
        self.verified.at().map(|at| at.elapsed())
    }

    /// Whether what a client presented was withdrawn.
    pub fn shuts_out(&self, identity: &Identity) -> bool {
        self.revocations.shuts_out(identity)
    }

    /// Shuts tokens out for `ttl_ms` on every node.
    ///
    /// # Errors
    /// `Unavailable`, or `StateFull` with as many in force as may be; nobody is shut out then.
    pub async fn revoke(&self, target: Target, ttl_ms: u64) -> Result<(), BrokerError> {
        self.revocations.revoke(target, ttl_ms).await
    }

    /// Takes a publication of `$sys:control` that is a revocation; false: it is not.
    pub fn hear_revocation(&self, publication: &Publication) -> bool {
        self.revocations.hear(publication)
    }

    /// Reads who is shut out, however long that takes.
    pub async fn reload(&self) {
        while let Err(error) = self.revocations.load().await {
            tracing::debug!(%error, "revocations cannot be read");
            sleep(RETRY).await;
        }
    }

    /// Tells every other node to end the sessions of a user.
    ///
    /// # Errors
    /// `Unavailable`: some may have been told.
    pub async fn disconnect_user(&self, user: &Name) -> Result<(), BrokerError> {
        let order = Order::Disconnect {
            user: user.to_string(),
            by: self.node.to_string(),
        };
        self.give(&order, None).await
    }

    /// Tells a node to end a session.
    ///
    /// # Errors
    /// `Unavailable`: it may have been told.
    pub async fn end_session(&self, node: &Name, session: &SessionId) -> Result<(), BrokerError> {
        let session = session.0.to_string();
        let order = Order::End { session };
        self.give(&order, Some(node)).await
    }

    /// Tells a node to leave.
    ///
    /// # Errors
    /// `Unavailable`: it may have been told.
    pub async fn drain_node(&self, node: &Name) -> Result<(), BrokerError> {
        self.give(&Order::Leave, Some(node)).await
    }

    /// A session that `node` held was claimed here: it is told soon.
    pub fn taken(&self, node: Name, session: SessionId, attempt: u64) {
        if node != self.node {
            self.outbox.taken(node, session, attempt);
        }
    }

    /// A round trip: publishes an order to this node and waits until it is heard. Answers whether
    /// it was, in time.
    pub async fn probe(&self) -> bool {
        let mut probed = self.probed.subscribe();
        let n = self.probes.fetch_add(1, Ordering::Relaxed) + 1;
        let round_trip = async {
            // Only what comes after the follower has joined is heard.
            self.own_verified.first().await;
            let order = Order::Probe { n };
            self.give(&order, Some(&self.node)).await.ok()?;
            probed.wait_for(|heard| *heard >= n).await.ok()?;
            Some(())
        };
        matches!(timeout(PROBE_MAX, round_trip).await, Ok(Some(())))
    }

    /// A probe came back.
    pub fn probe_heard(&self, n: u64) {
        self.probed.send_replace(n);
    }

    /// Whether this node gave the order, and has done its own part.
    pub fn is_own(&self, by: &str) -> bool {
        by == self.node.as_str()
    }

    async fn give(&self, order: &Order, to: Option<&Name>) -> Result<(), BrokerError> {
        let publish = order.publish(to).ok_or(BrokerError::Unavailable)?;
        let mut results = self.feed.broker().publish(vec![publish]).await;
        results.pop().ok_or(BrokerError::Unavailable)??;
        Ok(())
    }
}

/// Hands every entry of a channel's state to `take`, page by page.
async fn each_entry(
    broker: &dyn Broker,
    channel: &ChannelName,
    mut take: impl FnMut(&Publication),
) -> Result<(), BrokerError> {
    let mut from = 1;
    loop {
        let query = StateQuery {
            from,
            catch_up: false,
            limit: STATE_PAGE,
        };
        let page = broker.state(channel, query).await?;
        for item in &page.items {
            from = item.publication.offset + 1;
            take(&item.publication);
        }
        if !page.more {
            return Ok(());
        }
    }
}

/// A key that stands for any bytes: a digest, since names may fill a key alone.
pub fn digest_key(bytes: &[u8]) -> Name {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let key: String = digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Name::new(&key).unwrap_or_else(|_valid| unreachable!("hexadecimal digits make a valid name"))
}
