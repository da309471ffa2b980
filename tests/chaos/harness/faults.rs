//! What each fault does, for as long as the scenario asks; everything is whole again afterwards.
//!
//! The places and times are drawn from the scenario's seed; what the processes make of them is
//! their own, so a seed repeats the plan of a run and not its every step.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::{
    ask::{ask, ask_within},
    nodes::Nodes,
    proxy::{Direction, Mode, Whose},
    publisher::flood,
    scenario::Fault,
    seeded::Seeded,
    topology::Topology,
};

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
}

impl World {
    /// Does the fault until its time is over.
    pub async fn suffer(&mut self, fault: Fault) {
        match fault {
            Fault::NodeKill => self.node_kill().await,
            Fault::NodeFreeze => self.node_freeze().await,
            Fault::Drain => self.drain().await,
            Fault::RedisKill => self.redis_kill().await,
            Fault::RedisFreeze => self.redis_freeze().await,
            Fault::RedisSleep => self.redis_sleep().await,
            Fault::Flush => self.flush().await,
            Fault::PubsubKill => self.pubsub_kill().await,
            Fault::SmallBuffers => self.small_buffers().await,
            Fault::LinkFreezeDown => self.link_freeze(Direction::Down).await,
            Fault::LinkFreezeUp => self.link_freeze(Direction::Up).await,
            Fault::LinkCut => self.link_cut().await,
            Fault::LinkDelay => self.link_delay().await,
            Fault::LaggingFailover => self.lagging_failover().await,
            Fault::LaggingSentinel => self.lagging_sentinel().await,
            Fault::Zombie => self.zombie().await,
            Fault::ClusterFailover => self.cluster_failover().await,
            Fault::ClusterKill => self.cluster_kill().await,
            Fault::SlotMove => self.slot_move().await,
            Fault::NodeLoss => self.node_loss(),
        }
    }

    fn goes_on(&self) -> bool {
        Instant::now() < self.until
    }

    fn a_node(&mut self) -> usize {
        let count = self.nodes.count() as u64;
        usize::try_from(self.random.below(count)).unwrap()
    }

    /// Lets the load run on for a drawn time.
    async fn pause(&mut self, min_ms: u64, max_ms: u64) {
        let ms = min_ms + self.random.below(max_ms - min_ms);
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    async fn node_kill(&mut self) {
        while self.goes_on() {
            let node = self.a_node();
            self.nodes.kill(node);
            self.pause(500, 3_000).await;
            self.nodes.start(node);
            self.nodes.ready(node).await;
            self.pause(500, 2_000).await;
        }
    }

    /// The first node stays: it is asked for the logs in the end.
    fn node_loss(&mut self) {
        let others = self.nodes.count() as u64 - 1;
        let node = 1 + usize::try_from(self.random.below(others)).unwrap();
        self.nodes.kill(node);
    }

    async fn node_freeze(&mut self) {
        while self.goes_on() {
            let node = self.a_node();
            self.nodes.freeze(node);
            // Silence long enough for a client that wakes to doubt its connection: it goes on
            // elsewhere, and the node wakes with sessions that others hold.
            self.pause(5_500, 7_000).await;
            self.wakes.send_modify(|count| *count += 1);
            self.pause(3_000, 8_000).await;
            self.nodes.thaw(node);
            self.pause(1_000, 3_000).await;
        }
    }

    async fn drain(&mut self) {
        let mut node = self.a_node();
        while self.goes_on() {
            self.nodes.drain(node).await;
            self.nodes.start(node);
            self.nodes.ready(node).await;
            self.pause(1_000, 2_000).await;
            node = (node + 1) % self.nodes.count();
        }
    }

    async fn redis_kill(&mut self) {
        while self.goes_on() {
            self.topology.servers[0].kill();
            self.pause(200, 3_000).await;
            self.topology.servers[0].restart().await;
            self.pause(3_000, 6_000).await;
        }
    }

    async fn redis_freeze(&mut self) {
        while self.goes_on() {
            self.topology.servers[0].freeze();
            self.pause(1_000, 8_000).await;
            self.topology.servers[0].thaw();
            self.pause(2_000, 5_000).await;
        }
    }

    async fn redis_sleep(&mut self) {
        while self.goes_on() {
            let port = self.topology.servers[0].port;
            let seconds = (1 + self.random.below(5)).to_string();
            let words = ["DEBUG", "SLEEP", &seconds];
            let slept: Result<String, _> = ask_within(port, &words, Duration::from_secs(10)).await;
            slept.unwrap();
            self.pause(2_000, 4_000).await;
        }
    }

    async fn flush(&mut self) {
        while self.goes_on() {
            self.topology.servers[0].must(&["FLUSHALL"]).await;
            self.pause(4_000, 8_000).await;
        }
    }

    async fn pubsub_kill(&mut self) {
        while self.goes_on() {
            let port = self.topology.servers[0].port;
            let words = ["CLIENT", "KILL", "TYPE", "pubsub"];
            let _killed: Result<u64, _> = ask(port, &words).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn small_buffers(&mut self) {
        let limit = "pubsub 1mb 1mb 1";
        let words = ["CONFIG", "SET", "client-output-buffer-limit", limit];
        self.topology.servers[0].must(&words).await;
        while self.goes_on() {
            let node = self.a_node();
            self.nodes.freeze(node);
            let other = (node + 1) % self.nodes.count();
            let url = self.nodes.url(other, "/v1/batch");
            flood(&url, Duration::from_secs(5)).await;
            self.nodes.thaw(node);
            self.pause(3_000, 5_000).await;
        }
    }

    async fn link_freeze(&mut self, direction: Direction) {
        while self.goes_on() {
            let node = self.a_node();
            let front = &self.topology.fronts[node];
            // One connection at times, so that the others of the node have to notice.
            let open = front.connections();
            let whose = if self.random.below(2) == 0 || open.is_empty() {
                Whose::All
            } else {
                Whose::One(*self.random.pick(&open))
            };
            front.set(whose, direction, Mode::Freeze);
            self.pause(4_000, 8_000).await;
            self.topology.fronts[node].set_all(Mode::Pass);
            self.pause(2_000, 4_000).await;
        }
    }

    async fn link_cut(&mut self) {
        while self.goes_on() {
            let node = self.a_node();
            let refuse = self.random.below(3) == 0;
            let front = &self.topology.fronts[node];
            front.refuse(refuse);
            front.cut(Whose::All);
            self.pause(300, 2_000).await;
            self.topology.fronts[node].refuse(false);
            self.pause(200, 1_500).await;
        }
    }

    async fn link_delay(&mut self) {
        while self.goes_on() {
            let node = self.a_node();
            let open = self.topology.fronts[node].connections();
            for number in open {
                let delay = Duration::from_millis(50 + self.random.below(450));
                let front = &self.topology.fronts[node];
                for direction in [Direction::Up, Direction::Down] {
                    front.set(Whose::One(number), direction, Mode::Delay(delay));
                }
            }
            self.pause(2_000, 4_000).await;
            let front = &self.topology.fronts[node];
            front.set(Whose::All, Direction::Down, Mode::Trickle);
            self.pause(500, 1_500).await;
            self.topology.fronts[node].set_all(Mode::Pass);
            self.pause(1_000, 2_000).await;
        }
    }

    async fn lagging_failover(&mut self) {
        while self.goes_on() {
            self.topology.lag().await;
            self.pause(500, 3_000).await;
            let old = self.topology.kill_primary().await;
            self.topology.promote_by_hand(old).await;
            self.pause(3_000, 5_000).await;
            self.topology.rejoin(old).await;
            self.pause(1_000, 2_000).await;
        }
    }

    async fn lagging_sentinel(&mut self) {
        while self.goes_on() {
            self.topology.lag().await;
            self.pause(500, 2_000).await;
            let old = self.topology.kill_primary().await;
            self.topology.promoted_by_sentinels(old).await;
            self.pause(3_000, 5_000).await;
            self.topology.rejoin(old).await;
            self.pause(2_000, 4_000).await;
        }
    }

    async fn zombie(&mut self) {
        while self.goes_on() {
            let (old, _) = self.topology.primary_and_replica().await;
            self.topology.servers[old].freeze();
            self.topology.promoted_by_sentinels(old).await;
            self.pause(1_000, 3_000).await;
            self.topology.servers[old].thaw();
            // The Sentinels make it a replica in their own time; until then it takes writes.
            self.pause(3_000, 6_000).await;
            self.topology.rejoin(old).await;
            self.pause(2_000, 4_000).await;
        }
    }

    async fn cluster_failover(&mut self) {
        let mut primaries = self.topology.primaries().await;
        while self.goes_on() {
            for primary in &mut primaries {
                *primary = self.topology.fail_over(*primary).await;
                self.pause(1_000, 2_000).await;
            }
        }
    }

    async fn cluster_kill(&mut self) {
        while self.goes_on() {
            let primaries = self.topology.primaries().await;
            let primary = *self.random.pick(&primaries);
            let replica = self.topology.follower_of(primary).await;
            self.topology.servers[primary].kill();
            self.topology.becomes_primary(replica).await;
            self.pause(1_000, 3_000).await;
            self.topology.servers[primary].restart().await;
            self.topology.is_whole().await;
            self.pause(1_000, 2_000).await;
        }
    }

    async fn slot_move(&mut self) {
        while self.goes_on() {
            let channel = self.random.pick(&self.channels).clone();
            let slot = self.topology.slot_of(&channel).await;
            self.topology.move_slot(slot).await;
            self.pause(500, 1_500).await;
        }
    }
}
