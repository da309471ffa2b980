//! `fanout`: few channels, many readers; the price of a delivery.
//!
//! Readers are light, so that the cores are the node's.

use std::{sync::Arc, time::Duration};

use anyhow::Result;

use super::{audience, steady};
use crate::{hub::Settings, limits::Needs, publish, run::Scenario, stage::Stage};

/// One channel, many readers.
#[derive(Debug, Clone, clap::Args)]
pub struct Fanout {
    /// Readers in all.
    #[arg(long, default_value_t = 1_000)]
    readers: usize,
    /// Channels they are divided among.
    #[arg(long, default_value_t = 1)]
    channels: usize,
    /// Messages a second, over all channels.
    #[arg(long, default_value_t = 30.0)]
    rate: f64,
    /// How long messages are sent.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Bytes of data in a message.
    #[arg(long, default_value_t = 128)]
    payload: usize,
}

impl Scenario for Fanout {
    const NAME: &'static str = "fanout";

    fn needs(&self) -> Needs {
        audience::needs(self.readers)
    }

    fn settings(&self) -> Settings {
        Settings::ONE
    }

    fn streams(&self) -> usize {
        self.channels
    }

    async fn play(&self, stage: &Arc<Stage>) -> Result<()> {
        audience::gather(stage, "load", self.readers, self.channels).await?;
        let lasting = Duration::from_secs(self.seconds);
        let schedule = steady(stage, self.channels, self.rate, lasting, self.payload);
        publish::play(stage, &schedule).await
    }
}
