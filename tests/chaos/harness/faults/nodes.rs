//! Faults of nodes: killed, frozen, drained, flooded, or with a clock that is wrong.

use std::time::Duration;

use super::{Struck, World};
use crate::harness::publisher::flood;

/// Furthest that the clock of a node is put wrong, seconds.
const CLOCK_OFF_MAX: u64 = 600;

impl World {
    pub(super) fn node_kill(&mut self) -> Struck {
        let node = self.a_node();
        self.nodes.kill(node);
        Struck::NodeDead(node)
    }

    /// The first node stays: it is asked for the logs in the end.
    pub(super) fn node_loss(&mut self) -> Struck {
        let others = self.nodes.count() as u64 - 1;
        let node = 1 + usize::try_from(self.random.below(others)).unwrap();
        self.nodes.kill(node);
        Struck::Over
    }

    pub(super) async fn node_freeze(&mut self) -> Struck {
        let node = self.a_node();
        self.nodes.freeze(node);
        // Silence long enough for a client that wakes to doubt its connection: it goes on
        // elsewhere, and the node wakes with sessions that others hold.
        self.pause(5_500, 7_000).await;
        self.wakes.send_modify(|count| *count += 1);
        Struck::NodeFrozen(node)
    }

    /// Puts the clock of a node wrong, in either direction, while it works.
    pub(super) fn node_clock(&mut self) -> Struck {
        let node = self.a_node();
        let seconds = i64::try_from(1 + self.random.below(CLOCK_OFF_MAX)).unwrap();
        let sign = if self.random.below(2) == 0 { 1 } else { -1 };
        self.nodes.set_clock(node, sign * seconds);
        Struck::NodeClock(node)
    }

    pub(super) async fn drain(&mut self) -> Struck {
        let node = self.a_node();
        self.nodes.drain(node).await;
        Struck::NodeDead(node)
    }

    pub(super) async fn small_buffers(&mut self) -> Struck {
        let limit = "pubsub 1mb 1mb 1";
        let words = ["CONFIG", "SET", "client-output-buffer-limit", limit];
        self.topology.servers[0].must(&words).await;
        let node = self.a_node();
        self.nodes.freeze(node);
        let other = (node + 1) % self.nodes.count();
        let url = self.nodes.url(other, "/v1/batch");
        flood(&url, Duration::from_secs(5)).await;
        Struck::NodeFrozen(node)
    }
}
