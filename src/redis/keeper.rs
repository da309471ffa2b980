//! Keeps the map of the servers: asks the topology, starts what is new, stops what is gone, and
//! moves what a lane hears when its partition moves.
//!
//! One task of a node. Never talks to a server itself.

use std::{error::Error, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};

use super::{
    Shared,
    address::Topology,
    barrier::Barrier,
    error::RedisError,
    keyspace::Partition,
    lane::Lane,
    map::{Map, Member},
    server::Server,
    topology::{Finder, Shard},
};

/// How often Sentinels are asked, besides every hint.
const SENTINEL_EVERY: Duration = Duration::from_secs(1);
/// How often the slots of a Cluster are looked at, besides every hint.
const CLUSTER_EVERY: Duration = Duration::from_secs(5);
/// Shortest time between two looks: hints come in swarms.
const LOOK_MIN: Duration = Duration::from_millis(100);

impl Shared {
    /// Looks once, and connects to all primaries: for the start of a node.
    pub(super) async fn begin(self: &Arc<Self>, finder: &Finder) -> Result<(), RedisError> {
        let shards = finder.find().await?;
        self.reconcile(shards);
        let map = self.map();
        let connect = async |member: &Arc<Member>| {
            if member.server.link().is_some() {
                return Ok(());
            }
            member.server.connect().await
        };
        for connected in join_all(map.members().iter().map(connect)).await {
            connected?;
        }
        Ok(())
    }

    /// Starts the tasks of the members that are there, and waits a moment for their lanes.
    pub(super) async fn serve(self: &Arc<Self>, finder: Finder) {
        let map = self.map();
        for member in map.members() {
            self.start(member);
        }
        let lanes = map.members().iter().flat_map(|member| &member.lanes);
        join_all(lanes.map(|lane| lane.ready())).await;
        if self.context.dialer.address().topology != Topology::Standalone {
            let shared = Arc::clone(self);
            self.context.tasks.spawn_until_stop(async move {
                shared.keep(&finder).await;
            });
        }
    }

    async fn keep(&self, finder: &Finder) {
        let every = match self.context.dialer.address().topology {
            Topology::Standalone | Topology::Sentinel(_) => SENTINEL_EVERY,
            Topology::Cluster => CLUSTER_EVERY,
        };
        loop {
            let looked = Instant::now();
            // While something is out of reach every second counts.
            let every = if self.context.reach.is_lost() {
                SENTINEL_EVERY
            } else {
                every
            };
            let _hint_or_time = timeout(every, self.context.hint.notified()).await;
            sleep(LOOK_MIN.saturating_sub(looked.elapsed())).await;
            match finder.find().await {
                Ok(shards) => {
                    for member in self.reconcile(shards) {
                        self.start(&member);
                    }
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn Error, "nobody says where redis is");
                }
            }
        }
    }

    /// Makes the map agree with what was found; answers the members that are new.
    fn reconcile(&self, shards: Vec<Shard>) -> Vec<Arc<Member>> {
        let old = self.map();
        let mut fresh = Vec::new();
        let mut members = Vec::with_capacity(shards.len());
        let mut adoptions = Vec::new();
        let mut is_changed = shards.len() != old.members().len();
        for shard in shards {
            let known = old
                .members()
                .iter()
                .find(|member| *member.server.address() == shard.address);
            if let Some(member) = known {
                let before = member.server.partitions();
                if before != shard.partitions {
                    is_changed = true;
                    let is_new = |partition: &Partition| !before.contains(partition);
                    let new: Vec<_> = shard.partitions.iter().copied().filter(is_new).collect();
                    member.server.set_partitions(shard.partitions);
                    adoptions.push((Arc::clone(member), new));
                }
                members.push(Arc::clone(member));
            } else {
                tracing::info!(server = %shard.address, partitions = shard.partitions.len(), "a primary of redis");
                is_changed = true;
                self.context.reach.inherit(&shard.address);
                let member = self.member(shard);
                fresh.push(Arc::clone(&member));
                members.push(member);
            }
        }
        if !is_changed {
            return fresh;
        }
        for gone in old.members() {
            if !members.iter().any(|member| Arc::ptr_eq(member, gone)) {
                tracing::info!(server = %gone.server.address(), "no primary of ours any more");
                gone.server.stop.cancel();
            }
        }
        let partitions = self.context.keyspace.count();
        self.map
            .send_replace(Arc::new(Map::new(members, partitions)));
        for (member, partitions) in adoptions {
            for lane in &member.lanes {
                lane.adopt(&partitions);
            }
        }
        fresh
    }

    fn member(&self, shard: Shard) -> Arc<Member> {
        let (barrier, waiting) = Barrier::new(&self.context);
        let server = Server::new(&self.context, shard.address, shard.partitions);
        let sinks = self.context.sinks.iter().zip(&self.followed).enumerate();
        let lanes = sinks
            .map(|(index, (sink, followed))| {
                Lane::new(&self.context, &server, index, followed, sink)
            })
            .collect();
        Arc::new(Member {
            server,
            lanes,
            barrier,
            waiting: parking_lot::Mutex::new(Some(waiting)),
        })
    }

    fn start(&self, member: &Member) {
        let tasks = &self.context.tasks;
        let server = &member.server;
        tasks.spawn_until_stop(Arc::clone(server).keep());
        for lane in &member.lanes {
            tasks.spawn_until_stop(Arc::clone(lane).keep());
        }
        if let Some(waiting) = member.waiting.lock().take() {
            tasks.spawn_until_stop(waiting.keep(Arc::clone(server), Arc::clone(&self.context)));
        }
    }
}
