//! The two seams a node stands on, and what is behind them.
//!
//! Called by `node` at the start, with the logs that are told what the broker's logs hold. With
//! Redis configured nothing is opened on this machine.

use std::{fs, sync::Arc};

use tidewire_protocol::Name;

use super::NodeError;
use crate::{
    broker::{
        Broker,
        redis::{RedisBroker, SCRIPTS as BROKER_SCRIPTS},
    },
    config::Config,
    feed::Logs,
    redis::{LaneEvents, Redis, RedisError},
    storage::{EmbeddedStorage, Options},
    store::{
        CheckpointStore,
        redis::{RedisStore, SCRIPTS as STORE_SCRIPTS},
    },
    tasks::Tasks,
    telemetry::metrics::Metrics,
};

/// The folder of the log inside the data folder.
const LOG_FOLDER: &str = "log";
/// A file of this name in the data folder says that the folder was restored from a copy.
const RESTORED_FILE: &str = "restored";

/// Broker and store of a node.
#[derive(Debug)]
pub(crate) struct Seams {
    pub broker: Arc<dyn Broker>,
    pub store: Arc<dyn CheckpointStore>,
    /// The folder behind them, when it is this node's own; closed last, since every part writes
    /// to it until it ends.
    pub storage: Option<EmbeddedStorage>,
    /// Nobody else can be on them.
    pub alone: bool,
}

impl Seams {
    /// Those of a node alone: a folder of its own.
    ///
    /// # Errors
    /// The folder is taken, or damaged.
    pub fn embedded(config: &Config, logs: &Arc<Logs>) -> Result<Self, NodeError> {
        let folder = config.node.data_dir.join(LOG_FOLDER);
        let mark = config.node.data_dir.join(RESTORED_FILE);
        let options = Options {
            sync: config.storage.sync,
            is_restored: mark.exists(),
            ..Options::default()
        };
        let is_restored = options.is_restored;
        let opened = EmbeddedStorage::open(&folder, options)
            .map_err(|source| NodeError::Storage { folder, source })?;
        tracing::info!(recovery = ?opened.recovery, "the storage is open");
        if is_restored {
            // Only now: a crash before has the epochs renewed once more, which harms nobody.
            fs::remove_file(&mark).map_err(|source| NodeError::Mark { file: mark, source })?;
            tracing::warn!(
                "a restored copy: every channel began another epoch, clients start over"
            );
        }
        opened.broker.announce_to(Arc::clone(logs) as _);
        Ok(Self {
            broker: opened.broker,
            store: opened.store,
            storage: Some(opened.storage),
            alone: true,
        })
    }

    /// Those of a node in a cluster.
    pub fn on_redis(connected: Connected, node: &Name, logs: &Arc<Logs>, tasks: &Tasks) -> Self {
        let Connected { redis, lanes } = connected;
        let announce = Arc::clone(logs) as _;
        Self {
            broker: RedisBroker::start(redis.clone(), lanes, &announce, tasks),
            store: Arc::new(RedisStore::start(redis, node.clone(), tasks)),
            storage: None,
            alone: false,
        }
    }
}

/// The connections of a node in a cluster, before anything uses them.
#[derive(Debug)]
pub(crate) struct Connected {
    redis: Redis,
    lanes: Vec<LaneEvents>,
}

impl Connected {
    /// Connects where a Redis is configured; waits for it for a bounded time.
    ///
    /// # Errors
    /// Says what to change.
    pub async fn to(
        config: &Config,
        tasks: &Tasks,
        metrics: &Arc<Metrics>,
    ) -> Result<Option<Self>, RedisError> {
        let Some(address) = &config.redis.url else {
            metrics.broker_config_safe.set(1.0);
            return Ok(None);
        };
        let scripts = BROKER_SCRIPTS.iter().chain(&STORE_SCRIPTS).copied();
        let scripts = scripts.collect();
        let (redis, lanes) = Redis::open(&config.redis, address, scripts, tasks, metrics).await?;
        tracing::info!(url = %address, "redis is connected");
        Ok(Some(Self { redis, lanes }))
    }
}
