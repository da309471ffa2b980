//! The scenarios: on which Redis, which fault, and what may be lost in it.
//!
//! The list is the whole of it: the tests and `scripts/chaos` take their scenarios from here.

use std::time::Duration;

use super::{
    fault::{Fault, Target},
    load::Rate,
    seeded::Seeded,
    topology::Layout,
};

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

/// Many sessions with little to read: what counts is that they all come back. The rate is the team's:
/// with less, what Redis does before is the nodes' audit of heads, and no measure of a hub at work.
const CROWD: Size = Size {
    clients: 6_000,
    publishers: 10,
    rate: 100.0,
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
    /// Of a pair: the other scenario's name, and the fault that falls into the first.
    pub other: Option<(&'static str, Fault)>,
    /// Redis keeps what it acknowledged over a SIGKILL.
    pub durable: bool,
    /// The fault may take acknowledged publications with it; readers must be told.
    pub may_lose: bool,
    /// The class of acknowledgement asked for: what `replicated` acknowledges is never lost here.
    pub acknowledge: &'static str,
    pub size: Size,
    /// Redis commands during the fault and the way back, as a multiple of those before.
    pub load_max: Option<f64>,
    /// The numbers of faults in the table of the project's reliability research.
    pub faults: &'static str,
}

impl Scenario {
    /// Its name in the table.
    pub fn title(&self) -> String {
        self.other.map_or_else(
            || self.name.to_owned(),
            |(other, _)| format!("{}+{other}", self.name),
        )
    }

    /// What goes wrong, in its order.
    pub fn wrongs(&self) -> Vec<Fault> {
        let other = self.other.map(|(_, fault)| fault);
        std::iter::once(self.fault).chain(other).collect()
    }

    /// Whether nodes go on all the time.
    pub fn spares_nodes(&self) -> bool {
        self.wrongs().iter().all(|fault| fault.spares_nodes())
    }

    /// Both faults in one run. None: they cannot overlap.
    fn with(&self, other: &Self) -> Option<Self> {
        let layout = match (self.fault.target(), other.fault.target()) {
            (Target::Node, Target::Server | Target::Link | Target::Primary)
            | (Target::Server, Target::Link) => other.layout,
            (Target::Server | Target::Link | Target::Primary, Target::Node)
            | (Target::Link, Target::Server) => self.layout,
            (Target::Link, Target::Primary) if other.layout == Replicated => Replicated,
            (Target::Primary, Target::Link) if self.layout == Replicated => Replicated,
            (Target::Node, Target::Node)
            | (Target::Server, Target::Server | Target::Primary)
            | (Target::Link, Target::Link | Target::Primary)
            | (Target::Primary, Target::Server | Target::Link | Target::Primary) => return None,
        };
        Some(Self {
            layout,
            other: Some((other.name, other.fault)),
            durable: self.durable && other.durable,
            may_lose: self.may_lose || other.may_lose,
            ..*self
        })
    }

    /// Whether it may be one of a pair: a flood, a loss for good and a crowd are runs of their own,
    /// and where a failover takes long, `replicated` says nothing more beside a second fault.
    fn is_pairable(&self) -> bool {
        let alone = [Fault::SmallBuffers, Fault::NodeLoss];
        !alone.contains(&self.fault) && self.acknowledge == "log"
    }

    /// The pair of this seed.
    pub fn pair(seed: u64) -> Self {
        let singles = || SCENARIOS.iter().filter(|scenario| scenario.is_pairable());
        let pairs: Vec<_> = singles()
            .flat_map(|one| singles().filter_map(|other| one.with(other)))
            .collect();
        let mut random = Seeded(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        random.next();
        *random.pick(&pairs)
    }

    /// What is wrong with the commands a second before the fault and since, if anything is.
    pub fn overload(&self, load: (Option<Rate>, Option<Rate>)) -> Option<String> {
        let (Some(max), Some(before), Some(since)) = (self.load_max, load.0, load.1) else {
            return None;
        };
        let (before, since) = (before.commands, since.commands);
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
        other: None,
        durable: true,
        may_lose: false,
        acknowledge: "log",
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

/// A publication is acknowledged when a replica has it; readers may see it before.
const fn replicated(scenario: Scenario) -> Scenario {
    Scenario {
        acknowledge: "replicated",
        ..lossy(scenario)
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
    scenario("node-clock", Alone, Fault::NodeClock, "F24"),
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
    scenario("redis-full", Alone, Fault::RedisFull, "F12"),
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
    replicated(scenario(
        "replicated-failover",
        Replicated,
        Fault::LaggingFailover,
        "F5",
    )),
    replicated(scenario(
        "replicated-sentinel",
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
    lossy(scenario(
        "cluster-force",
        Cluster,
        Fault::ClusterForce,
        "F8",
    )),
    lossy(scenario(
        "bus-partition",
        Cluster,
        Fault::BusPartition,
        "F7 F8",
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
