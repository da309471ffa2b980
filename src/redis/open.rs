//! The first connection: waits for Redis for a bounded time, then says what to do.
//!
//! Called by `node` once. Owns the start of every task of this module.

use std::{error::Error, sync::Arc};

use futures_util::future::join_all;
use tokio::{sync::watch, time::Instant};

use super::{
    Redis, RedisError, Script, Shared,
    connect::Dialer,
    context::{Context, Deadlines},
    events::{LaneEvents, Sink},
    generation::Seen,
    keyspace::Keyspace,
    lane::{Followed, Lane},
    map::{Map, Member},
    reach::Reach,
    server::Server,
    wait::Waits,
};
use crate::{config, redis::address::Address, tasks::Tasks, telemetry::metrics::Metrics};

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
        let keyspace = Keyspace::new(&config.prefix, config.partitions_of(address));
        let partitions = keyspace.count();
        let context = Arc::new(Context {
            dialer: Dialer::new(address.clone(), config.ca.as_deref())?,
            deadlines: Deadlines::new(config),
            keyspace,
            scripts,
            seen: Seen::new(partitions),
            reach: Reach::new(),
            sinks,
            metrics: Arc::clone(metrics),
            tasks: tasks.clone(),
        });
        let followed: Vec<Arc<Followed>> = (0..lanes).map(|_| Arc::default()).collect();
        let server = address.seeds.first().ok_or(RedisError::NoPrimary)?.clone();
        let server = Server::new(&context, server, context.keyspace.all().collect());
        patiently(config, address, async || server.connect().await).await?;
        let member = begin(&context, server, &followed);
        join_all(member.lanes.iter().map(|lane| lane.ready())).await;
        let shared = Shared {
            map: watch::Sender::new(Arc::new(Map::new(vec![member], partitions))),
            context,
            followed,
        };
        let redis = Self {
            shared: Arc::new(shared),
        };
        Ok((redis, events))
    }
}

/// Starts the tasks of one server.
fn begin(context: &Arc<Context>, server: Arc<Server>, followed: &[Arc<Followed>]) -> Arc<Member> {
    let lanes: Vec<_> = context
        .sinks
        .iter()
        .zip(followed)
        .enumerate()
        .map(|(index, (sink, followed))| Lane::new(context, &server, index, followed, sink))
        .collect();
    for lane in &lanes {
        context.tasks.spawn_until_stop(Arc::clone(lane).keep());
    }
    context.tasks.spawn_until_stop(Arc::clone(&server).keep());
    Arc::new(Member { server, lanes })
}

/// Tries until it works, the configuration turns out to be wrong, or patience ends.
async fn patiently<T>(
    config: &config::Redis,
    address: &Address,
    attempt: impl AsyncFn() -> Result<T, RedisError>,
) -> Result<T, RedisError> {
    let started = Instant::now();
    let mut waits = Waits::default();
    loop {
        let error = match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
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
}
