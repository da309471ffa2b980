//! The connections to Redis, under `broker::redis` and `store::redis`.
//!
//! Owns where each partition is, the connections to its primary, whether that primary can be
//! trusted, and the lanes that hear announcements. It knows partitions, scripts and bytes; it never
//! knows a channel, a session or what a script does.

mod address;
mod barrier;
mod call;
mod calls;
mod connect;
mod context;
mod ear;
mod error;
mod events;
mod follow;
mod generation;
mod keeper;
mod keyspace;
mod lane;
mod link;
mod map;
mod offsets;
mod open;
mod reach;
mod safety;
mod script;
mod server;
#[cfg(test)]
pub(crate) mod tests;
mod topology;
mod wait;

use std::sync::Arc;

use redis::Value;
use tokio::sync::watch;

pub use self::{
    address::{Address, Topology},
    call::{Call, Interest, judged},
    error::{CallError, RedisError},
    events::{LaneEvent, LaneEvents},
    keyspace::{PARTITIONS_MAX, Partition},
    safety::Finding,
    script::Script,
};
use self::{context::Context, ear::Followed, map::Map};

/// The connections; cheap to clone.
#[derive(Debug, Clone)]
pub struct Redis {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    context: Arc<Context>,
    map: watch::Sender<Arc<Map>>,
    /// One for each lane.
    followed: Vec<Arc<Followed>>,
}

impl Redis {
    /// The partition of a name: the same on every node, for ever.
    pub fn partition_of(&self, name: &[u8]) -> Partition {
        self.shared.context.keyspace.partition_of(name)
    }

    /// Every partition.
    pub fn partitions(&self) -> impl Iterator<Item = Partition> + use<> {
        self.shared.context.keyspace.all()
    }

    /// What every key and every pub/sub channel of a partition begins with: `{tw:p017}`.
    pub fn tag(&self, partition: Partition) -> &str {
        self.shared.context.keyspace.tag(partition)
    }

    /// Whether announcements are made by `SPUBLISH`: in a Redis Cluster.
    pub fn is_sharded(&self) -> bool {
        self.shared.context.is_sharded()
    }

    /// Takes one step. Ends within `redis.write_deadline` or `redis.read_deadline`, by its kind;
    /// while its slot moves in a Redis Cluster, within 2 s more.
    ///
    /// # Errors
    /// After `TimedOut` and `Lost` the step may have been taken; after any other it was not.
    pub async fn call(&self, call: Call) -> Result<Value, CallError> {
        let answers = self.call_all(vec![call]).await;
        answers.into_iter().next().unwrap_or(Err(CallError::Lost))
    }

    /// Takes steps, pipelined: one round trip for each server. Each stands for itself, and those
    /// of one partition are taken in their order. One answer per call.
    pub async fn call_all(&self, calls: Vec<Call>) -> Vec<Result<Value, CallError>> {
        self.shared.call_all(calls).await
    }

    /// Begins to hear announcements and takes the head step of each: its answer divides exactly
    /// what must be read from what will be heard. Following twice is harmless. What has no answer
    /// is not followed by this call.
    pub async fn follow(&self, interests: Vec<Interest>) -> Vec<Result<Value, CallError>> {
        self.shared.follow_all(interests).await
    }

    /// Waits until a replica has all that this partition's primary wrote before this call, if that
    /// is still the primary of `generation`. At most about two write deadlines.
    ///
    /// # Errors
    /// `NotReplicated` where no replica said so in time, or the primary is another: what was
    /// written stays in the log for now and may be lost by a failover.
    pub async fn replicated(
        &self,
        partition: Partition,
        generation: &str,
    ) -> Result<(), CallError> {
        let map = self.shared.map();
        let member = map.of(partition).ok_or(CallError::OutOfReach)?;
        member.barrier.pass(partition, generation).await
    }

    /// Hears a channel of announcements no more.
    pub fn unfollow(&self, partition: Partition, announcements: &[u8]) {
        self.shared.forget(partition, announcements.to_vec());
    }

    /// The newest generation seen of a partition; none before its first handshake.
    #[cfg(test)]
    pub(crate) fn generation(&self, partition: Partition) -> Option<generation::Generation> {
        self.shared.context.seen.newest(partition)
    }

    /// Counts changes of a generation: after one, what was acknowledged may be lost.
    pub fn losses(&self) -> watch::Receiver<u64> {
        self.shared.context.seen.losses()
    }

    /// Since when some server is out of reach, Unix ms.
    pub fn reach(&self) -> watch::Receiver<Option<u64>> {
        self.shared.context.reach.watch()
    }

    /// Settings of the servers that endanger what is promised; complete from the start.
    pub fn safety(&self) -> watch::Receiver<Arc<[Finding]>> {
        self.shared.context.safety.watch()
    }
}

impl Shared {
    fn map(&self) -> Arc<Map> {
        Arc::clone(&self.map.borrow())
    }

    fn lane_of(&self, announcements: &[u8]) -> usize {
        let hash = usize::try_from(crc32fast::hash(announcements)).unwrap_or(0);
        hash.checked_rem(self.followed.len()).unwrap_or(0)
    }
}
