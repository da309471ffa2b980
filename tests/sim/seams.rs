//! The two seams of a node over its link to the simulated Redis: what a call means there.

use std::sync::Arc;

use tidewire_check::Event;
use tidewire_protocol::{ChannelName, command::Range};
use tokio::sync::watch;

use super::{
    cluster::{Cluster, Down, ServerId},
    data::{Effect, Record},
    link::{LANES, Link},
};
use crate::{
    broker::{
        BoxFuture, Broker, BrokerError, Head, HistoryPage, PageLimit, Publish, Published,
        StatePage, StateQuery,
    },
    store::{Checkpoint, CheckpointStore, Claimed, Fence, Held, SessionId, StoreError, Write},
};

/// Broker and store of one node.
#[derive(Debug)]
pub struct Seams(pub Arc<Link>);

const fn unavailable(_: Down) -> BrokerError {
    BrokerError::Unavailable
}

impl Broker for Seams {
    fn publish(&self, batch: Vec<Publish>) -> BoxFuture<'_, Vec<Result<Published, BrokerError>>> {
        Box::pin(async move {
            let count = batch.len();
            let published = self
                .0
                .call(move |cluster, server, now_ms| {
                    let publish = |item: &Publish| cluster.publish(server, item, now_ms);
                    batch.iter().map(publish).collect::<Result<Vec<_>, _>>()
                })
                .await;
            published.unwrap_or_else(|Down| vec![Err(BrokerError::Unavailable); count])
        })
    }

    fn follow<'a>(
        &'a self,
        channels: &'a [ChannelName],
    ) -> BoxFuture<'a, Result<Vec<Head>, BrokerError>> {
        Box::pin(async move {
            let mut heads: Vec<Option<Head>> = vec![None; channels.len()];
            for channel in channels {
                self.0.follow(channel);
            }
            for lane in 0..LANES {
                let (places, names): (Vec<_>, Vec<_>) = channels
                    .iter()
                    .enumerate()
                    .filter(|(_, channel)| Link::lane_of(channel) == lane)
                    .map(|(at, channel)| (at, channel.clone()))
                    .unzip();
                if names.is_empty() {
                    continue;
                }
                let found = self.0.subscribe(lane, &names).await;
                for (at, head) in places.into_iter().zip(found.into_iter().flatten()) {
                    heads[at] = Some(head);
                }
            }
            let heads: Option<Vec<_>> = heads.into_iter().collect();
            heads.ok_or(BrokerError::Unavailable)
        })
    }

    fn heads<'a>(
        &'a self,
        channels: &'a [ChannelName],
    ) -> BoxFuture<'a, Result<Vec<Head>, BrokerError>> {
        Box::pin(async move {
            let heads = self.0.call(|cluster, server, now_ms| {
                let data = cluster.data(server, now_ms)?;
                Ok(channels.iter().map(|channel| data.head(channel)).collect())
            });
            heads.await.map_err(unavailable)
        })
    }

    fn unfollow(&self, channel: &ChannelName) {
        self.0.unfollow(channel);
    }

    fn history<'a>(
        &'a self,
        channel: &'a ChannelName,
        range: Range,
        limit: PageLimit,
    ) -> BoxFuture<'a, Result<HistoryPage, BrokerError>> {
        Box::pin(async move {
            self.0.world.saw("a page of history");
            let page = self.0.call(|cluster, server, now_ms| {
                Ok(cluster.data(server, now_ms)?.history(channel, range, limit))
            });
            page.await.map_err(unavailable)
        })
    }

    fn state<'a>(
        &'a self,
        channel: &'a ChannelName,
        query: StateQuery,
    ) -> BoxFuture<'a, Result<StatePage, BrokerError>> {
        Box::pin(async move {
            let page = self.0.call(|cluster, server, now_ms| {
                let data = cluster.data(server, now_ms)?;
                Ok(data.state(channel, query, now_ms))
            });
            page.await.map_err(unavailable)
        })
    }

    fn channels<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(ChannelName, Head)>, BrokerError>> {
        Box::pin(async move {
            let listed = self.0.call(|cluster, server, now_ms| {
                let mut listed = cluster.data(server, now_ms)?.channels(prefix, after);
                listed.truncate(limit);
                Ok(listed)
            });
            listed.await.map_err(unavailable)
        })
    }

    fn delete<'a>(&'a self, channel: &'a ChannelName) -> BoxFuture<'a, Result<Head, BrokerError>> {
        Box::pin(async move {
            let deleted = self
                .0
                .call(|cluster, server, now_ms| cluster.delete(server, channel, now_ms));
            deleted.await.map_err(unavailable)
        })
    }

    fn blank<'a>(
        &'a self,
        channel: &'a ChannelName,
        offset: u64,
    ) -> BoxFuture<'a, Result<(), BrokerError>> {
        Box::pin(async move {
            let blanked = self
                .0
                .call(|cluster, server, now_ms| cluster.blank(server, channel, offset, now_ms));
            match blanked.await {
                Ok(true) => Ok(()),
                Ok(false) => Err(BrokerError::Gone),
                Err(Down) => Err(BrokerError::Unavailable),
            }
        })
    }
}

impl Seams {
    /// One write of a session, if its fence allows it.
    fn put(
        &self,
        cluster: &mut Cluster,
        server: ServerId,
        now_ms: u64,
        (id, fence): (&SessionId, Fence),
        change: impl FnOnce(Option<&Record>) -> Option<Option<Record>>,
    ) -> Result<Result<Option<Record>, StoreError>, Down> {
        let held = cluster.data(server, now_ms)?.session(id).cloned();
        if let Some(held) = &held {
            let stale = fence.attempt < held.fence.attempt
                || (fence.attempt == held.fence.attempt && fence.nonce != held.fence.nonce);
            if stale {
                self.0.world.saw("a fence refused");
                let attempt = held.fence.attempt;
                return Ok(Err(StoreError::Fenced { attempt }));
            }
        }
        if let Some(record) = change(held.as_ref()) {
            if record.is_some() && server == cluster.primary() {
                self.0.world.feed(&Event::Wrote {
                    session: self.0.world.session(&id.0),
                    attempt: fence.attempt,
                    nonce: fence.nonce,
                });
            }
            let id = id.clone();
            cluster.change(server, Effect::Session { id, record }, now_ms)?;
        }
        Ok(Ok(held))
    }
}

const fn lost(_: Down) -> StoreError {
    StoreError::Unavailable
}

impl CheckpointStore for Seams {
    fn claim<'a>(
        &'a self,
        session: &'a SessionId,
        fence: Fence,
        _ttl_ms: u64,
    ) -> BoxFuture<'a, Result<Option<Claimed>, StoreError>> {
        Box::pin(async move {
            let node = self.0.node.clone();
            let claimed = self.0.call(|cluster, server, now_ms| {
                self.put(cluster, server, now_ms, (session, fence), |held| {
                    let held = held?;
                    Some(Some(Record {
                        fence,
                        body: held.body.clone(),
                        node: Some(node),
                    }))
                })
            });
            let held = claimed.await.map_err(lost)??;
            Ok(held.map(|held| Claimed {
                body: held.body,
                node: held.node.filter(|node| *node != self.0.node),
            }))
        })
    }

    fn write(&self, batch: Vec<Write>) -> BoxFuture<'_, Vec<Result<(), StoreError>>> {
        Box::pin(async move {
            let count = batch.len();
            let written = self.0.call(|cluster, server, now_ms| {
                let mut answers = Vec::with_capacity(count);
                for write in &batch {
                    let fence = write.checkpoint.fence;
                    let record = Record {
                        fence,
                        body: write.checkpoint.body.clone(),
                        node: write.connected.then(|| self.0.node.clone()),
                    };
                    let put = self.put(cluster, server, now_ms, (&write.session, fence), |_| {
                        Some(Some(record))
                    })?;
                    answers.push(put.map(|_before| ()));
                }
                Ok(answers)
            });
            let written = written.await;
            written.unwrap_or_else(|Down| vec![Err(StoreError::Unavailable); count])
        })
    }

    fn extend<'a>(
        &'a self,
        _sessions: &'a [SessionId],
        _ttl_ms: u64,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        // No run is as long as a session lives.
        Box::pin(async move {
            let reached = self.0.call(|_cluster, _server, _now_ms| Ok(()));
            reached.await.map_err(lost)
        })
    }

    fn remove<'a>(
        &'a self,
        session: &'a SessionId,
        fence: Fence,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let removed = self.0.call(|cluster, server, now_ms| {
                self.put(cluster, server, now_ms, (session, fence), |_| Some(None))
            });
            removed.await.map_err(lost)?.map(|_before| ())
        })
    }

    fn read<'a>(
        &'a self,
        session: &'a SessionId,
    ) -> BoxFuture<'a, Result<Option<Held>, StoreError>> {
        Box::pin(async move {
            let read = self.0.call(|cluster, server, now_ms| {
                let held = cluster.data(server, now_ms)?.session(session);
                Ok(held.map(|held| Held {
                    checkpoint: Checkpoint {
                        fence: held.fence,
                        body: held.body.clone(),
                    },
                    node: held.node.clone().filter(|node| *node != self.0.node),
                }))
            });
            read.await.map_err(lost)
        })
    }

    fn losses(&self) -> watch::Receiver<u64> {
        self.0.losses()
    }
}
