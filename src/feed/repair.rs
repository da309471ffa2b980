//! The feed's two tasks that compare logs with the broker: what is in doubt at once, and
//! everything in turn.
//!
//! Announcements are hints, and these are what makes a lost one cost time and nothing else. Never
//! reads publications: where a log has moved on, readers fetch them from history.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tidewire_protocol::{ChannelName, Position};
use tokio::time::MissedTickBehavior;

use super::Feed;
use crate::{
    broker::{Announce, BrokerError, Head},
    channel::{Channel, Settled},
    clock,
    telemetry::labels::RepairCause,
};

/// Most channels compared in one step of the broker: a few KiB, and no hold-up for others.
const ROUND_MAX: usize = 256;
/// Waits before the broker is asked again that did not answer, or not for sure: doubling from
/// about a round trip, and short enough that a broker that is back is used within a second.
const WAIT_MIN: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Channels audited at a time, and how often: what Redis does not notice, and a node with 10,000
/// channels is through in a minute.
const AUDIT_CHANNELS: usize = 200;
const AUDIT_EVERY: Duration = Duration::from_secs(1);

impl Feed {
    /// Starts the tasks.
    pub fn start(&self) {
        let (repairing, auditing) = (self.clone(), self.clone());
        self.tasks
            .spawn_until_stop(async move { repairing.repair().await });
        self.tasks
            .spawn_until_stop(async move { auditing.audit().await });
    }

    /// Compares what is in doubt, as long as there is any.
    async fn repair(&self) {
        let doubts = self.logs.doubts();
        let (mut size, mut wait) = (ROUND_MAX, WAIT_MIN);
        loop {
            let taken = doubts.take(size);
            if taken.is_empty() {
                doubts.told().await;
                continue;
            }
            let is_clear = match self.compare(&taken).await {
                Ok(unsure) => {
                    doubts.compared(&taken, |name| unsure.contains(name));
                    size = (2 * size).min(ROUND_MAX);
                    unsure.is_empty()
                }
                Err(_unavailable) => {
                    doubts.compared(&taken, |_| true);
                    // One server of several may be away: smaller steps get by it.
                    size = (size / 2).max(1);
                    false
                }
            };
            if is_clear {
                wait = WAIT_MIN;
                continue;
            }
            tokio::select! {
                // In order, so that the same happens in every run of a simulation.
                biased;
                () = tokio::time::sleep(wait) => wait = (2 * wait).min(WAIT_MAX),
                () = doubts.reached() => wait = WAIT_MIN,
            }
        }
    }

    /// Compares channels in one step; answers those that must be compared again.
    async fn compare(
        &self,
        doubted: &[(ChannelName, RepairCause)],
    ) -> Result<Vec<ChannelName>, BrokerError> {
        let (mut names, mut followed) = (Vec::new(), Vec::new());
        for (name, cause) in doubted {
            if let Some(channel) = self.logs.get(name) {
                names.push(name.clone());
                let version = channel.version().0;
                followed.push((channel, version, *cause));
            }
        }
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let heads = self.broker.heads(&names).await?;
        let mut unsure = Vec::new();
        for ((channel, version, cause), head) in followed.iter().zip(&heads) {
            if self.settle(channel, head, *version, *cause) == Settled::Unsure {
                unsure.push(channel.name().clone());
            }
        }
        self.logs.flush();
        Ok(unsure)
    }

    /// Takes a head that was asked for when the log was of this version. Whoever calls it lets
    /// the readers know (`flush`).
    pub fn settle(
        &self,
        channel: &Arc<Channel>,
        head: &Head,
        version: u64,
        cause: RepairCause,
    ) -> Settled {
        let settled = channel.settle(head, version);
        if settled.0 != Settled::Unsure {
            self.heads.trust(channel.name());
            return self.logs.settled(channel, settled, cause);
        }
        if self.heads.suspect(channel.name(), clock::now_ms()) {
            return Settled::Unsure;
        }
        tracing::warn!(
            channel = %channel.name(),
            "the broker answers for an older generation, and nothing newer is left"
        );
        self.logs.settled(channel, channel.adopt(head), cause)
    }

    /// Compares every followed channel in turn. A head that is ahead may be of a publication whose
    /// announcement is on its way, so the log has until the next round to come to it.
    async fn audit(&self) {
        let mut rounds = tokio::time::interval(AUDIT_EVERY);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut turn, mut ahead) = (VecDeque::new(), Vec::new());
        loop {
            rounds.tick().await;
            self.doubt_short(std::mem::take(&mut ahead));
            if self.logs.doubts().is_lost() {
                continue;
            }
            if turn.is_empty() {
                turn = self.logs.names(&|_| true).into();
            }
            let names: Vec<_> = turn.drain(..turn.len().min(AUDIT_CHANNELS)).collect();
            if names.is_empty() {
                continue;
            }
            if let Ok(heads) = self.broker.heads(&names).await {
                let positions = heads.into_iter().map(|head| head.position);
                ahead = names.into_iter().zip(positions).collect();
                ahead.retain(|(name, position)| self.is_short(name, position));
            }
        }
    }

    fn is_short(&self, name: &ChannelName, position: &Position) -> bool {
        let channel = self.logs.get(name);
        channel.is_some_and(|channel| channel.is_short_of(position))
    }

    fn doubt_short(&self, ahead: Vec<(ChannelName, Position)>) {
        let short = ahead
            .into_iter()
            .filter(|(name, position)| self.is_short(name, position))
            .map(|(name, _)| name);
        let short: Vec<_> = short.collect();
        if !short.is_empty() {
            self.logs.doubts().add(short, RepairCause::Audit);
        }
    }
}
