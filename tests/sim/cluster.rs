//! The simulated Redis: servers, their standbys that lag, who is primary, and who listens to
//! what is announced. It acts only when it is asked; the time is an argument.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use tidewire_protocol::{
    ChannelName, Epoch, Position,
    frame::{Acknowledge, Publication},
};

use super::{
    data::{Data, Decided, Effect},
    lane::{Item, Lane},
};
use crate::broker::{BrokerError, Head, Publish, Published};

/// Names one connection for announcements: of which incarnation of a node, and which of its lanes.
pub type LaneId = (usize, usize);

/// One Redis process, with the copy that would take its place.
#[derive(Debug)]
struct Server {
    identity: u64,
    data: Data,
    is_up: bool,
    /// The replica, or the file on the disk.
    standby: Data,
    /// What the standby does not have yet, and when it gets it.
    backlog: VecDeque<(u64, Effect)>,
    /// Who is told of what.
    listeners: BTreeMap<LaneId, (Arc<Lane>, BTreeSet<ChannelName>)>,
}

/// All servers there ever were; one is the primary.
#[derive(Debug)]
pub struct Cluster {
    servers: Vec<Server>,
    /// How far standbys are behind, ms.
    pub lag_ms: u64,
    /// Whether answers of the primary arrive before the standby has the write.
    next_identity: u64,
}

/// One server as a connection knows it.
pub type ServerId = usize;

/// A server that cannot be reached.
#[derive(Debug, PartialEq, Eq)]
pub struct Down;

impl Cluster {
    pub fn new(now_ms: u64) -> Self {
        let mut cluster = Self {
            servers: Vec::new(),
            lag_ms: 5,
            next_identity: 1,
        };
        cluster.begin(Data::default(), now_ms);
        cluster
    }

    /// A process begins as primary with this data.
    fn begin(&mut self, data: Data, now_ms: u64) {
        let identity = self.next_identity;
        self.next_identity += 1;
        self.servers.push(Server {
            identity,
            standby: data.clone(),
            data,
            is_up: true,
            backlog: VecDeque::new(),
            listeners: BTreeMap::new(),
        });
        self.shake(self.servers.len() - 1, now_ms);
    }

    pub fn primary(&self) -> ServerId {
        self.servers.len() - 1
    }

    pub fn is_up(&self, server: ServerId) -> bool {
        self.servers[server].is_up
    }

    /// The data of the primary: what survived.
    pub fn surviving(&self) -> &Data {
        &self.servers[self.primary()].data
    }

    /// Reads from a server.
    ///
    /// # Errors
    /// It is down.
    pub fn data(&mut self, server: ServerId, now_ms: u64) -> Result<&Data, Down> {
        let held = &mut self.servers[server];
        if !held.is_up {
            return Err(Down);
        }
        while held.backlog.front().is_some_and(|(due, _)| *due <= now_ms) {
            if let Some((_, effect)) = held.backlog.pop_front() {
                held.standby.apply(&effect);
            }
        }
        Ok(&held.data)
    }

    fn shake(&mut self, server: ServerId, now_ms: u64) {
        let held = &self.servers[server];
        if let Some(effect) = held.data.handshake(held.identity, now_ms) {
            self.apply(server, effect, now_ms);
        }
    }

    fn apply(&mut self, server: ServerId, effect: Effect, now_ms: u64) {
        let due = now_ms + self.lag_ms;
        let held = &mut self.servers[server];
        held.data.apply(&effect);
        held.backlog.push_back((due, effect));
    }

    /// Changes a server's data.
    ///
    /// # Errors
    /// It is down.
    pub fn change(&mut self, server: ServerId, effect: Effect, now_ms: u64) -> Result<(), Down> {
        self.data(server, now_ms)?;
        self.apply(server, effect, now_ms);
        Ok(())
    }

    /// Publishes in one step and announces.
    ///
    /// # Errors
    /// It is down.
    pub fn publish(
        &mut self,
        server: ServerId,
        item: &Publish,
        now_ms: u64,
    ) -> Result<Result<Published, BrokerError>, Down> {
        Ok(match self.data(server, now_ms)?.publish(item, now_ms) {
            Err(error) => Err(error),
            Ok(Decided::Duplicate(position)) => Ok(Published {
                position,
                duplicate: true,
                acknowledged: Acknowledge::Log,
            }),
            Ok(Decided::Append(effect, position, publication)) => {
                self.apply(server, effect, now_ms);
                self.announce(server, &item.channel, || {
                    appended(&item.channel, &position, &publication)
                });
                Ok(Published {
                    position,
                    duplicate: false,
                    acknowledged: Acknowledge::Log,
                })
            }
        })
    }

    fn announce(&self, server: ServerId, channel: &ChannelName, item: impl Fn() -> Item) {
        for (lane, channels) in self.servers[server].listeners.values() {
            if channels.contains(channel) {
                lane.push(item());
            }
        }
    }

    /// Begins another life of a channel.
    ///
    /// # Errors
    /// It is down.
    pub fn delete(
        &mut self,
        server: ServerId,
        channel: &ChannelName,
        now_ms: u64,
    ) -> Result<Head, Down> {
        self.data(server, now_ms)?;
        let life = super::world::hash_of(&(channel.as_str(), now_ms)) & 0xff_ffff_ffff;
        let effect = Effect::Begin {
            channel: channel.clone(),
            life: format!("{life:010x}"),
        };
        self.apply(server, effect, now_ms);
        let head = self.servers[server].data.head(channel);
        self.announce(server, channel, || Item::Reset {
            channel: channel.clone(),
            head: head.clone(),
        });
        Ok(head)
    }

    /// Blanks an entry.
    ///
    /// # Errors
    /// It is down.
    pub fn blank(
        &mut self,
        server: ServerId,
        channel: &ChannelName,
        offset: u64,
        now_ms: u64,
    ) -> Result<bool, Down> {
        if !self.data(server, now_ms)?.holds(channel, offset) {
            return Ok(false);
        }
        let effect = Effect::Blank {
            channel: channel.clone(),
            offset,
        };
        self.apply(server, effect, now_ms);
        self.announce(server, channel, || Item::Blank {
            channel: channel.clone(),
            offset,
        });
        Ok(true)
    }

    /// A lane is told of these channels from here on.
    ///
    /// # Errors
    /// It is down.
    pub fn listen(
        &mut self,
        server: ServerId,
        id: LaneId,
        lane: &Arc<Lane>,
        channels: impl IntoIterator<Item = ChannelName>,
    ) -> Result<(), Down> {
        let held = &mut self.servers[server];
        if !held.is_up {
            return Err(Down);
        }
        let listener = held
            .listeners
            .entry(id)
            .or_insert_with(|| (Arc::clone(lane), BTreeSet::new()));
        if !Arc::ptr_eq(&listener.0, lane) {
            *listener = (Arc::clone(lane), BTreeSet::new());
        }
        listener.1.extend(channels);
        Ok(())
    }

    /// A lane is told no more of a channel, on whatever server it is connected to.
    pub fn unlisten(&mut self, id: LaneId, channel: &ChannelName) {
        for server in &mut self.servers {
            if let Some((_, channels)) = server.listeners.get_mut(&id) {
                channels.remove(channel);
            }
        }
    }

    /// A lane's connection is gone.
    pub fn hang_up(&mut self, id: LaneId) {
        for server in &mut self.servers {
            server.listeners.remove(&id);
        }
    }

    /// The standby becomes the primary. `lossy`: without what it does not have yet. The old one
    /// goes on as a zombie or is gone. Answers how many changes were lost.
    pub fn fail_over(&mut self, lossy: bool, zombie: bool, now_ms: u64) -> usize {
        let old = self.primary();
        let _is_up = self.data(old, now_ms);
        let held = &mut self.servers[old];
        held.is_up = zombie;
        if !zombie {
            held.listeners.clear();
        }
        let mut data = held.standby.clone();
        let mut lost = held.backlog.len();
        if !lossy {
            for (_, effect) in &held.backlog {
                data.apply(effect);
            }
            lost = 0;
        }
        self.begin(data, now_ms);
        lost
    }

    /// A primary that was left is stopped.
    pub fn stop_zombies(&mut self) {
        let primary = self.primary();
        for server in &mut self.servers[..primary] {
            server.is_up = false;
            server.listeners.clear();
        }
    }

    /// All data is gone.
    pub fn flush(&mut self, now_ms: u64) {
        let old = self.primary();
        self.servers[old].is_up = false;
        self.servers[old].listeners.clear();
        self.begin(Data::empty(self.next_identity), now_ms);
    }
}

fn appended(channel: &ChannelName, position: &Position, publication: &Arc<Publication>) -> Item {
    Item::Append {
        channel: channel.clone(),
        epoch: Epoch::clone(&position.epoch),
        publication: Arc::clone(publication),
    }
}
