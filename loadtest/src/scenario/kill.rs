//! `kill`: SIGKILL of a node under load; its sessions go on at the others.
//!
//! Clients know every node, as behind a balancer. It starts no node again.

use std::{sync::Arc, time::Duration};

use anyhow::Result;

use super::{audience, coming_back, steady};
use crate::{hub::Settings, limits::Needs, publish, run::Scenario, stage::Stage};

/// SIGKILL of a node under load; its sessions go on at the others, nothing lost or repeated.
#[derive(Debug, Clone, clap::Args)]
pub struct Kill {
    /// Clients, spread over the nodes.
    #[arg(long, default_value_t = 600)]
    clients: usize,
    /// Channels they are divided among.
    #[arg(long, default_value_t = 60)]
    channels: usize,
    /// Messages a second, over all channels.
    #[arg(long, default_value_t = 60.0)]
    rate: f64,
    /// How long messages are sent; the node is killed after a third of it.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Bytes of data in a message.
    #[arg(long, default_value_t = 128)]
    payload: usize,
}

impl Scenario for Kill {
    const NAME: &'static str = "kill";

    fn needs(&self) -> Needs {
        audience::needs_full(self.clients)
    }

    fn settings(&self) -> Settings {
        Settings {
            nodes: 3,
            redis: true,
            history: 10_000,
            ..Settings::ONE
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
        let lasting = Duration::from_secs(self.seconds);
        let schedule = steady(stage, self.channels, self.rate, lasting, self.payload);
        let kill = async {
            tokio::time::sleep_until(stage.clock.at(schedule.from + lasting / 3)).await;
            let nodes = stage.hub.own_nodes();
            // The first publisher is there too.
            let victim = publish::USERS_FROM % nodes;
            // A client begins at the node of its number.
            let there = (0..self.clients)
                .filter(|number| number % nodes == victim)
                .count();
            let before = coming_back::back(stage);
            stage.hub.kill(victim)?;
            stage.mark(format!("node {victim} killed"));
            let took = coming_back::all_resumed(stage, before, there).await;
            let what = format!("until the {there} sessions of the killed node were back");
            coming_back::tell(stage, &what, there, took);
            anyhow::Ok(())
        };
        let (played, killed) = tokio::join!(publish::play(stage, &schedule), kill);
        played.and(killed)
    }
}
