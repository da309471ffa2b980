//! Who is in a channel: members as the keyed state of `$presence:<channel>`.
//!
//! Owns which members live on this node, the grace before a leave, and the sweep of members a
//! killed node left behind. Publishes through the broker like anyone; never touches a socket.

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use dashmap::DashMap;
use tidewire_protocol::{ChannelName, Name, Payload, Position, command::Guard};

use crate::{
    broker::{Broker, BrokerError, PageLimit, Publish, StateQuery},
    config::{Namespaces, Presence as PresenceMode},
    session::Member,
    store::{CheckpointStore, Fence, SessionId},
    tasks::Tasks,
};

/// A member stays this long after its connection ended: a reload or a tunnel shows no leave.
pub const GRACE: Duration = Duration::from_secs(10);
/// Members of one channel that are listed; more are counted.
const LISTED_MAX: usize = 1_000;
/// How long a node's count stands without being said again.
const COUNT_TTL_MS: u64 = 15_000;
/// How often counts are said again.
const COUNT_ROUND: Duration = Duration::from_secs(5);
/// Channels and members read at once by the sweep.
const SWEEP_PAGE: usize = 256;

/// A member living on this node.
#[derive(Debug)]
struct Living {
    me: Bytes,
    /// The claim (nonce) of the session it belongs to.
    owner: u64,
    listed: bool,
}

/// A membership a session ended with.
#[derive(Debug)]
pub struct Ended {
    pub channel: ChannelName,
    pub member: Box<Member>,
}

/// The members of this node.
#[derive(Debug)]
pub struct Presence {
    broker: Arc<dyn Broker>,
    store: Arc<dyn CheckpointStore>,
    namespaces: Arc<Namespaces>,
    session_ttl: Duration,
    node: Name,
    rooms: DashMap<ChannelName, HashMap<Name, Living>>,
    /// Whether members of earlier incarnations were removed.
    swept: AtomicBool,
    tasks: Tasks,
}

impl Presence {
    pub fn new(
        broker: Arc<dyn Broker>,
        store: Arc<dyn CheckpointStore>,
        namespaces: Arc<Namespaces>,
        session_ttl: Duration,
        node: Name,
        tasks: Tasks,
    ) -> Self {
        Self {
            broker,
            store,
            namespaces,
            session_ttl,
            node,
            rooms: DashMap::new(),
            swept: AtomicBool::new(false),
            tasks,
        }
    }

    /// A member enters, or goes on under another claim. `held`: the session had this membership
    /// before, so where its members stand there is nothing to say.
    pub async fn enter(&self, owner: u64, channel: &ChannelName, member: &Member, held: bool) {
        let Some(namespace) = self.namespaces.resolve(channel) else {
            return;
        };
        let counts = match namespace.presence {
            PresenceMode::Off => return,
            PresenceMode::Count => true,
            PresenceMode::Members => false,
        };
        let (listed, said) = {
            let mut room = self.rooms.entry(channel.clone()).or_default();
            let full = room.values().filter(|living| living.listed).count() >= LISTED_MAX;
            let known = room
                .get(&member.key)
                .map(|living| (living.listed, living.me == member.me));
            let listed = known.map_or(!counts && !full, |(listed, _)| listed);
            room.insert(
                member.key.clone(),
                Living {
                    me: member.me.clone(),
                    owner,
                    listed,
                },
            );
            // Asked once it is in the room: a sweep that begins after this finds it there.
            let stands = held && !self.swept.load(Ordering::Acquire);
            (listed, known.map_or(stands, |(_, same)| same))
        };
        match (listed, said) {
            (true, false) => {
                let me = Some(member.me.clone());
                self.publish(channel, &member.key, me, None, None).await
            }
            (false, false) => self.say_count(channel).await,
            (_, true) => {}
        }
    }

    /// Whether the member lives here under this claim.
    fn is_owner(&self, owner: u64, channel: &ChannelName, member: &Member) -> bool {
        self.rooms.get(channel).is_some_and(|room| {
            room.get(&member.key)
                .is_some_and(|living| living.owner == owner)
        })
    }

    /// A member lives elsewhere, or nowhere.
    fn forget(&self, channel: &ChannelName, member: &Member) -> Option<Living> {
        let removed = self
            .rooms
            .get_mut(channel)
            .and_then(|mut room| room.remove(&member.key));
        self.rooms.remove_if(channel, |_, room| room.is_empty());
        removed
    }

    /// A member leaves at once.
    pub async fn leave(&self, channel: &ChannelName, member: &Member) {
        let removed = self.forget(channel, member);
        if removed.is_none_or(|living| living.listed) {
            self.publish(channel, &member.key, None, None, None).await;
        } else {
            self.say_count(channel).await;
        }
    }

    /// The session's connection ended: its members leave after the grace, unless the session
    /// was claimed by then, here or elsewhere.
    pub fn leave_later(self: &Arc<Self>, session: SessionId, fence: Fence, ended: Vec<Ended>) {
        if ended.is_empty() {
            return;
        }
        let presence = Arc::clone(self);
        self.tasks.spawn_until_stop(async move {
            tokio::time::sleep(GRACE).await;
            let claimed = presence.store.read(&session).await;
            let goes_on =
                matches!(claimed, Ok(Some(held)) if held.checkpoint.fence.attempt > fence.attempt);
            for Ended { channel, member } in ended {
                if !presence.is_owner(fence.nonce, &channel, &member) {
                    continue;
                }
                if goes_on {
                    presence.forget(&channel, &member);
                } else {
                    presence.leave(&channel, &member).await;
                }
            }
        });
    }

    /// Runs beside the node: says counts again, and once, after the grace, removes members that
    /// an earlier incarnation of this node left behind.
    pub async fn run(self: Arc<Self>) {
        tokio::time::sleep(GRACE).await;
        if let Err(error) = self.sweep().await {
            tracing::warn!(%error, "members of an earlier run could not be removed");
        }
        let mut round = tokio::time::interval(COUNT_ROUND);
        loop {
            round.tick().await;
            let counted: Vec<_> = self
                .rooms
                .iter()
                .filter(|room| room.values().any(|living| !living.listed))
                .map(|room| room.key().clone())
                .collect();
            for channel in counted {
                self.say_count(&channel).await;
            }
        }
    }

    async fn sweep(&self) -> Result<(), BrokerError> {
        self.swept.store(true, Ordering::Release);
        let mut after: Option<String> = None;
        loop {
            let page = self
                .broker
                .channels("$presence:", after.as_deref(), SWEEP_PAGE)
                .await?;
            let Some((last, _)) = page.last() else {
                return Ok(());
            };
            after = Some(last.to_string());
            for (name, _) in &page {
                let Some(base) = name.presence_of() else {
                    continue;
                };
                self.sweep_channel(name, &base).await?;
            }
        }
    }

    async fn sweep_channel(
        &self,
        name: &ChannelName,
        base: &ChannelName,
    ) -> Result<(), BrokerError> {
        let mut from = 1;
        loop {
            let limit = PageLimit {
                items: SWEEP_PAGE,
                bytes: 1 << 20,
            };
            let page = self
                .broker
                .state(
                    name,
                    StateQuery {
                        from,
                        catch_up: false,
                        limit,
                    },
                )
                .await?;
            for item in &page.items {
                from = item.publication.offset + 1;
                let Some(key) = &item.publication.key else {
                    continue;
                };
                let lives = self
                    .rooms
                    .get(base)
                    .is_some_and(|room| room.contains_key(key));
                if !lives && key != &self.node {
                    // Whoever enters at this moment publishes the key anew and keeps it.
                    let guard = Guard::At(Position {
                        epoch: item.epoch.clone(),
                        offset: item.publication.offset,
                    });
                    self.publish(base, key, None, None, Some(guard)).await;
                }
            }
            if !page.more {
                return Ok(());
            }
        }
    }

    async fn say_count(&self, channel: &ChannelName) {
        let count = self.rooms.get(channel).map_or(0, |room| {
            room.values().filter(|living| !living.listed).count()
        });
        let data = (count > 0).then(|| Bytes::from(format!("{{\"n\":{count}}}")));
        self.publish(channel, &self.node, data, Some(COUNT_TTL_MS), None)
            .await;
    }

    async fn publish(
        &self,
        base: &ChannelName,
        key: &Name,
        data: Option<Bytes>,
        ttl_ms: Option<u64>,
        guard: Option<Guard>,
    ) {
        let channel = base.presence();
        let Some(namespace) = self.namespaces.resolve(&channel) else {
            return;
        };
        let publish = Publish {
            retention: namespace.retention(self.session_ttl),
            channel,
            delete: data.is_none(),
            payload: data.map(Payload::Json),
            key: Some(key.clone()),
            event: None,
            id: None,
            publisher: Arc::from("n:"),
            by: None,
            ttl_ms,
            guard,
        };
        for refused in self
            .broker
            .publish(vec![publish])
            .await
            .into_iter()
            .filter_map(Result::err)
            .filter(|error| !matches!(error, BrokerError::PreconditionFailed(_)))
        {
            tracing::warn!(error = %refused, "a presence change was not published");
        }
    }
}
