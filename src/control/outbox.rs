//! Takeovers on their way to the nodes that held the sessions.
//!
//! Owns what waits to be told: gathered by node, so that a storm of resumes costs each other node
//! a few publications. Called at every claim. What is dropped here is not lost: the old owner's
//! next checkpoint is refused by the fence.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tidewire_protocol::Name;
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use super::orders::Order;
use crate::{broker::Broker, store::SessionId};

/// Most takeovers waiting while the broker is away; a claim needs the store, so few get here then.
const WAITING_MAX: usize = 65_536;
/// Takeovers in one publication: stays far below the largest one.
const PER_ORDER: usize = 256;
/// Orders in one step of the broker.
const BATCH_MAX: usize = 64;
/// Wait before a broker that did not answer is asked again.
const RETRY: Duration = Duration::from_millis(250);
/// A takeover older than this is for the fence.
const AGE_MAX: Duration = Duration::from_secs(60);

/// A takeover: the session, the attempt that has it now, since when it waits.
type Takeover = (SessionId, u64, Instant);

/// What waits to be told.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: Mutex<BTreeMap<Name, Vec<Takeover>>>,
    bell: Notify,
}

impl Outbox {
    /// `node` is to close its connection of a session, unless its attempt is higher.
    pub fn taken(&self, node: Name, session: SessionId, attempt: u64) {
        let mut waiting = self.waiting.lock();
        let held: usize = waiting.values().map(Vec::len).sum();
        if held < WAITING_MAX {
            let takeover = (session, attempt, Instant::now());
            waiting.entry(node).or_default().push(takeover);
        }
        drop(waiting);
        self.bell.notify_one();
    }

    /// Publishes what waits.
    pub async fn run(&self, broker: Arc<dyn Broker>) {
        loop {
            self.bell.notified().await;
            while !self.round(&*broker).await {
                sleep(RETRY).await;
            }
        }
    }

    /// Publishes once; false: some must wait.
    async fn round(&self, broker: &dyn Broker) -> bool {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        let mut orders = Vec::new();
        for (node, takeovers) in &waiting {
            for chunk in takeovers.chunks(PER_ORDER) {
                let fresh = chunk
                    .iter()
                    .filter(|(_, _, since)| since.elapsed() < AGE_MAX);
                let fresh: Vec<_> = fresh.cloned().collect();
                orders.push((node, fresh));
            }
        }
        let mut whole = true;
        for batch in orders.chunks(BATCH_MAX) {
            let publishes = batch.iter().filter_map(|(node, takeovers)| {
                let named = |(session, attempt, _): &Takeover| (session.0.to_string(), *attempt);
                let sessions = takeovers.iter().map(named).collect();
                Order::Taken { sessions }.publish(Some(node))
            });
            let results = broker.publish(publishes.collect()).await;
            for ((node, takeovers), result) in batch.iter().zip(results) {
                if let Err(error) = result {
                    tracing::debug!(%error, %node, "takeovers could not be told");
                    whole = false;
                    let mut waiting = self.waiting.lock();
                    waiting
                        .entry(Name::clone(node))
                        .or_default()
                        .extend(takeovers.iter().cloned());
                }
            }
        }
        whole
    }
}
