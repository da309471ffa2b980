//! `storm`: all connections are lost at once, and everybody comes back at once.
//!
//! Connections break without a word, all in one go. It never ends a session.

use std::{sync::Arc, time::Duration};

use anyhow::Result;

use super::{audience, coming_back, steady};
use crate::{hub::Settings, limits::Needs, publish, run::Scenario, stage::Stage};

/// All connections are lost at the same moment while messages flow, and everybody comes back.
#[derive(Debug, Clone, clap::Args)]
pub struct Storm {
    /// Clients.
    #[arg(long, default_value_t = 2_000)]
    clients: usize,
    /// Channels they are divided among.
    #[arg(long, default_value_t = 100)]
    channels: usize,
    /// Messages a second, over all channels.
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    /// How often everybody is cut off.
    #[arg(long, default_value_t = 3)]
    storms: u32,
    /// Seconds before the first storm, between two, and after the last.
    #[arg(long, default_value_t = 8)]
    pause: u64,
    /// Bytes of data in a message.
    #[arg(long, default_value_t = 128)]
    payload: usize,
}

impl Scenario for Storm {
    const NAME: &'static str = "storm";

    fn needs(&self) -> Needs {
        audience::needs_full(self.clients)
    }

    fn settings(&self) -> Settings {
        Settings {
            history: 1_000,
            ..Settings::ONE
        }
    }

    fn streams(&self) -> usize {
        self.channels
    }

    async fn play(&self, stage: &Arc<Stage>) -> Result<()> {
        let clients = audience::gather_full(stage, self.clients, self.channels).await?;
        let pause = Duration::from_secs(self.pause);
        let lasting = pause * (self.storms + 1);
        let schedule = steady(stage, self.channels, self.rate, lasting, self.payload);
        let storms = async {
            for storm in 1..=self.storms {
                tokio::time::sleep_until(stage.clock.at(schedule.from + pause * storm)).await;
                let before = coming_back::back(stage);
                clients.iter().for_each(|full| full.network.cut());
                stage.mark(format!("storm {storm}"));
                clients.iter().for_each(|full| full.network.restore());
                let took = coming_back::all_resumed(stage, before, clients.len()).await;
                let what = format!("storm {storm}: until all {} were back", clients.len());
                coming_back::tell(stage, &what, clients.len(), took);
            }
        };
        let (played, ()) = tokio::join!(publish::play(stage, &schedule), storms);
        played
    }
}
