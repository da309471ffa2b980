//! The scenarios: on which Redis, which fault, and what may be lost in it.
//!
//! The list is the whole of it: the tests and `scripts/chaos` take their scenarios from here.

use std::time::Duration;

use super::topology::Layout;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL of one node after another, each started again.
    NodeKill,
    /// SIGSTOP of a node for longer than its clients wait.
    NodeFreeze,
    /// SIGTERM of one node after another.
    Drain,
    /// SIGKILL of Redis, started again.
    RedisKill,
    /// SIGSTOP of Redis.
    RedisFreeze,
    /// `DEBUG SLEEP`.
    RedisSleep,
    /// `FLUSHALL`.
    Flush,
    /// `CLIENT KILL TYPE pubsub` each second.
    PubsubKill,
    /// An output buffer of 1 MB, a node that stands still, and a flood.
    SmallBuffers,
    /// A node's link to Redis swallows what comes from Redis.
    LinkFreezeDown,
    /// A node's link to Redis swallows what goes to Redis.
    LinkFreezeUp,
    /// The nodes' links to Redis are cut again and again.
    LinkCut,
    /// The links are slow and uneven.
    LinkDelay,
    /// The primary dies and its replica had not read the last publications; led by hand.
    LaggingFailover,
    /// The same under Sentinels.
    LaggingSentinel,
    /// The primary stands still, the Sentinels replace it, and it wakes.
    Zombie,
    /// `CLUSTER FAILOVER` of each primary.
    ClusterFailover,
    /// SIGKILL of a primary of the cluster.
    ClusterKill,
    /// The slot of a channel moves key by key.
    SlotMove,
    /// SIGKILL of one node, which stays away.
    NodeLoss,
}

impl Fault {
    /// Whether nodes go on all the time: then no client loses its connection.
    pub const fn spares_nodes(self) -> bool {
        match self {
            Self::NodeKill
            | Self::NodeFreeze
            | Self::NodeLoss
            | Self::Drain
            | Self::SmallBuffers => false,
            Self::RedisKill
            | Self::RedisFreeze
            | Self::RedisSleep
            | Self::Flush
            | Self::PubsubKill
            | Self::LinkFreezeDown
            | Self::LinkFreezeUp
            | Self::LinkCut
            | Self::LinkDelay
            | Self::LaggingFailover
            | Self::LaggingSentinel
            | Self::Zombie
            | Self::ClusterFailover
            | Self::ClusterKill
            | Self::SlotMove => true,
        }
    }
}

/// Who takes part in the full run.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub clients: usize,
    pub publishers: usize,
    /// Publications a second of all publishers.
    pub rate: f64,
    /// Channels with history.
    pub logs: usize,
    /// Channels with state besides.
    pub boards: usize,
    /// Channels that one reader follows; the last of them has state.
    pub reads: usize,
    /// Quiet work before the fault, to compare with.
    pub steady: Duration,
}

/// A team at work.
const TEAM: Size = Size {
    clients: 200,
    publishers: 50,
    rate: 100.0,
    logs: 12,
    boards: 4,
    reads: 4,
    steady: Duration::from_secs(4),
};

/// Many sessions with little to read: what counts is that they all come back.
const CROWD: Size = Size {
    clients: 6_000,
    publishers: 10,
    rate: 20.0,
    logs: 100,
    boards: 20,
    reads: 2,
    steady: Duration::from_secs(15),
};

/// One scenario.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    pub name: &'static str,
    pub layout: Layout,
    pub fault: Fault,
    /// Redis keeps what it acknowledged over a SIGKILL.
    pub durable: bool,
    /// The fault may take acknowledged publications with it; readers must be told.
    pub may_lose: bool,
    pub size: Size,
    /// Redis commands during the fault and the way back, as a multiple of those before.
    pub load_max: Option<f64>,
    /// The numbers of faults in the table of the project's reliability research.
    pub faults: &'static str,
}

impl Scenario {
    /// What is wrong with the commands a second before the fault and since, if anything is.
    pub fn overload(&self, load: (Option<f64>, Option<f64>)) -> Option<String> {
        let (Some(max), Some(before), Some(since)) = (self.load_max, load.0, load.1) else {
            return None;
        };
        (since > max * before)
            .then(|| format!("{since:.0} commands a second, more than {max} × {before:.0}"))
    }
}

const fn scenario(
    name: &'static str,
    layout: Layout,
    fault: Fault,
    faults: &'static str,
) -> Scenario {
    Scenario {
        name,
        layout,
        fault,
        durable: true,
        may_lose: false,
        size: TEAM,
        load_max: None,
        faults,
    }
}

/// Acknowledged publications may be lost.
const fn lossy(scenario: Scenario) -> Scenario {
    Scenario {
        may_lose: true,
        ..scenario
    }
}

/// Redis writes nothing to disk.
const fn volatile(scenario: Scenario) -> Scenario {
    Scenario {
        durable: false,
        ..scenario
    }
}

use Layout::{Alone, Cluster, Direct, Replicated, Sentinel};

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    scenario("node-kill", Alone, Fault::NodeKill, "F25"),
    scenario("node-loss", Alone, Fault::NodeLoss, "F25"),
    scenario("node-freeze", Alone, Fault::NodeFreeze, "F23 F26"),
    scenario("drain", Alone, Fault::Drain, "operations"),
    scenario("redis-kill", Alone, Fault::RedisKill, "F13 F31"),
    lossy(volatile(scenario(
        "redis-kill-volatile",
        Alone,
        Fault::RedisKill,
        "F13 F30",
    ))),
    scenario("redis-freeze", Alone, Fault::RedisFreeze, "F19 F20"),
    scenario("redis-sleep", Alone, Fault::RedisSleep, "F19"),
    lossy(scenario("flushall", Alone, Fault::Flush, "F30")),
    scenario("pubsub-kill", Alone, Fault::PubsubKill, "F1 F3"),
    scenario("small-buffers", Alone, Fault::SmallBuffers, "F2"),
    scenario("link-freeze-down", Alone, Fault::LinkFreezeDown, "F20 F27"),
    scenario("link-freeze-up", Alone, Fault::LinkFreezeUp, "F20 F27"),
    scenario("link-cut", Alone, Fault::LinkCut, "F3 F16"),
    scenario("link-delay", Alone, Fault::LinkDelay, "F18"),
    lossy(scenario(
        "lagging-failover",
        Replicated,
        Fault::LaggingFailover,
        "F5 F6 F15 F17",
    )),
    lossy(scenario(
        "lagging-sentinel",
        Sentinel,
        Fault::LaggingSentinel,
        "F5 F7",
    )),
    lossy(scenario("zombie", Sentinel, Fault::Zombie, "F7")),
    lossy(scenario(
        "cluster-failover",
        Cluster,
        Fault::ClusterFailover,
        "F8",
    )),
    lossy(scenario("cluster-kill", Cluster, Fault::ClusterKill, "F8")),
    scenario("slot-move", Cluster, Fault::SlotMove, "F9 F10"),
    Scenario {
        size: CROWD,
        load_max: Some(3.0),
        ..scenario("kill-6000", Direct, Fault::NodeLoss, "storm")
    },
];

/// The scenario of this name.
pub fn named(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}
