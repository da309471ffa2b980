//! The store against a real server: the contract every store owes, and what only Redis shows.

use std::sync::{Arc, Mutex};

use tidewire_protocol::Name;

use super::{RedisStore, SCRIPTS};
use crate::{
    redis::tests::{self as link, server::RedisServer},
    store::{
        CheckpointStore,
        contract::{Shelf, store_contract},
    },
};

/// The store on a server of its own; opened again it is another connection of the same node.
struct OnRedis {
    server: RedisServer,
    links: Mutex<Vec<link::Lab>>,
}

impl OnRedis {
    fn new() -> Self {
        Self {
            server: RedisServer::start(&[]),
            links: Mutex::default(),
        }
    }

    async fn node(&self, name: &str) -> RedisStore {
        let link = link::connect(&self.server.url(), SCRIPTS.to_vec()).await;
        let store = RedisStore::new(link.redis.clone(), Name::new(name).unwrap());
        self.links.lock().unwrap().push(link);
        store
    }
}

impl Shelf for OnRedis {
    async fn open(&self) -> Arc<dyn CheckpointStore> {
        Arc::new(self.node("n-1").await)
    }
}

store_contract!(OnRedis::new());
