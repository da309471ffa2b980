//! Who is in a channel: members as the keyed state of `$presence:<channel>`.
//!
//! Owns which members live on this node, their list for the others (`roster`), the grace before a
//! leave, and the sweep of members whose node is gone. Publishes through the broker like anyone;
//! never touches a socket, and says of nobody that he left while the broker is away.

mod leave;
mod roster;
mod settle;
mod sweep;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use dashmap::DashMap;
use parking_lot::Mutex;
use tidewire_protocol::{ChannelName, Name, Payload, command::Guard};
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::{settle::Owed, sweep::Sweeper};
use crate::{
    broker::{Broker, BrokerError, Publish},
    config::{Namespaces, Presence as PresenceMode},
    control::Nodes,
    session::Member,
    store::{CheckpointStore, Fence, SessionId},
};

/// A member stays this long after its connection ended: a reload or a tunnel shows no leave. Who
/// could not come back, since this node or the broker was away, has as long after that.
pub const GRACE: Duration = Duration::from_secs(10);
/// Members of one channel that this node lists; more are counted.
const LISTED_MAX: usize = 1_000;
/// How long a node's count stands without being said again.
const COUNT_TTL_MS: u64 = 15_000;
/// How often counts are said again.
const COUNT_ROUND: Duration = Duration::from_secs(5);
/// How often what is due is done.
const TICK: Duration = Duration::from_secs(1);

/// The claim of a session that a member belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub session: SessionId,
    pub fence: Fence,
}

/// A membership.
#[derive(Debug, Clone)]
pub struct Membership {
    pub channel: ChannelName,
    pub member: Box<Member>,
}

/// What a session changes.
#[derive(Debug)]
pub enum Change {
    /// A member enters, or goes on under another claim. `held`: the session had this very
    /// membership before, so where it stands there is nothing to say.
    Enter { membership: Membership, held: bool },
    /// A member leaves at once.
    Leave(Membership),
}

/// A member living on this node.
#[derive(Debug, Clone)]
struct Living {
    me: Bytes,
    owner: Owner,
    listed: bool,
}

/// Members of a session whose connection ended.
#[derive(Debug)]
struct Ended {
    since: Instant,
    owner: Owner,
    members: Vec<Membership>,
}

/// The members of this node.
#[derive(Debug)]
pub struct Presence {
    broker: Arc<dyn Broker>,
    store: Arc<dyn CheckpointStore>,
    nodes: Arc<Nodes>,
    namespaces: Arc<Namespaces>,
    session_ttl: Duration,
    node: Name,
    rooms: DashMap<ChannelName, HashMap<Name, Living>>,
    ended: Mutex<VecDeque<Ended>>,
    owed: Mutex<BTreeMap<(ChannelName, Name), Owed>>,
}

impl Presence {
    pub fn new(
        broker: Arc<dyn Broker>,
        store: Arc<dyn CheckpointStore>,
        nodes: Arc<Nodes>,
        namespaces: Arc<Namespaces>,
        session_ttl: Duration,
        node: Name,
    ) -> Self {
        Self {
            broker,
            store,
            nodes,
            namespaces,
            session_ttl,
            node,
            rooms: DashMap::new(),
            ended: Mutex::default(),
            owed: Mutex::default(),
        }
    }

    /// Makes changes of one session, in one step of the broker. What the broker does not take is
    /// owed, and said later.
    pub async fn apply(&self, owner: &Owner, changes: Vec<Change>) {
        let mut step = Step::default();
        for change in changes {
            match change {
                Change::Enter { membership, held } => {
                    self.enter(&mut step, owner, membership, held)
                }
                Change::Leave(membership) => self.leave(&mut step, &membership),
            }
        }
        self.take(step).await;
    }

    fn enter(&self, step: &mut Step, owner: &Owner, membership: Membership, held: bool) {
        let Membership { channel, member } = membership;
        let Some(namespace) = self.namespaces.resolve(&channel) else {
            return;
        };
        let counts = match namespace.presence {
            PresenceMode::Off => return,
            PresenceMode::Count => true,
            PresenceMode::Members => false,
        };
        let mut room = self.rooms.entry(channel.clone()).or_default();
        let full = room.values().filter(|living| living.listed).count() >= LISTED_MAX;
        let known = room
            .get(&member.key)
            .map(|living| (living.listed, living.me == member.me));
        let listed = known.map_or(!counts && !full, |(listed, _)| listed);
        let living = Living {
            me: member.me.clone(),
            owner: owner.clone(),
            listed,
        };
        room.insert(member.key.clone(), living);
        drop(room);
        let stands = known.is_some_and(|(_, same)| same);
        if !listed {
            if !stands {
                step.counts.insert(channel);
            }
            return;
        }
        let of = (channel.clone(), member.key.clone());
        step.push(
            &of,
            Owed::Enter,
            roster::publish(&self.node, &channel, &member.key, Some(owner)),
        );
        if !stands {
            // Where another node's word stands, this one has nothing to add.
            let guard = known.is_none().then_some(Guard::Absent);
            let me = member.me;
            if guard.is_some() && !held {
                step.unsure.insert(step.publishes.len(), me.clone());
            }
            step.push(
                &of,
                Owed::Enter,
                self.said(&channel, &member.key, Some(me), guard),
            );
        }
    }

    fn leave(&self, step: &mut Step, membership: &Membership) {
        let Membership { channel, member } = membership;
        let removed = self.forget(channel, &member.key);
        if removed.is_some_and(|living| !living.listed) {
            step.counts.insert(channel.clone());
            return;
        }
        let of = (channel.clone(), member.key.clone());
        step.push(
            &of,
            Owed::Leave,
            self.said(channel, &member.key, None, None),
        );
        step.push(
            &of,
            Owed::Leave,
            roster::publish(&self.node, channel, &member.key, None),
        );
    }

    /// Publishes a step, and notes what is owed of it.
    async fn take(&self, step: Step) {
        let Step {
            publishes,
            of,
            unsure,
            mut counts,
        } = step;
        let mut standing = Vec::new();
        if !publishes.is_empty() {
            let results = self.broker.publish(publishes).await;
            for (at, (result, (of, owed))) in results.into_iter().zip(of).enumerate() {
                match result {
                    Ok(_) => {}
                    Err(BrokerError::PreconditionFailed(_)) => {
                        standing.extend(unsure.get(&at).map(|me| (of, me.clone())));
                    }
                    Err(BrokerError::StateFull) => {
                        self.unlist(&of);
                        counts.insert(of.0);
                    }
                    Err(error) => {
                        tracing::debug!(%error, "a presence change is owed");
                        self.owe(of, owed);
                    }
                }
            }
        }
        self.correct(standing).await;
        self.say_counts(counts).await;
    }

    /// Members that stood already though their sessions did not know it, as after a kill before
    /// the membership was written down: they are said again where they say something else now.
    async fn correct(&self, members: Vec<((ChannelName, Name), Bytes)>) {
        let mut again = Step::default();
        for (of, me) in members {
            match self.standing(&of.0).await {
                Ok(standing) => {
                    let said = standing.get(&of.1).and_then(|(_, said)| said.as_ref());
                    if said != Some(&me) {
                        let publish = self.said(&of.0, &of.1, Some(me), None);
                        again.push(&of, Owed::Enter, publish);
                    }
                }
                Err(error) => tracing::debug!(%error, "what a member says may be old"),
            }
        }
        if !again.publishes.is_empty() {
            Box::pin(self.take(again)).await;
        }
    }

    /// The channel lists as many as it may: the member is counted.
    fn unlist(&self, (channel, key): &(ChannelName, Name)) {
        if let Some(mut room) = self.rooms.get_mut(channel)
            && let Some(living) = room.get_mut(key)
        {
            living.listed = false;
        }
    }

    /// A member lives elsewhere, or nowhere.
    fn forget(&self, channel: &ChannelName, key: &Name) -> Option<Living> {
        let removed = self
            .rooms
            .get_mut(channel)
            .and_then(|mut room| room.remove(key));
        self.rooms.remove_if(channel, |_, room| room.is_empty());
        removed
    }

    /// Whether the member lives here under this claim.
    fn is_owner(&self, owner: &Owner, channel: &ChannelName, key: &Name) -> bool {
        self.rooms.get(channel).is_some_and(|room| {
            room.get(key)
                .is_some_and(|living| living.owner.fence == owner.fence)
        })
    }

    /// The session's connection ended: its members leave after the grace, unless the session
    /// was claimed by then, here or elsewhere.
    pub fn leave_later(&self, owner: Owner, members: Vec<Membership>) {
        if !members.is_empty() {
            let since = Instant::now();
            self.ended.lock().push_back(Ended {
                since,
                owner,
                members,
            });
        }
    }

    /// The session is another claim's: its members are no longer this node's.
    pub async fn moved(&self, owner: &Owner, members: Vec<Membership>) {
        let mut step = Step::default();
        self.off(&mut step, owner, members);
        self.take(step).await;
    }

    /// Runs beside the node: leaves that are due, what is owed, counts, the sweep of nodes that
    /// are gone, and this node's members again after its own lease had ended.
    pub async fn run(self: Arc<Self>) {
        let mut sweeper = Sweeper::default();
        let mut lapses = self.nodes.lapses();
        let mut losses = self.store.losses();
        let mut counted = Instant::now();
        let mut every = interval(TICK);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            if lapses.has_changed().unwrap_or(false) || losses.has_changed().unwrap_or(false) {
                lapses.mark_unchanged();
                losses.mark_unchanged();
                self.owe_all();
            }
            self.leave_due().await;
            self.settle().await;
            if counted.elapsed() >= COUNT_ROUND {
                counted = Instant::now();
                self.say_counts(self.counted()).await;
            }
            sweeper.round(&self).await;
        }
    }

    /// Channels with members that are counted here.
    fn counted(&self) -> BTreeSet<ChannelName> {
        let counts = |room: &HashMap<Name, Living>| room.values().any(|living| !living.listed);
        self.rooms
            .iter()
            .filter(|room| counts(room))
            .map(|room| room.key().clone())
            .collect()
    }

    async fn say_counts(&self, channels: BTreeSet<ChannelName>) {
        let said = channels.iter().filter_map(|channel| {
            let count = self.rooms.get(channel).map_or(0, |room| {
                room.values().filter(|living| !living.listed).count()
            });
            let data = (count > 0).then(|| Bytes::from(format!("{{\"n\":{count}}}")));
            let mut publish = self.said(channel, &self.node, data, None)?;
            publish.ttl_ms = Some(COUNT_TTL_MS).filter(|_| count > 0);
            Some(publish)
        });
        let said: Vec<_> = said.collect();
        if said.is_empty() {
            return;
        }
        for error in self
            .broker
            .publish(said)
            .await
            .into_iter()
            .filter_map(Result::err)
        {
            tracing::debug!(%error, "a count was not said; it is said again");
        }
    }

    /// The publication that says something of a key in a channel's presence, or removes it.
    fn said(
        &self,
        base: &ChannelName,
        key: &Name,
        data: Option<Bytes>,
        guard: Option<Guard>,
    ) -> Option<Publish> {
        let channel = base.presence();
        let namespace = self.namespaces.resolve(&channel)?;
        Some(Publish {
            retention: namespace.retention(self.session_ttl),
            channel,
            delete: data.is_none(),
            payload: data.map(Payload::Json),
            key: Some(key.clone()),
            event: None,
            id: None,
            publisher: Arc::from("n:"),
            by: None,
            ttl_ms: None,
            guard,
            trace: None,
        })
    }
}

/// Publications of one step, each with the member it is about and what is owed if it fails.
#[derive(Debug, Default)]
struct Step {
    publishes: Vec<Publish>,
    of: Vec<((ChannelName, Name), Owed)>,
    /// Publications that do not know whether the member stands already, with what it says.
    unsure: BTreeMap<usize, Bytes>,
    counts: BTreeSet<ChannelName>,
}

impl Step {
    fn push(&mut self, of: &(ChannelName, Name), owed: Owed, publish: Option<Publish>) {
        if let Some(publish) = publish {
            self.publishes.push(publish);
            self.of.push((of.clone(), owed));
        }
    }
}
