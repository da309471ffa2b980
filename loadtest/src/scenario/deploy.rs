//! `deploy`: a rolling restart of all nodes under load.
//!
//! Nodes end by SIGTERM, as an orchestrator ends them. It kills none.

use std::{sync::Arc, time::Duration};

use anyhow::Result;

use super::{audience, steady};
use crate::{hub::Settings, limits::Needs, publish, run::Scenario, sampler::seconds, stage::Stage};

/// Every node is drained, ended and started again, one after the other, while messages flow.
#[derive(Debug, Clone, clap::Args)]
pub struct Deploy {
    /// Clients, spread over the nodes.
    #[arg(long, default_value_t = 600)]
    clients: usize,
    /// Channels they are divided among.
    #[arg(long, default_value_t = 60)]
    channels: usize,
    /// Messages a second, over all channels.
    #[arg(long, default_value_t = 60.0)]
    rate: f64,
    /// Seconds before the first restart, between two, and after the last.
    #[arg(long, default_value_t = 3)]
    pause: u64,
    /// Connections a draining node moves a second.
    #[arg(long, default_value_t = 100)]
    drain_rate: u32,
    /// Bytes of data in a message.
    #[arg(long, default_value_t = 128)]
    payload: usize,
}

/// A node's own window for a drain is 150 s.
const DRAIN_PATIENCE: Duration = Duration::from_secs(180);
/// A deploy that takes longer is stopped by its patience, not by the end of the load.
const LOAD_MAX: Duration = Duration::from_secs(3_600);

impl Scenario for Deploy {
    const NAME: &'static str = "deploy";

    fn needs(&self) -> Needs {
        audience::needs_full(self.clients)
    }

    fn settings(&self) -> Settings {
        Settings {
            nodes: 3,
            redis: true,
            history: 10_000,
            drain_rate: Some(self.drain_rate),
        }
    }

    fn streams(&self) -> usize {
        self.channels
    }

    fn kills(&self) -> bool {
        true
    }

    async fn play(&self, stage: &Arc<Stage>) -> Result<()> {
        audience::gather_full(stage, self.clients, self.channels).await?;
        let schedule = steady(stage, self.channels, self.rate, LOAD_MAX, self.payload);
        let restart = async {
            let restarted = self.restart_all(stage).await;
            stage.enough();
            restarted
        };
        let (played, restarted) = tokio::join!(publish::play(stage, &schedule), restart);
        played.and(restarted)
    }
}

impl Deploy {
    async fn restart_all(&self, stage: &Arc<Stage>) -> Result<()> {
        let pause = Duration::from_secs(self.pause);
        let begun = stage.clock.elapsed();
        for node in 0..stage.hub.own_nodes() {
            tokio::time::sleep(pause).await;
            stage.mark(format!("node {node} drains"));
            stage.hub.drain(node, DRAIN_PATIENCE).await?;
            stage.hub.start_node(node)?;
            stage.hub.ready(node).await?;
            stage.mark(format!("node {node} back"));
        }
        tokio::time::sleep(pause).await;
        let took = stage.clock.elapsed() - begun;
        stage.find("rolling restart of all nodes", seconds(took), "s");
        Ok(())
    }
}
