//! Broker on Redis: every channel's log in one place for all nodes.
//!
//! Owns the scripts that keep a log, the form of what they keep, and the workers that tell this
//! node what was announced. Called through the `Broker` seam; connections, servers and
//! generations are `crate::redis`. It never decides by this machine's clock.

pub(crate) mod decode;
mod encoding;
pub(crate) mod keys;
mod plain;
mod publish;
mod read;
mod scripts;
#[cfg(test)]
mod tests;
mod worker;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use tidewire_protocol::{ChannelName, command::Range};

pub(crate) use self::scripts::SCRIPTS;
use self::{
    decode::Damaged,
    keys::{Keys, Kind},
    plain::Settled,
    worker::Followed,
};
use super::{
    Announce, BoxFuture, Broker, BrokerError, Head, HistoryPage, PageLimit, Publish, Published,
    StatePage, StateQuery,
};
use crate::{
    redis::{CallError, Interest, LaneEvents, Partition, Redis},
    tasks::Tasks,
};

impl From<Damaged> for BrokerError {
    fn from(damaged: Damaged) -> Self {
        tracing::error!(error = %damaged, "the broker cannot go on with this channel");
        Self::Unavailable
    }
}

/// The broker of a node in a cluster.
#[derive(Debug)]
pub(crate) struct RedisBroker {
    redis: Redis,
    followed: Arc<Followed>,
    /// Whether Redis took no writes when last written to: said once.
    is_refusing: AtomicBool,
    settled: Settled,
}

impl RedisBroker {
    /// A broker on these connections, whose workers tell `announce` what their lanes hear.
    pub(crate) fn start(
        redis: Redis,
        lanes: Vec<LaneEvents>,
        announce: &Arc<dyn Announce>,
        tasks: &Tasks,
    ) -> Arc<Self> {
        let followed: Arc<Followed> = Arc::default();
        for events in lanes {
            let (followed, announce) = (Arc::clone(&followed), Arc::clone(announce));
            tasks.spawn_until_stop(worker::run(events, followed, announce, redis.clone()));
        }
        tasks.spawn_until_stop(worker::watch_reach(redis.reach(), Arc::clone(announce)));
        Arc::new(Self {
            redis,
            followed,
            is_refusing: AtomicBool::new(false),
            settled: Settled::default(),
        })
    }

    fn partition_of(&self, channel: &ChannelName) -> Partition {
        self.redis.partition_of(channel.as_str().as_bytes())
    }

    fn announcements(&self, channel: &ChannelName) -> (Partition, Bytes) {
        let partition = self.partition_of(channel);
        let keys = Keys::new(self.redis.tag(partition), channel.as_str());
        (partition, keys.of(Kind::Log).into())
    }

    /// What a failed call means to the caller. Redis without memory, or without the replicas it
    /// must have, is said once, until a write
    /// succeeds again.
    fn failed(&self, error: &CallError) -> BrokerError {
        match error {
            CallError::Refused { code, .. } if code == "OOM" => {
                if !self.is_refusing.swap(true, Ordering::Relaxed) {
                    tracing::error!(
                        "redis is out of memory (maxmemory): publications are refused; \
                         give it more, or keep less history"
                    );
                }
            }
            CallError::Refused { code, .. } if code == "NOREPLICAS" => {
                if !self.is_refusing.swap(true, Ordering::Relaxed) {
                    tracing::error!(
                        "redis has fewer replicas than min-replicas-to-write: publications are \
                         refused; bring a replica back"
                    );
                }
            }
            CallError::Refused { code, detail } => {
                tracing::error!(code, detail, "redis refused a step");
            }
            CallError::OutOfReach
            | CallError::TimedOut
            | CallError::Lost
            | CallError::Distrusted
            | CallError::NotReplicated => tracing::debug!(%error, "redis did not answer"),
        }
        BrokerError::Unavailable
    }

    /// Takes note that a write succeeded.
    fn takes_writes(&self) {
        if self.is_refusing.load(Ordering::Relaxed)
            && self.is_refusing.swap(false, Ordering::Relaxed)
        {
            tracing::info!("redis takes publications again");
        }
    }

    async fn follow_all(&self, channels: &[ChannelName]) -> Result<Vec<Head>, BrokerError> {
        let mut interests = Vec::with_capacity(channels.len());
        let mut begun = Vec::new();
        {
            let mut followed = self.followed.write();
            for channel in channels {
                let (partition, announcements) = self.announcements(channel);
                interests.push(Interest {
                    partition,
                    announcements: announcements.to_vec(),
                    head: self.heads_call(partition, [channel]),
                });
                if followed.insert(announcements, channel.clone()).is_none() {
                    begun.push(channel);
                }
            }
        }
        let mut heads = Vec::with_capacity(channels.len());
        let mut failure = None;
        for answer in self.redis.follow(interests).await {
            let read = answer
                .map_err(|error| self.failed(&error))
                .and_then(|answer| Ok(read::read_heads(answer, &mut heads)?));
            failure = failure.or(read.err());
        }
        if let Some(error) = failure {
            // The caller knows nothing of a part: none of it is followed.
            for channel in begun {
                self.unfollow(channel);
            }
            return Err(error);
        }
        Ok(heads.into_iter().map(|(head, _)| head).collect())
    }
}

impl Broker for RedisBroker {
    fn publish(&self, batch: Vec<Publish>) -> BoxFuture<'_, Vec<Result<Published, BrokerError>>> {
        Box::pin(self.publish_batch(batch))
    }

    fn follow<'a>(
        &'a self,
        channels: &'a [ChannelName],
    ) -> BoxFuture<'a, Result<Vec<Head>, BrokerError>> {
        Box::pin(self.follow_all(channels))
    }

    fn heads<'a>(
        &'a self,
        channels: &'a [ChannelName],
    ) -> BoxFuture<'a, Result<Vec<Head>, BrokerError>> {
        Box::pin(async move {
            let heads = self.read_heads(channels).await?;
            Ok(heads.into_iter().map(|(head, _)| head).collect())
        })
    }

    fn unfollow(&self, channel: &ChannelName) {
        let (partition, announcements) = self.announcements(channel);
        self.followed.write().remove(&announcements);
        self.redis.unfollow(partition, &announcements);
    }

    fn history<'a>(
        &'a self,
        channel: &'a ChannelName,
        range: Range,
        limit: PageLimit,
    ) -> BoxFuture<'a, Result<HistoryPage, BrokerError>> {
        Box::pin(self.read_history(channel, range, limit))
    }

    fn state<'a>(
        &'a self,
        channel: &'a ChannelName,
        query: StateQuery,
    ) -> BoxFuture<'a, Result<StatePage, BrokerError>> {
        Box::pin(self.read_state(channel, query))
    }

    fn channels<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(ChannelName, Head)>, BrokerError>> {
        Box::pin(self.list(prefix, after, limit))
    }

    fn delete<'a>(&'a self, channel: &'a ChannelName) -> BoxFuture<'a, Result<Head, BrokerError>> {
        Box::pin(self.delete_log(channel))
    }

    fn blank<'a>(
        &'a self,
        channel: &'a ChannelName,
        offset: u64,
    ) -> BoxFuture<'a, Result<(), BrokerError>> {
        Box::pin(self.blank_entry(channel, offset))
    }

    fn findings(&self) -> Vec<String> {
        let findings = self.redis.safety().borrow().clone();
        findings.iter().map(ToString::to_string).collect()
    }
}
