//! Plain publications: several share a step of Redis, and each stands as if it had gone alone.

use std::sync::Arc;

use redis::cmd;
use tidewire_protocol::command::Range;

use super::Node;
use crate::{
    broker::{
        Broker, Publish, Retention,
        contract::{Heard, KEEPS, channel, history, publish, put, text},
    },
    redis::tests::{server::RedisServer, topologies::ask},
};

fn plain(name: &str, data: u32) -> Publish {
    Publish {
        retention: Retention {
            state: false,
            ..KEEPS
        },
        ..publish(&channel(name), &data.to_string())
    }
}

/// Publishes 1 to 6 in one batch, in `a` and `b` by turns; answers the offsets.
async fn batch(node: &Node) -> Vec<u64> {
    let items = (1..=6).map(|data| plain(if data % 2 == 1 { "a" } else { "b" }, data));
    let made = node.broker.publish(items.collect()).await;
    let offsets = made.into_iter().map(|made| made.unwrap().position.offset);
    offsets.collect()
}

async fn said(node: &Node, name: &str) -> String {
    let page = history(&*node.broker, &channel(name), Range::After(0)).await;
    page.items.iter().map(|item| text(item)).collect()
}

#[tokio::test]
async fn plain_publications_share_a_step_and_keep_their_order_where_it_passes_some_over() {
    let server = RedisServer::start(&[]);
    let node = Node::on(&server, Arc::new(Heard::default())).await;
    // The first in each channel begins it.
    assert_eq!(batch(&node).await, [1, 1, 2, 2, 3, 3]);
    let before = server.calls("evalsha");
    assert_eq!(batch(&node).await, [4, 4, 5, 5, 6, 6]);
    // The looks at the server of each second count as well.
    assert!(server.calls("evalsha") - before < 4, "one step for six");
    // Lifetimes of one channel are to be renewed, and another's publication stays in the step.
    let meta = "{tw:p000}:meta:a";
    ask::<u32>(&server, cmd("HSET").arg(meta).arg("care").arg(0)).unwrap();
    assert_eq!(batch(&node).await, [7, 7, 8, 8, 9, 9]);
    assert_eq!(said(&node, "a").await, "135".repeat(3));
    assert_eq!(said(&node, "b").await, "246".repeat(3));
    let care: u64 = ask(&server, cmd("HGET").arg(meta).arg("care")).unwrap();
    assert!(care > 0, "the long step renewed them");
}

#[tokio::test]
async fn a_plain_publication_takes_six_commands() {
    const PUBLICATIONS: u64 = 50;
    let server = RedisServer::start(&[]);
    let node = Node::on(&server, Arc::new(Heard::default())).await;
    put(&*node.broker, plain("a", 0)).await;
    let names = ["hget", "time", "hmget", "xadd", "hset", "publish"];
    let before = names.map(|name| server.calls(name));
    for data in 1..=50 {
        put(&*node.broker, plain("a", data)).await;
    }
    let after = names.map(|name| server.calls(name));
    for (at, name) in names.into_iter().enumerate() {
        let made = after[at] - before[at];
        assert!(
            (PUBLICATIONS..PUBLICATIONS + 10).contains(&made),
            "{name}: {made}"
        );
    }
    for other in ["exists", "get", "zcard", "hlen", "pexpireat"] {
        assert!(server.calls(other) < 10, "{other}");
    }
}
