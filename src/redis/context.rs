//! What every connection of a node shares: how to connect, deadlines, partitions, scripts, the
//! newest generations, and whom to tell of doubts.
//!
//! Built once by `Redis::open`. Owns no connection and no task.

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;

use super::{
    address::Topology,
    connect::Dialer,
    events::Sink,
    generation::Seen,
    keyspace::{Keyspace, Partition},
    offsets::Offsets,
    reach::Reach,
    safety::Safety,
    script::Script,
};
use crate::{config, tasks::Tasks, telemetry::metrics::Metrics};

/// How long the handshake of a connection may take: the slowest read, and some more.
const HANDSHAKE_EXTRA: Duration = Duration::from_millis(500);

/// Bounds of waiting.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    pub(super) write: Duration,
    pub(super) read: Duration,
    pub(super) handshake: Duration,
}

impl Deadlines {
    pub(super) fn new(config: &config::Redis) -> Self {
        Self {
            write: config.write_deadline,
            read: config.read_deadline,
            handshake: config.read_deadline + HANDSHAKE_EXTRA,
        }
    }
}

/// What is shared.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) dialer: Dialer,
    pub(super) deadlines: Deadlines,
    pub(super) keyspace: Keyspace,
    pub(super) scripts: Vec<&'static Script>,
    pub(super) seen: Seen,
    pub(super) reach: Reach,
    pub(super) safety: Safety,
    pub(super) offsets: Offsets,
    /// Something hints at other primaries: the topology is to be looked at now.
    pub(super) hint: Notify,
    /// One for each lane.
    pub(super) sinks: Vec<Arc<Sink>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) tasks: Tasks,
}

impl Context {
    /// Whether pub/sub goes by slots: in a Redis Cluster.
    pub(super) fn is_sharded(&self) -> bool {
        self.dialer.address().topology == Topology::Cluster
    }

    /// Sets the metric after a change.
    pub(super) fn tell_safety(&self) {
        let is_safe = f64::from(u8::from(self.safety.is_safe()));
        self.metrics.broker_config_safe.set(is_safe);
    }

    /// Doubts partitions in every lane.
    pub(super) fn doubt(&self, partitions: &[Partition]) {
        for sink in &self.sinks {
            sink.doubt(partitions.iter().copied());
        }
    }
}
