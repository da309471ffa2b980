//! The connections to Redis, under `broker::redis` and `store::redis`.
//!
//! Owns where each partition is, the connections to its primary, whether that primary can be
//! trusted, and the lanes that hear announcements. It knows partitions, scripts and bytes; it never
//! knows a channel, a session or what a script does.

mod address;
mod call;
mod connect;
mod context;
mod error;
mod events;
mod generation;
mod keyspace;
mod lane;
mod link;
mod map;
mod open;
mod reach;
mod script;
mod server;
#[cfg(test)]
pub(crate) mod tests;
mod wait;

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::join_all;
use redis::Value;
use tokio::sync::watch;

pub use self::{
    address::{Address, Topology},
    call::{Call, Interest},
    error::{CallError, RedisError},
    events::{LaneEvent, LaneEvents},
    generation::Generation,
    keyspace::{PARTITIONS_MAX, Partition},
    script::Script,
};
use self::{
    context::Context,
    lane::Followed,
    map::{Map, Member},
};

/// Most steps in one message: a large one would hold up what waits behind it.
const MESSAGE_STEPS_MAX: usize = 256;

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

    /// Takes one step. Ends within `redis.write_deadline` or `redis.read_deadline`, by its kind.
    ///
    /// # Errors
    /// [`CallError::is_unknown`] says whether the step may have been taken.
    pub async fn call(&self, call: Call) -> Result<Value, CallError> {
        let answers = self.call_all(vec![call]).await;
        answers.into_iter().next().unwrap_or(Err(CallError::Lost))
    }

    /// Takes steps, pipelined: one round trip for each server. Each stands for itself, and those
    /// of one partition are taken in their order. One answer per call.
    pub async fn call_all(&self, calls: Vec<Call>) -> Vec<Result<Value, CallError>> {
        let map = self.shared.map();
        let mut groups: BTreeMap<Option<usize>, Vec<usize>> = BTreeMap::new();
        for (at, call) in calls.iter().enumerate() {
            let member = map.index_of(call.partition);
            groups.entry(member).or_default().push(at);
        }
        let send = groups.into_iter().map(async |(member, places)| {
            let mut answers = Vec::with_capacity(places.len());
            for places in places.chunks(MESSAGE_STEPS_MAX) {
                let calls: Vec<_> = places.iter().filter_map(|at| calls.get(*at)).collect();
                let part = match member.and_then(|member| map.member(member)) {
                    Some(member) => member.server.exchange(&calls, None).await,
                    None => vec![Err(CallError::OutOfReach); calls.len()],
                };
                answers.extend(places.iter().copied().zip(part));
            }
            answers
        });
        in_order(calls.len(), join_all(send).await)
    }

    /// Begins to hear announcements and takes the head step of each: its answer divides exactly
    /// what must be read from what will be heard. Following twice is harmless. What has no answer
    /// is not followed by this call.
    pub async fn follow(&self, interests: Vec<Interest>) -> Vec<Result<Value, CallError>> {
        let map = self.shared.map();
        let mut groups: BTreeMap<(Option<usize>, usize), Vec<usize>> = BTreeMap::new();
        for (at, interest) in interests.iter().enumerate() {
            let member = map.index_of(interest.partition);
            let lane = self.shared.lane_of(&interest.announcements);
            groups.entry((member, lane)).or_default().push(at);
        }
        let follow = groups.into_iter().map(async |((member, lane), places)| {
            let member = member.and_then(|member| map.member(member));
            let mut answers = Vec::with_capacity(places.len());
            for places in places.chunks(lane::BATCH) {
                let part: Vec<_> = places.iter().filter_map(|at| interests.get(*at)).collect();
                let part = self.shared.follow(member, lane, &part).await;
                answers.extend(places.iter().copied().zip(part));
            }
            answers
        });
        in_order(interests.len(), join_all(follow).await)
    }

    /// Hears a channel of announcements no more.
    pub fn unfollow(&self, partition: Partition, announcements: &[u8]) {
        let index = self.shared.lane_of(announcements);
        let member = self.shared.map().of(partition).cloned();
        self.shared
            .forget(member.as_deref(), index, announcements.to_vec());
    }

    /// The newest generation seen of a partition; none before its first handshake.
    pub fn generation(&self, partition: Partition) -> Option<Generation> {
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
}

impl Shared {
    fn map(&self) -> Arc<Map> {
        Arc::clone(&self.map.borrow())
    }

    fn lane_of(&self, announcements: &[u8]) -> usize {
        let hash = usize::try_from(crc32fast::hash(announcements)).unwrap_or(0);
        hash.checked_rem(self.followed.len()).unwrap_or(0)
    }

    async fn follow(
        &self,
        member: Option<&Arc<Member>>,
        index: usize,
        interests: &[&Interest],
    ) -> Vec<Result<Value, CallError>> {
        let (Some(member), Some(followed)) = (member, self.followed.get(index)) else {
            return vec![Err(CallError::OutOfReach); interests.len()];
        };
        let Some(lane) = member.lanes.get(index) else {
            return vec![Err(CallError::OutOfReach); interests.len()];
        };
        let are_new: Vec<bool> = {
            let mut followed = followed.lock();
            let mut note = |interest: &&Interest| {
                let channel = interest.announcements.clone();
                followed.insert(channel, interest.partition).is_none()
            };
            interests.iter().map(&mut note).collect()
        };
        let answers = lane.follow(interests).await;
        for ((interest, is_new), answer) in interests.iter().zip(are_new).zip(&answers) {
            if answer.is_err() && is_new {
                self.forget(Some(member), index, interest.announcements.clone());
            }
        }
        answers
    }

    fn forget(&self, member: Option<&Member>, index: usize, announcements: Vec<u8>) {
        let Some(followed) = self.followed.get(index) else {
            return;
        };
        let known = followed.lock().remove(&announcements).is_some();
        let lane = member.and_then(|member| member.lanes.get(index));
        if let (true, Some(lane)) = (known, lane) {
            lane.leave(announcements);
        }
    }
}

/// Puts answers of several servers into the order of the questions.
fn in_order(
    count: usize,
    parts: Vec<Vec<(usize, Result<Value, CallError>)>>,
) -> Vec<Result<Value, CallError>> {
    let mut answers = vec![Err(CallError::Lost); count];
    for (at, answer) in parts.into_iter().flatten() {
        if let Some(slot) = answers.get_mut(at) {
            *slot = answer;
        }
    }
    answers
}
