//! What each fault does, for as long as the scenario asks; everything is whole again afterwards.
//!
//! A fault strikes, holds for a while, and is mended; so two of them can overlap. The places and
//! times are drawn from the scenario's seed; what the processes make of them is their own, so a
//! seed repeats the plan of a run and not its every step.

mod failover;
mod links;
mod nodes;
mod servers;

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::{fault::Fault, nodes::Nodes, seeded::Seeded, topology::Topology};

/// What faults are done to.
pub struct World {
    pub topology: Topology,
    pub nodes: Nodes,
    pub random: Seeded,
    pub channels: Vec<String>,
    /// When the fault should be over.
    pub until: Instant,
    /// Makes readers ask whether their connections live.
    pub wakes: watch::Sender<u64>,
    /// What was seen during a fault and should not be.
    pub troubles: Vec<String>,
}

/// What a fault left broken.
#[derive(Debug, Clone, Copy)]
pub enum Struck {
    /// Nothing: it is over as soon as it was done.
    Over,
    NodeDead(usize),
    NodeFrozen(usize),
    NodeClock(usize),
    ServerDead,
    ServerFrozen,
    ServerFull,
    /// The links of a node.
    Links(usize),
    /// A primary that was killed and replaced.
    Replaced(usize),
    /// A primary that stood still and was replaced.
    Zombie(usize),
    /// A member of the cluster that was killed and replaced.
    MemberDead(usize),
    /// A member of the cluster that hears nobody.
    MemberAlone(usize),
    /// The cluster is to find itself.
    Shuffled,
}

/// How long a fault is left to itself and how long there is peace after it, in milliseconds.
struct Times {
    hold: (u64, u64),
    rest: (u64, u64),
}

const NOT_AT_ALL: (u64, u64) = (0, 1);

const fn times(fault: Fault) -> Times {
    let (hold, rest) = match fault {
        Fault::NodeKill => ((500, 3_000), (500, 2_000)),
        Fault::NodeFreeze => ((3_000, 8_000), (1_000, 3_000)),
        Fault::NodeLoss => (NOT_AT_ALL, NOT_AT_ALL),
        Fault::NodeClock => ((4_000, 8_000), (2_000, 4_000)),
        Fault::Drain => (NOT_AT_ALL, (1_000, 2_000)),
        Fault::RedisKill => ((200, 3_000), (3_000, 6_000)),
        Fault::RedisFreeze => ((1_000, 8_000), (2_000, 5_000)),
        Fault::RedisSleep => (NOT_AT_ALL, (2_000, 4_000)),
        Fault::RedisFull => ((1_000, 5_000), (2_000, 4_000)),
        Fault::Flush => (NOT_AT_ALL, (4_000, 8_000)),
        Fault::PubsubKill => (NOT_AT_ALL, (1_000, 1_001)),
        Fault::SmallBuffers => (NOT_AT_ALL, (3_000, 5_000)),
        Fault::LinkFreezeDown | Fault::LinkFreezeUp => ((4_000, 8_000), (2_000, 4_000)),
        Fault::LinkCut => ((300, 2_000), (200, 1_500)),
        Fault::LinkDelay => ((500, 1_500), (1_000, 2_000)),
        Fault::LaggingFailover => ((3_000, 5_000), (1_000, 2_000)),
        Fault::LaggingSentinel => ((3_000, 5_000), (2_000, 4_000)),
        Fault::Zombie => ((1_000, 3_000), (2_000, 4_000)),
        Fault::ClusterFailover | Fault::ClusterForce => (NOT_AT_ALL, (1_000, 3_000)),
        Fault::ClusterKill | Fault::BusPartition => ((1_000, 3_000), (1_000, 2_000)),
        Fault::SlotMove => (NOT_AT_ALL, (500, 1_500)),
    };
    Times { hold, rest }
}

impl World {
    /// Does the faults, one after the other into each other, until their time is over.
    pub async fn suffer(&mut self, faults: &[Fault]) {
        loop {
            let mut struck = Vec::new();
            for fault in faults {
                struck.push(self.strike(*fault).await);
                let (min, max) = times(*fault).hold;
                self.pause(min, max).await;
            }
            let mut dead = Vec::new();
            while !struck.is_empty() {
                let count = struck.len() as u64;
                let at = usize::try_from(self.random.below(count)).unwrap();
                let one = struck.swap_remove(at);
                self.mend(one).await;
                if let Struck::NodeDead(node) = one {
                    dead.push(node);
                }
            }
            // A node waits for Redis, so only now it must come.
            for node in dead {
                self.nodes.ready(node).await;
            }
            if Instant::now() >= self.until || faults.contains(&Fault::NodeLoss) {
                return;
            }
            let rest = faults.iter().map(|fault| times(*fault).rest);
            let (min, max) = rest.max().unwrap_or(NOT_AT_ALL);
            self.pause(min, max).await;
        }
    }

    async fn strike(&mut self, fault: Fault) -> Struck {
        match fault {
            Fault::NodeKill => self.node_kill(),
            Fault::NodeLoss => self.node_loss(),
            Fault::NodeFreeze => self.node_freeze().await,
            Fault::NodeClock => self.node_clock(),
            Fault::Drain => self.drain().await,
            Fault::SmallBuffers => self.small_buffers().await,
            Fault::RedisKill => self.redis_kill(),
            Fault::RedisFreeze => self.redis_freeze(),
            Fault::RedisSleep => self.redis_sleep().await,
            Fault::RedisFull => self.redis_full().await,
            Fault::Flush => self.flush().await,
            Fault::PubsubKill => self.pubsub_kill().await,
            Fault::LinkFreezeDown | Fault::LinkFreezeUp => self.link_freeze(fault),
            Fault::LinkCut => self.link_cut(),
            Fault::LinkDelay => self.link_delay().await,
            Fault::LaggingFailover => self.lagging_failover().await,
            Fault::LaggingSentinel => self.lagging_sentinel().await,
            Fault::Zombie => self.zombie().await,
            Fault::ClusterFailover => self.cluster_failover().await,
            Fault::ClusterForce => self.cluster_force().await,
            Fault::ClusterKill => self.cluster_kill().await,
            Fault::BusPartition => self.bus_partition().await,
            Fault::SlotMove => self.slot_move().await,
        }
    }

    async fn mend(&mut self, struck: Struck) {
        match struck {
            Struck::Over => {}
            Struck::NodeDead(node) => self.nodes.start(node),
            Struck::NodeFrozen(node) => self.nodes.thaw(node),
            Struck::NodeClock(node) => self.nodes.set_clock(node, 0),
            Struck::ServerDead => self.topology.servers[0].restart().await,
            Struck::ServerFrozen => self.topology.servers[0].thaw(),
            Struck::ServerFull => self.give_memory().await,
            Struck::Links(node) => self.links_pass(node),
            Struck::Replaced(old) => self.topology.rejoin(old).await,
            Struck::Zombie(old) => self.zombie_wakes(old).await,
            Struck::MemberDead(member) => {
                self.topology.servers[member].restart().await;
                self.topology.is_whole().await;
            }
            Struck::MemberAlone(member) => {
                self.topology.isolate(member, false);
                self.topology.is_whole().await;
            }
            Struck::Shuffled => self.topology.is_whole().await,
        }
    }

    /// A node that runs.
    fn a_node(&mut self) -> usize {
        let running = self.nodes.running();
        *self.random.pick(&running)
    }

    /// Lets the load run on for a drawn time.
    async fn pause(&mut self, min_ms: u64, max_ms: u64) {
        let ms = min_ms + self.random.below(max_ms - min_ms);
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}
