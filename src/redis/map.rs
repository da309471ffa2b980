//! Which server has which partition.
//!
//! Made anew by the topology whenever that changes; read by every call. Never changes in place.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{
    address::ServerAddress,
    barrier::{Barrier, Waiting},
    keyspace::Partition,
    lane::Lane,
    server::Server,
};

/// A server and its lanes.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) server: Arc<Server>,
    /// One for each lane of the node.
    pub(super) lanes: Vec<Arc<Lane>>,
    pub(super) barrier: Barrier,
    /// The other end of the barrier, until its task is started.
    pub(super) waiting: Mutex<Option<Waiting>>,
}

/// The servers at one time.
#[derive(Debug, Default)]
pub(super) struct Map {
    members: Vec<Arc<Member>>,
    /// By partition: the place in `members`.
    places: Vec<Option<usize>>,
}

impl Map {
    /// A map of servers; each knows its partitions.
    pub(super) fn new(members: Vec<Arc<Member>>, partitions: usize) -> Self {
        let mut places = vec![None; partitions];
        for (place, member) in members.iter().enumerate() {
            for partition in member.server.partitions() {
                if let Some(slot) = places.get_mut(partition.index()) {
                    *slot = Some(place);
                }
            }
        }
        Self { members, places }
    }

    pub(super) fn index_of(&self, partition: Partition) -> Option<usize> {
        self.places.get(partition.index()).copied().flatten()
    }

    pub(super) fn member(&self, index: usize) -> Option<&Arc<Member>> {
        self.members.get(index)
    }

    pub(super) fn of(&self, partition: Partition) -> Option<&Arc<Member>> {
        self.member(self.index_of(partition)?)
    }

    pub(super) fn at(&self, address: &ServerAddress) -> Option<&Arc<Member>> {
        let is_it = |member: &&Arc<Member>| member.server.address() == address;
        self.members.iter().find(is_it)
    }

    pub(super) fn members(&self) -> &[Arc<Member>] {
        &self.members
    }
}
