//! `tidewire serve`, and what `dev` shares with it: the process around a node.
//!
//! Owns log lines, runtime, listeners and signals; the node gets them as arguments.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    config::{self, Config, Sources},
    node::Node,
    telemetry,
};

/// Run a production node.
///
/// Without --config: the defaults and TIDEWIRE__SECTION__KEY variables. SIGTERM drains, a second
/// one stops at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tidewire serve --config /etc/tidewire.toml
  TIDEWIRE__AUTH__HMAC_SECRET=… tidewire serve --listen 0.0.0.0:8080 --data-dir /var/lib/tidewire")]
pub(super) struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Folder of the embedded storage.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<String>,
    /// Redis that makes this node one of a cluster; a password is better in TIDEWIRE__REDIS__URL.
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
}

pub(super) fn serve(arguments: Arguments) -> anyhow::Result<()> {
    let sources = Sources::of_process(arguments.config)
        .flag("listen", "--listen", arguments.listen)
        .flag("data_dir", "--data-dir", arguments.data_dir)
        .flag("redis.url", "--redis", arguments.redis);
    let config = config::load(sources)?.config;
    run(config, |_address| Ok(()))
}

/// The signals that end the process: the first drains, the second stops at once.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?,
        })
    }

    /// Waits for the next SIGTERM or SIGINT; cancel-safe.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Runs a node until it has ended; `ready` is called with its address once it listens.
///
/// # Errors
/// The node cannot start: a port in use, a folder it cannot have.
pub(super) fn run(
    config: Config,
    ready: impl FnOnce(SocketAddr) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    telemetry::init_logs(&config.log)?;
    for warning in config.warnings() {
        if !config.development {
            tracing::warn!("{warning}");
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let node = Node::start(config).await?;
        let address = node.address();
        tracing::info!(%address, "listening");
        ready(address)?;
        tokio::select! {
            () = signals.next() => {}
            () = node.gateway().dismissed() => {}
        }
        tracing::info!("leaving; a second signal stops at once");
        tokio::select! {
            () = node.stop() => {}
            () = signals.next() => {}
        }
        Ok(())
    })
}
