//! Removes the members of nodes whose lease ended.
//!
//! Any living node may: the one whose turn it is goes first, the others a little later if the list
//! is still there. Every removal is guarded, so two sweepers do no harm. Called by `presence` once
//! leases have been seen without a break for the grace.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use bytes::Bytes;
use tidewire_protocol::{ChannelName, Name, Payload, Position};
use tokio::time::Instant;

use super::{
    GRACE, Presence,
    leave::{Leaving, Left, session},
    roster::{self, Entry},
};
use crate::broker::{BrokerError, PageLimit, StateQuery};

/// How long each turn gives the one before.
const TURN: Duration = Duration::from_secs(3);
/// How often lists are looked for whose node left before this one watched.
const SEARCH_EVERY: Duration = Duration::from_secs(60);
/// Lists found at once.
const LISTS_MAX: usize = 256;
/// Members removed in one step, and read in one page.
const PAGE: PageLimit = PageLimit {
    items: 256,
    bytes: 1 << 20,
};

/// What a sweeper remembers between its rounds.
#[derive(Debug, Default)]
pub struct Sweeper {
    /// Since when each departed node is known.
    since: BTreeMap<Name, Instant>,
    searched: Option<Instant>,
}

/// Where members stand in a channel's presence: position and what they say.
type Standing = HashMap<Name, (Position, Option<Bytes>)>;

impl Sweeper {
    /// Sweeps the nodes whose turn has come.
    pub async fn round(&mut self, presence: &Presence) {
        if presence.nodes.watched() < GRACE {
            return;
        }
        if self.searched.is_none_or(|at| at.elapsed() >= SEARCH_EVERY) {
            match presence.search().await {
                Ok(()) => self.searched = Some(Instant::now()),
                Err(error) => tracing::debug!(%error, "lists of members cannot be found"),
            }
        }
        let departed = presence.nodes.departed();
        self.since.retain(|node, _| departed.contains(node));
        for node in departed {
            let since = *self.since.entry(node.clone()).or_insert_with(Instant::now);
            let turn = u32::try_from(presence.nodes.turn(&node)).unwrap_or(u32::MAX);
            if since.elapsed() < TURN.saturating_mul(turn) {
                continue;
            }
            match presence.sweep(&node).await {
                Ok(0) => presence.nodes.swept(&node),
                Ok(members) => {
                    tracing::info!(%node, members, "the members of a node that is gone were swept");
                    presence.nodes.swept(&node);
                }
                Err(error) => tracing::debug!(%error, %node, "the sweep goes on later"),
            }
        }
    }
}

impl Presence {
    /// Finds nodes that left members behind.
    async fn search(&self) -> Result<(), BrokerError> {
        let mut after: Option<String> = None;
        loop {
            let found = self
                .broker
                .channels(roster::PREFIX, after.as_deref(), LISTS_MAX)
                .await?;
            for node in found.iter().filter_map(|(name, _)| roster::node_of(name)) {
                self.nodes.note_departed(node);
            }
            match found.last() {
                Some((last, _)) if found.len() == LISTS_MAX => after = Some(last.to_string()),
                Some(_) | None => return Ok(()),
            }
        }
    }

    /// Removes the members of a node that is gone, then its list; answers how many there were.
    async fn sweep(&self, node: &Name) -> Result<usize, BrokerError> {
        let Some(list) = roster::channel(node) else {
            return Ok(0);
        };
        let (mut from, mut count) = (1, 0);
        loop {
            let page = self.broker.state(&list, query(from)).await?;
            let mut entries: BTreeMap<ChannelName, Vec<Entry>> = BTreeMap::new();
            for item in &page.items {
                from = item.publication.offset + 1;
                if let Some(entry) = Entry::read(&item.publication)
                    && let Ok(channel) = ChannelName::new(&entry.ch)
                {
                    entries.entry(channel).or_default().push(entry);
                }
            }
            count += page.items.len();
            for (channel, entries) in entries {
                self.sweep_channel(&channel, entries).await?;
            }
            if !page.more {
                break;
            }
            if self.nodes.is_living(node) {
                // It was only away: it puts its members in place itself.
                return Ok(count);
            }
        }
        if count > 0 && !self.nodes.is_living(node) {
            self.broker.delete(&list).await?;
        }
        Ok(count)
    }

    async fn sweep_channel(
        &self,
        channel: &ChannelName,
        entries: Vec<Entry>,
    ) -> Result<(), BrokerError> {
        let standing = self.standing(channel).await?;
        let leaving = entries.into_iter().filter_map(|entry| {
            let key = Name::new(&entry.k).ok()?;
            let (at, me) = standing.get(&key)?.clone();
            Some(Leaving {
                channel: channel.clone(),
                key,
                me,
                session: session(&entry.session),
                attempt: entry.attempt,
                at: Some(at),
            })
        });
        let leaving: Vec<_> = leaving.collect();
        let outcomes = self.remove(&leaving).await;
        if outcomes.contains(&Left::Unknown) {
            return Err(BrokerError::Unavailable);
        }
        Ok(())
    }

    /// Who is shown in a channel.
    pub(super) async fn standing(&self, channel: &ChannelName) -> Result<Standing, BrokerError> {
        let name = channel.presence();
        let mut standing = Standing::new();
        let mut from = 1;
        loop {
            let page = self.broker.state(&name, query(from)).await?;
            for item in page.items {
                from = item.publication.offset + 1;
                let Some(key) = item.publication.key.clone() else {
                    continue;
                };
                let at = Position {
                    epoch: item.epoch,
                    offset: item.publication.offset,
                };
                let me = match &item.publication.payload {
                    Some(Payload::Json(me)) => Some(me.clone()),
                    Some(Payload::Bytes(_)) | None => None,
                };
                standing.insert(key, (at, me));
            }
            if !page.more {
                return Ok(standing);
            }
        }
    }
}

const fn query(from: u64) -> StateQuery {
    StateQuery {
        from,
        catch_up: false,
        limit: PAGE,
    }
}
