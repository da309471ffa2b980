//! The broker against real servers: the contract every broker owes, and what only Redis shows.

use std::sync::{Arc, Mutex};

use super::{RedisBroker, SCRIPTS};
use crate::{
    broker::{
        Announce, Broker,
        contract::{Heard, Lab, broker_contract},
    },
    redis::tests::{self as link, server::RedisServer},
};

/// A node's broker and its connections, which end with it.
struct Node {
    broker: Arc<RedisBroker>,
    /// Ends with the node.
    _link: link::Lab,
}

impl Node {
    async fn on(server: &RedisServer, announce: Arc<dyn Announce>) -> Self {
        Self::at(&server.url(), announce).await
    }

    async fn at(url: &str, announce: Arc<dyn Announce>) -> Self {
        let mut link = link::connect(url, SCRIPTS.to_vec()).await;
        let lanes = std::mem::take(&mut link.lanes);
        let broker = RedisBroker::start(link.redis.clone(), lanes, &announce, &link.tasks);
        Self {
            broker,
            _link: link,
        }
    }
}

/// The log on a server of its own; opened again it is another node's.
struct OnRedis {
    server: RedisServer,
    nodes: Mutex<Vec<Node>>,
}

impl OnRedis {
    fn new() -> Self {
        Self {
            server: RedisServer::start(&[]),
            nodes: Mutex::default(),
        }
    }
}

impl Lab for OnRedis {
    async fn open(&self, announce: Arc<Heard>) -> Arc<dyn Broker> {
        let node = Node::on(&self.server, announce).await;
        let broker = Arc::clone(&node.broker);
        self.nodes.lock().unwrap().push(node);
        broker
    }
}

mod cluster;
mod damage;
mod failover;
mod model;
mod observer;
mod plain;

broker_contract!(OnRedis::new());
