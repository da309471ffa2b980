//! Whole nodes on a real Redis: what one takes, the other has.

use std::{path::Path, sync::Arc, time::Duration};

use tidewire_protocol::{ChannelName, Payload, frame::Acknowledge};

use super::{Node, NodeError};
use crate::{
    broker::{Publish, Retention},
    config::{Config, Secret, setting::Setting},
    redis::{Address, tests::server::RedisServer},
};

fn config(folder: &Path, url: &str) -> Config {
    let mut config = Config::default();
    config.node.listen = ([127, 0, 0, 1], 0).into();
    config.node.data_dir = folder.join("data");
    config.node.cluster_secret = Some(Secret::new("s".repeat(32)));
    config.redis.url = Address::from_text(url);
    config.redis.start_patience = Duration::from_millis(300);
    config
}

fn publication(channel: &ChannelName) -> Publish {
    Publish {
        channel: channel.clone(),
        retention: Retention {
            history_size: 100,
            history_ttl_ms: 60_000,
            state: false,
            state_keys: 0,
            state_ttl_ms: 60_000,
            tombstone_ttl_ms: 60_000,
            dedup_ttl_ms: 60_000,
            acknowledge: Acknowledge::Log,
        },
        payload: Some(Payload::Json(r#"{"n":1}"#.to_owned().into())),
        key: None,
        event: None,
        id: None,
        publisher: Arc::from("k:test"),
        by: None,
        delete: false,
        ttl_ms: None,
        guard: None,
        trace: None,
    }
}

#[tokio::test]
async fn two_nodes_on_one_redis_are_one_hub_and_keep_nothing_on_their_machine() {
    let server = RedisServer::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let one = Node::start(config(folder.path(), &server.url())).await;
    let other = Node::start(config(folder.path(), &server.url())).await;
    let (one, other) = (one.unwrap(), other.unwrap());
    let channel = ChannelName::new("orders:1").unwrap();
    let broker = one.gateway().feed.broker_handle();
    let published = broker.publish(vec![publication(&channel)]).await;
    let position = published[0].as_ref().unwrap().position.clone();
    let broker = other.gateway().feed.broker_handle();
    let heads = broker.heads(&[channel]).await.unwrap();
    assert_eq!(heads[0].position, position);
    assert!(!folder.path().join("data").exists());
    let findings = broker.findings();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].starts_with("persistence: 127.0.0.1:"));
    let metrics = other.gateway().metrics.render();
    assert!(metrics.contains("tidewire_broker_config_safe 0"));
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_node_without_its_redis_does_not_start_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let started = Node::start(config(folder.path(), "redis://:hunter2@127.0.0.1:1")).await;
    let error = started.unwrap_err();
    assert!(matches!(error, NodeError::Redis(_)));
    let text = format!("{:#}", anyhow::Error::from(error));
    assert!(text.contains("check redis.url"), "{text}");
    assert!(text.contains("refused"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}
