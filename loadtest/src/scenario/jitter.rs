//! `jitter`: every client loses its network again and again while messages flow.
//!
//! A connection breaks without a word. It never ends a session.

use std::{sync::Arc, time::Duration};

use anyhow::Result;

use super::{audience, coming_back, steady};
use crate::{full::Full, hub::Settings, limits::Needs, publish, run::Scenario, stage::Stage};

/// Every client drops every 15 s for 2 s while messages flow; all of them must reach it.
#[derive(Debug, Clone, clap::Args)]
pub struct Jitter {
    /// Clients.
    #[arg(long, default_value_t = 2_000)]
    clients: usize,
    /// Channels they are divided among.
    #[arg(long, default_value_t = 100)]
    channels: usize,
    /// Messages a second, over all channels.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// How long messages are sent.
    #[arg(long, default_value_t = 45)]
    seconds: u64,
    /// Milliseconds from one loss of a client's network to the next.
    #[arg(long, default_value_t = 15_000)]
    every_ms: u64,
    /// Milliseconds a client has no network.
    #[arg(long, default_value_t = 2_000)]
    away_ms: u64,
    /// Clients are not told that the network is back, as a browser tells its page: they find out
    /// at their next try.
    #[arg(long)]
    untold: bool,
    /// Bytes of data in a message.
    #[arg(long, default_value_t = 128)]
    payload: usize,
}

impl Scenario for Jitter {
    const NAME: &'static str = "jitter";

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
        let lasting = Duration::from_secs(self.seconds);
        let schedule = steady(stage, self.channels, self.rate, lasting, self.payload);
        let count = u32::try_from(clients.len().max(1))?;
        for (number, client) in (0_u32..).zip(clients) {
            // Spread evenly, so that at any moment the same share is away.
            let every = Duration::from_millis(self.every_ms);
            let first = schedule.from + every * number / count;
            let end = schedule.from + schedule.lasting();
            stage.spawn(self.clone().lose(Arc::clone(stage), client, first, end));
        }
        publish::play(stage, &schedule).await?;
        stage.settle(Duration::from_secs(10)).await;
        coming_back::tell_delivered(stage);
        Ok(())
    }
}

impl Jitter {
    /// Takes the client's network away again and again.
    async fn lose(self, stage: Arc<Stage>, full: Full, first: Duration, end: Duration) {
        let mut next = first;
        while next < end {
            tokio::time::sleep_until(stage.clock.at(next)).await;
            full.network.cut();
            tokio::time::sleep(Duration::from_millis(self.away_ms)).await;
            full.network.restore();
            if !self.untold && full.client.wake().await.is_err() {
                return;
            }
            next += Duration::from_millis(self.every_ms);
        }
    }
}
