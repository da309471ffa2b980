//! The composition root: builds the parts of a node, owns every task, and takes it down again.

mod memory;
mod seams;
#[cfg(test)]
mod tests;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::{Router, routing::get};
use futures_util::future::join_all;
use tidewire_protocol::Name;
use tokio::{task::JoinHandle, time::timeout};
use tokio_rustls::TlsAcceptor;

use self::seams::Connected;
pub(crate) use self::seams::Seams;
use crate::{
    admin,
    api::{self, Api},
    auth::{Authenticator, KeyError, OperatorTokens, Origins, SessionKeys},
    clock,
    config::{Config, secret::SecretError},
    control::{Control, Nodes},
    demo::{self, DemoError},
    feed::{Feed, Logs, Settings},
    gateway::{Gateway, Parts, connect},
    http::{self, ListenError},
    journal::OpenError,
    presence::Presence,
    random,
    redis::RedisError,
    storage::EmbeddedStorage,
    tasks::Tasks,
    telemetry::{
        metrics::{Metrics, UPKEEP_EVERY},
        otlp::{self, TracingError},
        spans::Tracer,
    },
};

/// A channel nobody reads stays followed this long: a page that reloads finds it warm.
const LINGER_MS: u64 = 10_000;
/// Memory for pages of history that laggards share.
const PAGES_BYTES: u64 = 64 << 20;
/// How often unread channels and tails over the budget are dropped.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How long a node that stops waits for its tasks.
const STOP_MAX: Duration = Duration::from_secs(10);

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The storage folder cannot be used.
    #[error("the storage in {folder} cannot be opened")]
    Storage {
        folder: PathBuf,
        #[source]
        source: OpenError,
    },
    /// The mark of a restored folder stays where it is, and would be obeyed at every start.
    #[error("{file} cannot be removed; remove it by hand", file = .file.display())]
    Mark {
        file: PathBuf,
        #[source]
        source: io::Error,
    },
    /// There is no Redis to join the cluster on.
    #[error("the cluster cannot be joined")]
    Redis(#[from] RedisError),
    /// A secret cannot be kept.
    #[error("the cluster secret cannot be kept")]
    Secret(#[from] SecretError),
    /// A key of tokens is none.
    #[error("the keys that check tokens cannot be used")]
    Keys(#[from] KeyError),
    /// The address or the certificate.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The demo's recordings.
    #[error(transparent)]
    Demo(#[from] DemoError),
    /// Spans cannot be taken to the collector.
    #[error(transparent)]
    Tracing(#[from] TracingError),
    /// A histogram has no buckets.
    #[error("the metrics cannot be set up")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    address: SocketAddr,
    started_ms: u64,
    gateway: Arc<Gateway>,
    tasks: Tasks,
    /// End once the requests that were begun are answered.
    listeners: Vec<JoinHandle<()>>,
    /// Closed last: every part writes to it until it ends.
    storage: Option<EmbeddedStorage>,
}

impl Node {
    /// Builds a node and begins to listen. Must be called on the runtime it is to run on.
    ///
    /// # Errors
    /// Says what is missing or taken; nothing keeps running.
    pub async fn start(config: Config) -> Result<Self, NodeError> {
        let tasks = Tasks::new();
        let started = Self::start_with(config, tasks.clone()).await;
        if started.is_err() {
            tasks.stop();
        }
        started
    }

    async fn start_with(config: Config, tasks: Tasks) -> Result<Self, NodeError> {
        let metrics = Arc::new(Metrics::new(&config.namespaces)?);
        let connected = Connected::to(&config, &tasks, &metrics).await?;
        let on = tasks.clone();
        Self::start_over(
            config,
            tasks,
            metrics,
            |config, node, logs| match connected {
                Some(connected) => Ok(Seams::on_redis(connected, node, logs, &on)),
                None => Seams::embedded(config, logs),
            },
        )
    }

    /// The same over seams that the caller opens, which may be shared with other nodes.
    ///
    /// # Errors
    /// As `start`.
    pub(crate) fn start_over(
        config: Config,
        tasks: Tasks,
        metrics: Arc<Metrics>,
        open: impl FnOnce(&Config, &Name, &Arc<Logs>) -> Result<Seams, NodeError>,
    ) -> Result<Self, NodeError> {
        let config = Arc::new(config);
        let tls = acceptor(&config)?;
        let listener = http::bind(config.node.listen)?;
        let internal = config.node.internal_listen.map(http::bind).transpose()?;
        let address = listener.local_addr().unwrap_or(config.node.listen);
        let (gateway, storage) = assemble(&config, address, (metrics, &tasks), open)?;
        tasks.spawn_until_stop(memory::watch(Arc::clone(&gateway)));
        let clients = Router::new()
            .route("/v1/connect", get(connect))
            .with_state(Arc::clone(&gateway));
        let demo = if config.development {
            demo::start(&config, gateway.feed.broker_handle(), &tasks)?
        } else {
            Router::new()
        };
        let clients = clients.merge(demo);
        let backends = api::router(Arc::new(Api::new(Arc::clone(&gateway))))
            .merge(api::ops_router(Arc::clone(&gateway)))
            .merge(admin::router(Arc::clone(&gateway)));
        let mark = memory::mark(&gateway.config);
        tasks.spawn_until_stop(admin::say(Arc::clone(&gateway), mark));
        let serve = |listener, router, tls| {
            let serving = http::serve(listener, router, tls, tasks.clone());
            tasks.spawn(serving)
        };
        let listeners = match internal {
            Some(internal) => vec![
                serve(listener, clients, tls),
                serve(internal, backends, None),
            ],
            None => vec![serve(listener, clients.merge(backends), tls)],
        };
        Ok(Self {
            address,
            started_ms: clock::now_ms(),
            gateway,
            tasks,
            listeners,
            storage,
        })
    }

    /// Where clients connect.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The node's connections.
    pub const fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// Leaves: nobody is admitted, clients are moved to other nodes or told to come back, requests
    /// that were begun are answered, and every task ends. Takes at most the drain window, two calls
    /// of the broker and [`STOP_MAX`].
    pub async fn stop(self) {
        self.gateway.leave().await;
        let address = self.address.to_string();
        let lease = self.gateway.lease(self.started_ms, &address);
        self.gateway.control.nodes.renew(lease).await;
        admin::farewell(&self.gateway).await;
        let ends = async {
            self.tasks.finish();
            join_all(self.listeners).await;
            self.tasks.stop();
            self.tasks.wait().await;
        };
        if timeout(STOP_MAX, ends).await.is_err() {
            tracing::warn!("tasks of the node did not end in time");
        }
        drop(self.storage);
    }
}

/// What a node is besides its listeners: a gateway over its seams, and what runs beside it. A
/// simulation has several in one thread.
///
/// # Errors
/// Says what is missing or taken.
pub(crate) fn assemble(
    config: &Arc<Config>,
    address: SocketAddr,
    (metrics, tasks): (Arc<Metrics>, &Tasks),
    open: impl FnOnce(&Config, &Name, &Arc<Logs>) -> Result<Seams, NodeError>,
) -> Result<(Arc<Gateway>, Option<EmbeddedStorage>), NodeError> {
    let node = node_name();
    let tracer = otlp::start(&config.tracing, &node, &metrics, tasks)?;
    let logs = Arc::new(Logs::new(
        feed_settings(config),
        tasks.clone(),
        Arc::clone(&metrics),
        tracer.clone(),
    ));
    let seams = open(config, &node, &logs)?;
    let feed = Feed::new(Arc::clone(&seams.broker), logs, tasks.clone());
    let gateway = gateway(config, node, feed, &seams, (metrics, tracer, tasks))?;
    gateway.feed.start();
    gateway.start();
    tasks.spawn_until_stop(lease(Arc::clone(&gateway), address));
    tasks.spawn_until_stop(upkeep(Arc::clone(&gateway)));
    Ok((gateway, seams.storage))
}

fn acceptor(config: &Config) -> Result<Option<TlsAcceptor>, ListenError> {
    match (&config.tls.cert, &config.tls.key) {
        (Some(cert), Some(key)) => http::tls(cert, key).map(Some),
        _unset => Ok(None),
    }
}

/// Another name at each start: what an earlier incarnation held is never taken for this one's.
fn node_name() -> Name {
    Name::new(&format!("n-{:08x}", random::bits() >> 32))
        .unwrap_or_else(|_valid| unreachable!("hexadecimal digits make a valid name"))
}

fn feed_settings(config: &Config) -> Settings {
    Settings {
        tails_bytes: config.limits.tails_bytes.bytes(),
        pages_bytes: PAGES_BYTES,
        linger_ms: LINGER_MS,
    }
}

fn gateway(
    config: &Arc<Config>,
    node: Name,
    feed: Feed,
    seams: &Seams,
    (metrics, tracer, tasks): (Arc<Metrics>, Tracer, &Tasks),
) -> Result<Arc<Gateway>, NodeError> {
    let namespaces = Arc::new(config.namespaces.clone());
    let nodes = Nodes::new(feed.broker_handle(), node.clone(), seams.alone);
    let nodes = Arc::new(nodes);
    let presence = Presence::new(
        feed.broker_handle(),
        Arc::clone(&seams.store),
        Arc::clone(&nodes),
        Arc::clone(&namespaces),
        config.session.ttl,
        node.clone(),
    );
    let secret = config.cluster_secret()?;
    Ok(Gateway::new(Parts {
        node: node.clone(),
        namespaces,
        control: Arc::new(Control::new(node, feed.clone(), nodes)),
        feed,
        store: Arc::clone(&seams.store),
        presence: Arc::new(presence),
        authenticator: Authenticator::new(&config.auth)?,
        operators: OperatorTokens::new(&secret, config.node.cluster_secret_previous.as_ref()),
        session_keys: SessionKeys::new(
            &secret,
            config.node.cluster_secret_previous.as_ref(),
            config.auth.issuer.as_deref(),
        ),
        origins: Origins::new(config.auth.allowed_origins.as_deref(), config.development),
        metrics,
        tracer,
        tasks: tasks.clone(),
        config: Arc::clone(config),
    }))
}

/// Keeps this node's lease and its view of the others.
async fn lease(gateway: Arc<Gateway>, address: SocketAddr) {
    let (started_ms, address) = (clock::now_ms(), address.to_string());
    let say = || gateway.lease(started_ms, &address);
    gateway.control.nodes.run(say).await;
}

async fn upkeep(gateway: Arc<Gateway>) {
    let mut sweep = tokio::time::interval(SWEEP_EVERY.min(UPKEEP_EVERY));
    loop {
        sweep.tick().await;
        gateway.feed.sweep(clock::now_ms()).await;
        gateway.gauge().await;
        gateway.metrics.upkeep();
    }
}
