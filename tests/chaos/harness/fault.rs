//! The faults by name: what each is done to, and whom it spares.
//!
//! Only names; `faults` does them.

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL of one node after another, each started again.
    NodeKill,
    /// SIGSTOP of a node for longer than its clients wait.
    NodeFreeze,
    /// The clock of a node is put wrong by up to ten minutes, either way.
    NodeClock,
    /// SIGTERM of one node after another.
    Drain,
    /// SIGKILL of Redis, started again.
    RedisKill,
    /// SIGSTOP of Redis.
    RedisFreeze,
    /// `DEBUG SLEEP`.
    RedisSleep,
    /// `maxmemory` is reached.
    RedisFull,
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
    /// `CLUSTER FAILOVER FORCE` and `TAKEOVER`: the primary lives and is not asked.
    ClusterForce,
    /// No member of the cluster hears a primary that its clients still reach.
    BusPartition,
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
            Self::NodeClock
            | Self::RedisKill
            | Self::RedisFreeze
            | Self::RedisSleep
            | Self::RedisFull
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
            | Self::ClusterForce
            | Self::BusPartition
            | Self::ClusterKill
            | Self::SlotMove => true,
        }
    }

    /// What it is done to: two faults of one target cannot overlap.
    pub const fn target(self) -> Target {
        match self {
            Self::NodeKill
            | Self::NodeFreeze
            | Self::NodeLoss
            | Self::NodeClock
            | Self::Drain
            | Self::SmallBuffers => Target::Node,
            Self::RedisKill
            | Self::RedisFreeze
            | Self::RedisSleep
            | Self::RedisFull
            | Self::Flush
            | Self::PubsubKill => Target::Server,
            Self::LinkFreezeDown | Self::LinkFreezeUp | Self::LinkCut | Self::LinkDelay => {
                Target::Link
            }
            Self::LaggingFailover
            | Self::LaggingSentinel
            | Self::Zombie
            | Self::ClusterFailover
            | Self::ClusterForce
            | Self::BusPartition
            | Self::ClusterKill
            | Self::SlotMove => Target::Primary,
        }
    }
}

/// What a fault is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Node,
    /// A Redis that is alone.
    Server,
    /// What lies between a node and Redis.
    Link,
    /// Who is the primary.
    Primary,
}
