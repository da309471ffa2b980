//! A node on a real Redis that loses what it had accepted: what its clients are told.

use std::sync::Arc;

use tidewire_protocol::{Encoding, Frame, Position, command::Mode, frame::Recovery};

use super::client::{Client, Lab, PATIENCE, channel, last, sub};
use crate::{gateway::connection::Connection, redis::tests::server::RedisServer};

async fn reader(lab: &Lab, mode: Mode) -> (Arc<Connection>, Client) {
    let (connection, client) = lab.connect(Encoding::Json).await;
    sub(&connection, "room", mode).await;
    (connection, client)
}

/// Publishes as soon as the broker takes it.
async fn publish(lab: &Lab) -> u64 {
    let published = async {
        loop {
            if let Some(offset) = lab.try_publish(&channel("room"), Some(1), 10).await {
                return offset;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, published).await.unwrap()
}

/// The last mark of the log itself that a client was given.
fn mark(client: &Client) -> Option<&Frame> {
    let is_mark = |frame: &&Frame| {
        matches!(frame, Frame::Rewind { .. })
            || matches!(
                frame,
                Frame::Subscribed {
                    i: None,
                    recovery: Recovery::Reset,
                    ..
                }
            )
    };
    client.frames.iter().rev().find(is_mark)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_restarted_server_lost_is_a_rewind_and_delivery_goes_on() {
    let mut server = RedisServer::start(&[]);
    let lab = Lab::start_on(&server.url()).await;
    let (_every, mut every) = reader(&lab, Mode::Every).await;
    let (_latest, mut latest) = reader(&lab, Mode::Latest).await;
    for _ in 0..3 {
        publish(&lab).await;
    }
    server.command(&["SAVE"]);
    for _ in 0..2 {
        publish(&lab).await;
    }
    for client in [&mut every, &mut latest] {
        client.read_until(|frames| last(frames, "room") == 5).await;
    }
    server.kill();
    server.restart();
    let newest = publish(&lab).await;
    assert_eq!(newest, 4, "the server forgot two");
    every
        .read_until(|frames| last(frames, "room") == newest)
        .await;
    assert_eq!(every.offsets("room"), [1, 2, 3, 4, 5, 4]);
    assert!(
        matches!(mark(&every), Some(Frame::Rewind { to: 3, lost: 2, .. })),
        "{:?}",
        every.frames
    );
    let started_over = |frames: &[Frame]| {
        frames
            .iter()
            .any(|frame| matches!(frame, Frame::State { .. }))
    };
    latest.read_until(started_over).await;
    assert!(matches!(
        mark(&latest),
        Some(Frame::Subscribed {
            position: Position { offset: 3 | 4, .. },
            ..
        })
    ));
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn announcements_that_redis_dropped_are_found_without_a_word() {
    let server = RedisServer::start(&[]);
    let lab = Lab::start_on(&server.url()).await;
    let (_every, mut every) = reader(&lab, Mode::Every).await;
    for round in 1..=5 {
        server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        for _ in 0..20 {
            publish(&lab).await;
        }
        let newest = round * 20;
        every
            .read_until(|frames| last(frames, "room") == newest)
            .await;
    }
    assert_eq!(every.offsets("room"), (1..=100).collect::<Vec<_>>());
    assert!(mark(&every).is_none());
    lab.stop().await;
}
