//! The two seams a node stands on, and what is behind them.
//!
//! Called by `node` at the start, with the logs that are told what the broker's logs hold. Never
//! starts a task of the node.

use std::sync::Arc;

use tidewire_protocol::Name;

use super::NodeError;
use crate::{
    broker::Broker,
    config::Config,
    feed::Logs,
    storage::{EmbeddedStorage, Options},
    store::CheckpointStore,
};

/// The folder of the log inside the data folder.
const LOG_FOLDER: &str = "log";

/// Broker and store of a node.
#[derive(Debug)]
pub(crate) struct Seams {
    pub broker: Arc<dyn Broker>,
    pub store: Arc<dyn CheckpointStore>,
    /// The folder behind them, when it is this node's own; closed last, since every part writes
    /// to it until it ends.
    pub storage: Option<EmbeddedStorage>,
}

impl Seams {
    /// Opens what the configuration names; announcements go to `logs`.
    ///
    /// # Errors
    /// Says what is missing or taken.
    pub fn open(config: &Config, _node: &Name, logs: &Arc<Logs>) -> Result<Self, NodeError> {
        let folder = config.node.data_dir.join(LOG_FOLDER);
        let options = Options {
            sync: config.storage.sync,
            ..Options::default()
        };
        let opened = EmbeddedStorage::open(&folder, options)
            .map_err(|source| NodeError::Storage { folder, source })?;
        tracing::info!(recovery = ?opened.recovery, "the storage is open");
        opened.broker.announce_to(Arc::clone(logs) as _);
        Ok(Self {
            broker: opened.broker,
            store: opened.store,
            storage: Some(opened.storage),
        })
    }
}
