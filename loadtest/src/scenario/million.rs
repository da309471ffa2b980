//! `million`: as many sessions as the machine holds, over many nodes and one Redis.
//!
//! The crowd is in processes of its own (`crowd`), since each holds only so many files; this one
//! starts them, publishes, kills a node and adds up what they say.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, bail};

use super::{coming_back, parts::Parts};
use crate::{
    crowd::{self, Published},
    hub::Settings,
    limits::Needs,
    publish::{self, Keys, Outlet, Schedule},
    run::Scenario,
    sampler::{float, seconds},
    stage::Stage,
};

/// Sessions by the hundred thousand, each with a channel of its own and a common one; a node is
/// killed.
#[derive(Debug, Clone, clap::Args)]
pub struct Million {
    /// Sessions. A million needs 54 nodes, some 20 GiB and an hour of two cores: begin with fewer.
    #[arg(long, default_value_t = 20_000)]
    sessions: usize,
    /// Seconds from one message for everybody to the next.
    #[arg(long, default_value_t = 4)]
    every: u64,
    /// How many messages for everybody; the node is killed after the second.
    #[arg(long, default_value_t = 6)]
    messages: u64,
    /// Every so many-th session is sent messages of its own, too.
    #[arg(long, default_value_t = 100)]
    own_every: usize,
    /// Seconds the sessions may take to connect.
    #[arg(long, default_value_t = 1_800)]
    connect_within: u64,
}

/// Sessions of a node, and of a part of the crowd: below 20,000 files, with room for those of a
/// killed neighbour.
const PER_PROCESS: usize = 19_000;
/// A session with its sockets, on both sides, in the kernel and in Redis.
const SESSION_BYTES: usize = 18 * 1024;
/// The one that is killed.
const VICTIM: usize = 1;
/// How long the last deliveries may take.
const PATIENCE: Duration = Duration::from_secs(120);
const MIB: f64 = 1024.0 * 1024.0;

impl Million {
    fn nodes(&self) -> usize {
        // One more than hold them all: one is killed. Three at least, so that two share the rest.
        (self.sessions.div_ceil(PER_PROCESS) + 1).max(3)
    }

    fn of_their_own(&self) -> usize {
        self.sessions.div_ceil(self.own_every.max(1))
    }
}

impl Scenario for Million {
    const NAME: &'static str = "million";

    fn needs(&self) -> Needs {
        Needs {
            connections: self.sessions,
            files_each: 0,
            bytes_each: SESSION_BYTES,
            nodes: self.nodes(),
        }
    }

    fn settings(&self) -> Settings {
        Settings {
            nodes: self.nodes(),
            redis: true,
            ..Settings::ONE
        }
    }

    fn streams(&self) -> usize {
        1 + self.sessions
    }

    fn kills(&self) -> bool {
        true
    }

    async fn play(&self, stage: &Arc<Stage>) -> Result<()> {
        let mut parts = Parts::start(stage, self.sessions, PER_PROCESS)?;
        self.connect(stage, &parts).await?;
        let published = self.publish(stage).await?;
        parts.end(stage, &published).await
    }
}

impl Million {
    /// Publishes to everybody and to some, and kills a node meanwhile.
    async fn publish(&self, stage: &Arc<Stage>) -> Result<Published> {
        let lasting = Duration::from_secs(self.every * self.messages);
        let common = Outlet {
            stream: 0,
            channel: stage.channel("load", 0),
            keys: Keys::None,
        };
        let own = (0..self.of_their_own()).map(|step| step * self.own_every.max(1));
        let own = own.map(|number| Outlet {
            stream: crowd::stream(number),
            channel: stage.channel("load", 1 + number),
            keys: Keys::None,
        });
        let own: Vec<Outlet> = own.collect();
        let begin = stage.begin();
        let rate = 1.0 / float(self.every.max(1));
        let all = Schedule::steady(vec![common], begin, rate, lasting);
        // Each gets one, spread over the whole time.
        let rate = float(own.len() as u64) / lasting.as_secs_f64().max(1.0);
        let each = Schedule::steady(own, begin, rate.max(0.1), lasting);
        let (all, each, killed) = tokio::join!(
            publish::play(stage, &all),
            publish::play(stage, &each),
            self.kill(stage, begin)
        );
        all.and(each).and(killed)?;
        Ok(Published {
            common: stage.ledger.last(0),
            own: (0..self.of_their_own())
                .map(|step| step * self.own_every.max(1))
                .map(|number| (number, stage.ledger.last(crowd::stream(number))))
                .collect(),
            patience: PATIENCE.as_secs(),
        })
    }

    async fn connect(&self, stage: &Arc<Stage>, parts: &Parts) -> Result<()> {
        let (empty, redis) = (stage.hub.usage(), stage.hub.redis().await);
        let begun = stage.clock.elapsed();
        let within = Duration::from_secs(self.connect_within);
        if !parts.complete(within).await {
            bail!(
                "not all of {} sessions were connected within {within:?}",
                self.sessions
            );
        }
        let took = stage.clock.elapsed() - begun;
        stage.mark(format!("{} connected", self.sessions));
        let each = float(self.sessions as u64);
        let (full, redis_full) = (stage.hub.usage(), stage.hub.redis().await);
        stage.find("until all were connected", seconds(took), "s");
        let bytes = float(full.resident.saturating_sub(empty.resident)) / each;
        stage.find("resident bytes of the nodes per session", bytes, "bytes");
        let cpu = (full.cpu_seconds - empty.cpu_seconds) * 1e6 / each;
        stage.find("CPU of the nodes per connect", cpu, "µs");
        stage.find("nodes, resident", float(full.resident) / MIB, "MiB");
        if let (Some((before, said)), Some((after, says))) = (redis, redis_full) {
            let cpu = (after.cpu_seconds - before.cpu_seconds) * 1e6 / each;
            stage.find("CPU of Redis per connect", cpu, "µs");
            stage.find(
                "commands to Redis per connect",
                float(says - said) / each,
                "",
            );
            let grown = float(after.resident.saturating_sub(before.resident)) / each;
            stage.find("resident bytes of Redis per session", grown, "bytes");
        }
        Ok(())
    }

    /// After the second message for everybody.
    async fn kill(&self, stage: &Arc<Stage>, begin: Duration) -> Result<()> {
        let moment = begin + Duration::from_secs(self.every) + Duration::from_millis(500);
        tokio::time::sleep_until(stage.clock.at(moment)).await;
        let nodes = stage.hub.own_nodes();
        let there = (0..self.sessions)
            .filter(|number| number % nodes == VICTIM)
            .count();
        let (before, redis) = (coming_back::back(stage), stage.hub.redis().await);
        stage.hub.kill(VICTIM)?;
        stage.mark(format!("node {VICTIM} with {there} sessions killed"));
        let took = coming_back::all_resumed(stage, before, there).await;
        let what = format!("until its {there} sessions were back");
        coming_back::tell(stage, &what, there, took);
        if let (Some((before, said)), Some((after, says))) = (redis, stage.hub.redis().await) {
            let each = float(there as u64);
            stage.find(
                "commands to Redis meanwhile, per session back",
                float(says - said) / each,
                "",
            );
            let cpu = (after.cpu_seconds - before.cpu_seconds) * 1e6 / each;
            stage.find("CPU of Redis meanwhile, per session back", cpu, "µs");
        }
        Ok(())
    }
}
