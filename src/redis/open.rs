//! The first connection: waits for Redis for a bounded time, then says what to do.
//!
//! Called by `node` once.

use std::{error::Error, sync::Arc};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{
    Redis, RedisError, Script, Shared,
    address::Address,
    connect::Dialer,
    context::{Context, Deadlines},
    events::{LaneEvents, Sink},
    generation::Seen,
    keyspace::Keyspace,
    map::Map,
    offsets::Offsets,
    reach::Reach,
    safety::Safety,
    topology::Finder,
    wait::Waits,
};
use crate::{config, tasks::Tasks, telemetry::metrics::Metrics};

impl Redis {
    /// Connects to every primary and begins to keep the connections, with `scripts` loaded on
    /// each. Answers one [`LaneEvents`] for each of `redis.lanes`.
    ///
    /// # Errors
    /// Says what to change: Redis was not reached within `redis.start_patience`, or holds data
    /// of another configuration.
    pub async fn open(
        config: &config::Redis,
        address: &Address,
        scripts: Vec<&'static Script>,
        tasks: &Tasks,
        metrics: &Arc<Metrics>,
    ) -> Result<(Self, Vec<LaneEvents>), RedisError> {
        let lanes = config.lanes.get();
        let (sinks, events): (Vec<_>, Vec<_>) = (0..lanes).map(|_| Sink::new()).unzip();
        let keyspace = Keyspace::new(&prefix(config, address), config.partitions_of(address));
        let context = Arc::new(Context {
            dialer: Dialer::new(address.clone(), config.ca.as_deref())?,
            deadlines: Deadlines::new(config),
            seen: Seen::new(keyspace.count()),
            keyspace,
            scripts,
            reach: Reach::new(),
            safety: Safety::new(),
            offsets: Offsets::new(metrics),
            hint: Notify::new(),
            sinks,
            metrics: Arc::clone(metrics),
            tasks: tasks.clone(),
        });
        let finder = Finder::new(&context);
        let shared = Arc::new(Shared {
            map: watch::Sender::new(Arc::new(Map::default())),
            context,
            followed: (0..lanes).map(|_| Arc::default()).collect(),
        });
        let mut waits = Waits::default();
        let started = Instant::now();
        while let Err(error) = shared.begin(&finder).await {
            if !error.is_passing() {
                return Err(error);
            }
            if started.elapsed() >= config.start_patience {
                return Err(RedisError::Start {
                    url: address.to_string(),
                    within: config.start_patience,
                    source: Box::new(error),
                });
            }
            tracing::warn!(url = %address, error = &error as &dyn Error, "waiting for redis");
            waits.next().await;
        }
        shared.serve(finder).await;
        Ok((Self { shared }, events))
    }
}

/// Databases of one server share its pub/sub channels: hubs in two of them must not hear each
/// other.
fn prefix(config: &config::Redis, address: &Address) -> String {
    match address.database {
        0 => config.prefix.clone(),
        number => format!("{}.{number}", config.prefix),
    }
}
