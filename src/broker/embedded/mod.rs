//! Broker on the embedded journal: every channel's log on this machine. Called through the
//! `Broker` seam; never knows namespaces, sessions or connections.

mod channel;
mod channels;
mod keep;
mod keyed;
mod names;
mod publish;
mod read;
mod replay;
mod window;

use std::{ops::Bound, sync::Arc};

pub(crate) use channels::Channels;
pub(crate) use publish::Step;
pub(crate) use replay::ChannelsReplay;
use tidewire_protocol::{ChannelName, command::Range};

use super::{
    Announce, BoxFuture, Broker, BrokerError, Head, HistoryPage, PageLimit, Publish, Published,
    StateItem, StatePage, StateQuery,
};
use crate::{
    journal::Failed,
    storage::{Event, Shared},
};

impl From<Failed> for BrokerError {
    fn from(_: Failed) -> Self {
        Self::Unavailable
    }
}

/// The broker of a node that runs alone.
#[derive(Debug)]
pub(crate) struct EmbeddedBroker {
    shared: Arc<Shared>,
}

impl EmbeddedBroker {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Says where to announce; called once, before anything is followed.
    pub(crate) fn announce_to(&self, announce: Arc<dyn Announce>) {
        self.shared.announce_to(announce);
    }

    async fn publish_batch(&self, batch: Vec<Publish>) -> Vec<Result<Published, BrokerError>> {
        let prepared: Vec<_> = batch
            .into_iter()
            .map(|item| (window::dedup_of(&item), item))
            .collect();
        let count = prepared.len();
        let done = self.shared.change(|state, now, events| {
            let mut step = state.step(now, events);
            prepared
                .iter()
                .map(|(dedup, item)| step.publish(item, *dedup))
                .collect()
        });
        match self.shared.acknowledged(done).await {
            Ok(answers) => answers,
            Err(Failed) => vec![Err(BrokerError::Unavailable); count],
        }
    }

    async fn one<T>(
        &self,
        step: impl FnOnce(Step<'_>) -> Result<T, BrokerError>,
    ) -> Result<T, BrokerError> {
        let done = self
            .shared
            .change(|state, now, events: &mut Vec<Event>| step(state.step(now, events)));
        self.shared.acknowledged(done).await?
    }

    async fn read(
        &self,
        channel: &ChannelName,
        plan: read::Plan,
    ) -> Result<(Head, bool, Vec<Arc<tidewire_protocol::Publication>>), BrokerError> {
        plan.read().await.map_err(|error| {
            tracing::error!(%error, %channel, "the log cannot be read");
            BrokerError::Unavailable
        })
    }
}

impl Broker for EmbeddedBroker {
    fn publish(&self, batch: Vec<Publish>) -> BoxFuture<'_, Vec<Result<Published, BrokerError>>> {
        Box::pin(self.publish_batch(batch))
    }

    fn follow<'a>(
        &'a self,
        channels: &'a [ChannelName],
    ) -> BoxFuture<'a, Result<Vec<Head>, BrokerError>> {
        Box::pin(async move {
            let read = self.shared.look(|state, now| {
                let follow = |name| state.channels.follow(name, &mut state.journal, now);
                channels.iter().map(follow).collect()
            });
            Ok(self.shared.acknowledged(read).await?)
        })
    }

    fn heads<'a>(
        &'a self,
        channels: &'a [ChannelName],
    ) -> BoxFuture<'a, Result<Vec<Head>, BrokerError>> {
        Box::pin(async move {
            let read = self.shared.look(|state, now| {
                let head = |name| state.channels.head(name, &mut state.journal, now);
                channels.iter().map(head).collect()
            });
            Ok(self.shared.acknowledged(read).await?)
        })
    }

    fn unfollow(&self, channel: &ChannelName) {
        self.shared.unfollow(channel);
    }

    fn history<'a>(
        &'a self,
        channel: &'a ChannelName,
        range: Range,
        limit: PageLimit,
    ) -> BoxFuture<'a, Result<HistoryPage, BrokerError>> {
        Box::pin(async move {
            let plan = self.shared.look(|state, now| {
                state
                    .channels
                    .plan_history(channel, range, limit, &mut state.journal, now)
            });
            let plan = self.shared.acknowledged(plan).await?;
            let (head, more, items) = self.read(channel, plan).await?;
            Ok(HistoryPage { head, items, more })
        })
    }

    fn state<'a>(
        &'a self,
        channel: &'a ChannelName,
        query: StateQuery,
    ) -> BoxFuture<'a, Result<StatePage, BrokerError>> {
        Box::pin(async move {
            let plan = self.shared.look(|state, now| {
                state
                    .channels
                    .plan_state(channel, query, &state.journal, now)
            });
            let plan = self.shared.acknowledged(plan).await?;
            let (head, more, publications) = self.read(channel, plan).await?;
            let items = publications
                .into_iter()
                .map(|publication| StateItem {
                    epoch: head.position.epoch.clone(),
                    publication,
                })
                .collect();
            Ok(StatePage { head, items, more })
        })
    }

    fn channels<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(ChannelName, Head)>, BrokerError>> {
        Box::pin(async move {
            let from = match after {
                Some(after) if after >= prefix => Bound::Excluded(after),
                Some(_) | None => Bound::Included(prefix),
            };
            let read = self.shared.look(|state, _| {
                let channels = &state.channels;
                channels
                    .names
                    .range((from, Bound::Unbounded))
                    .take_while(|(name, _)| name.as_str().starts_with(prefix))
                    .filter_map(|(name, life)| {
                        Some((name.clone(), channels.lives.get(&life)?.head()))
                    })
                    .take(limit)
                    .collect()
            });
            Ok(self.shared.acknowledged(read).await?)
        })
    }

    fn delete<'a>(&'a self, channel: &'a ChannelName) -> BoxFuture<'a, Result<Head, BrokerError>> {
        Box::pin(self.one(move |mut step| step.delete(channel)))
    }

    fn blank<'a>(
        &'a self,
        channel: &'a ChannelName,
        offset: u64,
    ) -> BoxFuture<'a, Result<(), BrokerError>> {
        Box::pin(self.one(move |mut step| step.blank(channel, offset)))
    }
}
