//! Faults that put another server in the place of a primary: by hand, by Sentinels, by a cluster.

use super::{Struck, World};

impl World {
    pub(super) async fn lagging_failover(&mut self) -> Struck {
        self.topology.lag().await;
        self.pause(500, 3_000).await;
        let old = self.topology.kill_primary().await;
        self.topology.promote_by_hand(old).await;
        Struck::Replaced(old)
    }

    pub(super) async fn lagging_sentinel(&mut self) -> Struck {
        self.topology.lag().await;
        self.pause(500, 2_000).await;
        let old = self.topology.kill_primary().await;
        self.topology.promoted_by_sentinels(old).await;
        Struck::Replaced(old)
    }

    pub(super) async fn zombie(&mut self) -> Struck {
        let (old, _) = self.topology.primary_and_replica().await;
        self.topology.servers[old].freeze();
        self.topology.promoted_by_sentinels(old).await;
        Struck::Zombie(old)
    }

    pub(super) async fn zombie_wakes(&mut self, old: usize) {
        self.topology.servers[old].thaw();
        // The Sentinels make it a replica in their own time; until then it takes writes.
        self.pause(3_000, 6_000).await;
        self.topology.rejoin(old).await;
    }

    /// A graceful failover of each primary.
    pub(super) async fn cluster_failover(&mut self) -> Struck {
        for primary in self.topology.primaries().await {
            self.topology.fail_over(primary, None).await;
            self.pause(1_000, 2_000).await;
        }
        Struck::Shuffled
    }

    /// A replica takes the place of a primary that lives: without asking it, or anybody.
    pub(super) async fn cluster_force(&mut self) -> Struck {
        let primaries = self.topology.primaries().await;
        let primary = *self.random.pick(&primaries);
        let how = *self.random.pick(&["FORCE", "TAKEOVER"]);
        self.topology.fail_over(primary, Some(how)).await;
        Struck::Shuffled
    }

    pub(super) async fn cluster_kill(&mut self) -> Struck {
        let primaries = self.topology.primaries().await;
        let primary = *self.random.pick(&primaries);
        let replica = self.topology.follower_of(primary).await;
        self.topology.servers[primary].kill();
        self.topology.becomes_primary(replica).await;
        Struck::MemberDead(primary)
    }

    /// A primary that its clients reach and no other member does: it is replaced, and does not
    /// know.
    pub(super) async fn bus_partition(&mut self) -> Struck {
        let primaries = self.topology.primaries().await;
        let primary = *self.random.pick(&primaries);
        let replica = self.topology.follower_of(primary).await;
        self.topology.isolate(primary, true);
        self.topology.becomes_primary(replica).await;
        Struck::MemberAlone(primary)
    }

    pub(super) async fn slot_move(&mut self) -> Struck {
        let channel = self.random.pick(&self.channels).clone();
        let slot = self.topology.slot_of(&channel).await;
        self.topology.move_slot(slot).await;
        Struck::Over
    }
}
