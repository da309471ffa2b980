//! The Redis behind the nodes: alone, with a replica, under Sentinels, or as a Redis Cluster.
//!
//! Started for one scenario on free ports and in its folder, gone with it. Faults that belong to
//! a layout are beside it; which of them happen when is the scenario's business.

mod cluster;
mod replicated;
mod server;

use std::path::Path;

use super::{ask::info, ports::local, proxy::Proxy};
pub use server::Server;

/// How the servers stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One server; each node reaches it through a proxy of its own.
    Alone,
    /// One server, reached directly.
    Direct,
    /// A primary and a replica; the nodes' proxies are led to the new primary by hand.
    Replicated,
    /// A primary, a replica and three Sentinels, reached directly.
    Sentinel,
    /// Three primaries with a replica each, reached directly.
    Cluster,
}

/// Running servers.
pub struct Topology {
    pub layout: Layout,
    pub servers: Vec<Server>,
    sentinels: Vec<Server>,
    /// Between node and server, one for each node; none where Redis itself says where to go.
    pub fronts: Vec<Proxy>,
    replica_link: Option<Proxy>,
    /// Of a cluster: before the bus of each member.
    buses: Vec<Proxy>,
}

impl Topology {
    /// Starts the servers for so many nodes. `durable`: what was written survives a SIGKILL.
    pub async fn start(layout: Layout, root: &Path, nodes: usize, durable: bool) -> Self {
        let (mut sentinels, mut fronts, mut replica_link) = (Vec::new(), Vec::new(), None);
        let mut buses = Vec::new();
        let servers = match layout {
            Layout::Alone | Layout::Direct => {
                let aof = if durable { "yes" } else { "no" };
                vec![Server::start(root, "redis-0", &["--appendonly", aof]).await]
            }
            Layout::Replicated | Layout::Sentinel => {
                let (servers, link) = replicated::start(root, durable).await;
                if layout == Layout::Sentinel {
                    sentinels = replicated::start_sentinels(root, servers[0].port).await;
                }
                replica_link = Some(link);
                servers
            }
            Layout::Cluster => {
                let servers;
                (servers, buses) = cluster::start(root).await;
                servers
            }
        };
        if matches!(layout, Layout::Alone | Layout::Replicated) {
            for _ in 0..nodes {
                fronts.push(Proxy::start(local(servers[0].port)).await);
            }
        }
        Self {
            layout,
            servers,
            sentinels,
            fronts,
            replica_link,
            buses,
        }
    }

    /// What this node writes under `[redis] url`.
    pub fn url(&self, node: usize) -> String {
        let list = |servers: &[Server]| {
            let places = servers.iter().map(|server| local(server.port).to_string());
            places.collect::<Vec<_>>().join(",")
        };
        match self.layout {
            Layout::Alone | Layout::Replicated => {
                format!("redis://127.0.0.1:{}", self.fronts[node].port())
            }
            Layout::Direct => format!("redis://127.0.0.1:{}", self.servers[0].port),
            Layout::Sentinel => format!(
                "redis+sentinel://{}/{}",
                list(&self.sentinels),
                replicated::WATCHED
            ),
            Layout::Cluster => format!("redis+cluster://{}", list(&self.servers)),
        }
    }

    /// Every server's port.
    pub fn ports(&self) -> Vec<u16> {
        self.servers.iter().map(|server| server.port).collect()
    }
}

/// What a primary has done since its start.
#[derive(Debug, Default, Clone, Copy)]
pub struct Work {
    /// Commands, those inside of scripts included.
    pub commands: u64,
    /// Scripts.
    pub scripts: u64,
}

impl Work {
    pub const fn add(&mut self, more: Self) {
        self.commands += more.commands;
        self.scripts += more.scripts;
    }

    /// What was done after `before`; all of it, if the server began again meanwhile.
    pub fn since(self, before: Self) -> Self {
        let commands = self.commands.checked_sub(before.commands);
        let scripts = self.scripts.checked_sub(before.scripts);
        let both = commands.zip(scripts);
        both.map_or(self, |(commands, scripts)| Self { commands, scripts })
    }
}

/// What a primary has done; none for a replica, which repeats what its primary did, and for a
/// server that does not answer.
pub async fn work(port: u16) -> Option<Work> {
    if info(port, "replication").await.get("role")? != "master" {
        return None;
    }
    let stats = info(port, "stats").await;
    let scripts = info(port, "commandstats").await;
    let scripts = scripts.get("cmdstat_evalsha").and_then(|fields| {
        let calls = fields.split(',').next()?.strip_prefix("calls=")?;
        calls.parse().ok()
    });
    Some(Work {
        commands: stats.get("total_commands_processed")?.parse().ok()?,
        scripts: scripts.unwrap_or(0),
    })
}
