//! The hub under load: nodes started for the run, or one that was given by its address.
//!
//! Owns processes, their configuration and their temporary folder; scenarios kill, drain and start
//! nodes through it. It never speaks to clients' endpoints but for `/readyz`.

mod child;
mod config;
mod redis;
pub mod usage;

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub use self::config::{Settings, token};
use self::{child::Child, redis::Redis, usage::Usage};

/// A node writes its first line within a moment; a busy machine may take longer.
const START_PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(25);
/// Of an answer to `/readyz`, the status line is read.
const STATUS_BYTES_MAX: u64 = 64;

/// Where clients connect, and what can be done to it.
#[derive(Debug)]
pub struct Hub {
    nodes: Vec<Node>,
    /// Addresses given with `--url`: nothing of it is ours.
    urls: Vec<String>,
    token: Option<String>,
    redis: Option<Redis>,
    program: PathBuf,
    _folder: Option<TempDir>,
}

#[derive(Debug)]
struct Node {
    address: SocketAddr,
    config: PathBuf,
    log: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    child: Option<Child>,
    /// CPU of its processes that ended, as far as it was seen.
    spent: f64,
    seen: Usage,
}

impl Hub {
    /// A hub that runs already; `token` is what its clients show, none where it lets anybody in.
    pub const fn given(urls: Vec<String>, token: Option<String>) -> Self {
        Self {
            nodes: Vec::new(),
            urls,
            token,
            redis: None,
            program: PathBuf::new(),
            _folder: None,
        }
    }

    /// Starts nodes, and a Redis under them where the settings ask for one.
    pub async fn start(program: PathBuf, settings: &Settings) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("tidewire-load-")
            .tempdir()?;
        let redis = if settings.redis || settings.nodes > 1 {
            Some(Redis::start(folder.path()).await?)
        } else {
            None
        };
        let mut nodes = Vec::with_capacity(settings.nodes);
        for number in 0..settings.nodes {
            let dir = folder.path().join(format!("node-{number}"));
            std::fs::create_dir(&dir)?;
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
            let config = dir.join("tidewire.toml");
            let url = redis.as_ref().map(Redis::url);
            std::fs::write(
                &config,
                config::file(settings, address, &dir, url.as_deref()),
            )?;
            nodes.push(Node {
                address,
                config,
                log: dir.join("log"),
                state: Mutex::default(),
            });
        }
        let hub = Self {
            nodes,
            urls: Vec::new(),
            token: None,
            redis,
            program,
            _folder: Some(folder),
        };
        for number in 0..hub.nodes.len() {
            hub.start_node(number)?;
        }
        for number in 0..hub.nodes.len() {
            hub.ready(number).await?;
        }
        Ok(hub)
    }

    /// How many nodes are ours to kill.
    pub const fn own_nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Every node's WebSocket address, in the order in which the client of this number tries them.
    pub fn sockets_for(&self, number: usize) -> Vec<String> {
        let own = self.nodes.iter();
        let own = own.map(|node| format!("ws://{}/v1/connect", node.address));
        let all: Vec<String> = own.chain(self.urls.iter().cloned()).collect();
        let turns = 0..all.len();
        turns
            .map(|step| all[turn(number, all.len(), step)].clone())
            .collect()
    }

    /// Our nodes' sockets, for readers without TLS or names.
    pub fn addresses(&self) -> Result<Vec<SocketAddr>> {
        let mut all: Vec<SocketAddr> = self.nodes.iter().map(|node| node.address).collect();
        for url in &self.urls {
            let host = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
            let host = host.split('/').next().unwrap_or_default();
            if url.starts_with("wss") || url.starts_with("https") {
                bail!("this scenario reads raw sockets: give a ws:// address behind TLS");
            }
            all.push(
                host.parse()
                    .with_context(|| format!("{host} is no IP address with a port"))?,
            );
        }
        Ok(all)
    }

    /// What a client of this user shows.
    pub fn token(&self, user: &str) -> Option<String> {
        self.token
            .clone()
            .or_else(|| (!self.nodes.is_empty()).then(|| token(user)).flatten())
    }

    /// Starts a node that is down.
    pub fn start_node(&self, number: usize) -> Result<()> {
        let node = &self.nodes[number];
        let arguments = ["serve", "--config"].map(str::to_owned).into_iter();
        let arguments = arguments
            .chain([node.config.display().to_string()])
            .collect::<Vec<_>>();
        node.state.lock().child = Some(Child::start(&self.program, &arguments, &node.log)?);
        Ok(())
    }

    /// Waits until a node says that it is ready.
    pub async fn ready(&self, number: usize) -> Result<()> {
        let node = &self.nodes[number];
        let begun = Instant::now();
        while !is_ready(node.address).await.unwrap_or(false) {
            let fallen = self.fallen();
            if begun.elapsed() > START_PATIENCE || !fallen.is_empty() {
                bail!(
                    "node {number} is not ready after {:.0?}: {}",
                    begun.elapsed(),
                    fallen.join("\n")
                );
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// SIGKILL.
    pub fn kill(&self, number: usize) -> Result<()> {
        self.take(number)?.kill();
        Ok(())
    }

    /// SIGTERM, and waits until the node has moved its clients away and ended.
    pub async fn drain(&self, number: usize, patience: Duration) -> Result<()> {
        let child = self.take(number)?;
        child.signal(Signal::TERM)?;
        let status = child.ended(patience).await;
        let status = status.with_context(|| format!("node {number} was told to drain"))?;
        if !status.success() {
            bail!("node {number} drained and ended with {status}");
        }
        Ok(())
    }

    fn take(&self, number: usize) -> Result<Child> {
        let mut state = self.nodes[number].state.lock();
        let child = state.child.take().context("the node is down already")?;
        let seen = child.usage().unwrap_or(state.seen);
        state.spent += seen.cpu_seconds;
        state.seen = Usage::default();
        Ok(child)
    }

    /// Nodes that ended without being told to, with their last words.
    pub fn fallen(&self) -> Vec<String> {
        let mut fallen = Vec::new();
        for (number, node) in self.nodes.iter().enumerate() {
            let mut state = node.state.lock();
            if let Some(child) = &mut state.child
                && !child.is_running()
            {
                fallen.push(format!(
                    "node {number} ended by itself:\n{}",
                    child.last_words()
                ));
            }
        }
        fallen
    }

    /// Memory and CPU of our nodes, those that ended included.
    pub fn usage(&self) -> Usage {
        let mut all = Usage::default();
        for node in &self.nodes {
            let mut state = node.state.lock();
            if let Some(usage) = state.child.as_ref().and_then(Child::usage) {
                state.seen = usage;
            }
            all += state.seen;
            all.cpu_seconds += state.spent;
        }
        all
    }

    /// Memory, CPU and commands of our Redis.
    pub async fn redis(&self) -> Option<(Usage, u64)> {
        let redis = self.redis.as_ref()?;
        Some((redis.usage(), redis.commands().await.ok()?))
    }
}

/// The node that a client tries at this step: that of its number, then the others, each client's in
/// another order: behind a balancer too, those of a dead node do not all go to the same neighbour.
pub const fn turn(number: usize, nodes: usize, step: usize) -> usize {
    let first = number % nodes;
    let step = step % nodes;
    if step == 0 {
        return first;
    }
    (first + 1 + (number / nodes + step - 1) % (nodes - 1)) % nodes
}

async fn is_ready(address: SocketAddr) -> Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = Vec::new();
    stream.take(STATUS_BYTES_MAX).read_to_end(&mut text).await?;
    Ok(text.starts_with(b"HTTP/1.1 200"))
}

/// Below what the kernel gives outgoing connections, and beside those of the other test programs.
fn free_port() -> Result<u16> {
    use std::sync::atomic::{AtomicU16, Ordering};
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    const APART: u32 = 97;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Runs beside each other begin far apart: a port that is found is not yet listened at.
    let own = u16::try_from(std::process::id().wrapping_mul(APART) % u32::from(COUNT))?;
    (0..COUNT)
        .map(|_| FIRST + (own + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .context("no port is free")
}

#[cfg(test)]
mod tests {
    use super::turn;

    #[test]
    fn every_client_tries_every_node_and_neighbours_share_what_one_leaves() {
        let order = |number| [0, 1, 2].map(|step| turn(number, 3, step));
        assert_eq!(order(1), [1, 2, 0]);
        assert_eq!(order(4), [1, 0, 2]);
        assert_eq!([0, 1, 2, 3].map(|step| turn(7, 1, step)), [0; 4]);
    }
}
