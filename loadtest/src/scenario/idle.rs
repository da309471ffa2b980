//! `idle`: what a connection costs that does nothing.
//!
//! It counts on `/proc`, so on nodes of its own; the last message shows that all were there.

use std::{sync::Arc, time::Duration};

use anyhow::Result;

use super::{audience, outlets};
use crate::{
    hub::Settings,
    limits::Needs,
    publish::{self, Schedule},
    run::Scenario,
    sampler::float,
    stage::Stage,
};

/// Many connections that do nothing: memory and CPU of each; in the end one message for everybody.
#[derive(Debug, Clone, clap::Args)]
pub struct Idle {
    /// Connections, each with a session and one subscription.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Channels they are divided among.
    #[arg(long, default_value_t = 1_000)]
    channels: usize,
    /// How long they do nothing.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

/// Connections before the first look, so that what a node allocates once is not counted.
const WARM: usize = 64;
/// What is freed and written late is freed and written by then.
const CALM: Duration = Duration::from_secs(2);
/// The last messages, a second.
const RATE: f64 = 500.0;

impl Scenario for Idle {
    const NAME: &'static str = "idle";

    fn needs(&self) -> Needs {
        audience::needs(self.connections + WARM)
    }

    fn settings(&self) -> Settings {
        Settings::ONE
    }

    fn streams(&self) -> usize {
        self.channels
    }

    async fn play(&self, stage: &Arc<Stage>) -> Result<()> {
        let (all, each) = (self.connections + WARM, float(self.connections as u64));
        audience::gather_numbers(stage, "load", 0..WARM, self.channels).await?;
        tokio::time::sleep(CALM).await;
        let empty = stage.hub.usage();
        audience::gather_numbers(stage, "load", WARM..all, self.channels).await?;
        let connected = stage.hub.usage();
        stage.mark("all connected");
        tokio::time::sleep(CALM).await;
        let calm = stage.hub.usage();
        tokio::time::sleep(Duration::from_secs(self.seconds)).await;
        let idle = stage.hub.usage();
        if stage.hub.own_nodes() > 0 {
            let bytes = float(idle.resident.saturating_sub(empty.resident)) / each;
            stage.find("resident bytes of the node per connection", bytes, "bytes");
            let connect = (connected.cpu_seconds - empty.cpu_seconds) * 1e6 / each;
            stage.find("CPU of the node per connect", connect, "µs");
            let doing_nothing = (idle.cpu_seconds - calm.cpu_seconds) * 100.0;
            let share = doing_nothing / float(self.seconds.max(1));
            stage.find(
                "CPU of the node while nothing happens",
                share,
                "% of a core",
            );
        }
        let channels = u32::try_from(self.channels)?;
        let lasting = Duration::from_secs_f64(f64::from(channels) / RATE);
        let outlets = outlets(stage, "load", self.channels);
        let schedule = Schedule::steady(outlets, stage.begin(), RATE, lasting);
        publish::play(stage, &schedule).await
    }
}
