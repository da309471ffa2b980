//! Faults of the links between nodes and Redis: frozen one way, cut, refused, slow and uneven.

use std::time::Duration;

use super::{Struck, World};
use crate::harness::{
    fault::Fault,
    proxy::{Direction, Mode, Whose},
};

impl World {
    fn a_front(&mut self) -> usize {
        let count = self.topology.fronts.len() as u64;
        usize::try_from(self.random.below(count)).unwrap()
    }

    pub(super) fn link_freeze(&mut self, fault: Fault) -> Struck {
        let node = self.a_front();
        let front = &self.topology.fronts[node];
        let direction = if fault == Fault::LinkFreezeUp {
            Direction::Up
        } else {
            Direction::Down
        };
        // One connection at times, so that the others of the node have to notice.
        let open = front.connections();
        let whose = if self.random.below(2) == 0 || open.is_empty() {
            Whose::All
        } else {
            Whose::One(*self.random.pick(&open))
        };
        front.set(whose, direction, Mode::Freeze);
        Struck::Links(node)
    }

    pub(super) fn link_cut(&mut self) -> Struck {
        let node = self.a_front();
        let refuse = self.random.below(3) == 0;
        let front = &self.topology.fronts[node];
        front.refuse(refuse);
        front.cut(Whose::All);
        Struck::Links(node)
    }

    pub(super) async fn link_delay(&mut self) -> Struck {
        let node = self.a_front();
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
        Struck::Links(node)
    }

    pub(super) fn links_pass(&self, node: usize) {
        self.topology.fronts[node].refuse(false);
        self.topology.fronts[node].set_all(Mode::Pass);
    }
}
