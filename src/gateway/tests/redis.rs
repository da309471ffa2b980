//! A node on a real Redis that loses what it had accepted: what its clients are told.

use std::sync::Arc;

use tidewire_protocol::{Encoding, Frame, Position, command::Mode, frame::Recovery};

use super::client::{Client, Lab, PATIENCE, channel, last, sub};
use crate::{
    clock, gateway::connection::Connection, redis::tests::server::RedisServer,
    telemetry::metrics::Metrics,
};

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

fn number(metrics: &Metrics, series: &str) -> f64 {
    let text = metrics.render();
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value
        .unwrap_or_else(|| panic!("{series} in {text}"))
        .parse()
        .unwrap()
}

#[tokio::test]
async fn deliveries_are_timed_by_the_clock_that_stamped_them() {
    // This machine's clock is behind that of Redis: by its own, publications come from the future.
    const BEHIND: f64 = 10.0;
    clock::begin_at(clock::now_ms() - 10_000);
    let server = RedisServer::start(&[]);
    let lab = Lab::start_on(&server.url()).await;
    let (_connection, mut client) = reader(&lab, Mode::Every).await;
    let metrics = &lab.gateway().metrics;
    let offset = || number(metrics, "tidewire_broker_clock_offset_seconds");
    let known = async {
        while offset() == 0.0 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, known).await.unwrap();
    assert!((offset() - BEHIND).abs() < 0.5, "{}", offset());
    for count in 1..=5 {
        publish(&lab).await;
        client
            .read_until(|frames| last(frames, "room") == count)
            .await;
    }
    assert!(number(metrics, "tidewire_delivery_seconds_count") >= 5.0);
    assert!(number(metrics, "tidewire_delivery_seconds_sum") < BEHIND / 2.0);
    let future = "tidewire_untimed_deliveries_total{reason=\"future\"}";
    assert!(number(metrics, future) < 1.0);

    // Said, and not taken for 0 s, whenever the next look at the clock comes.
    let said = async {
        while number(metrics, future) < 1.0 {
            metrics.set_broker_clock(0, 0);
            let newest = publish(&lab).await;
            client
                .read_until(|frames| last(frames, "room") == newest)
                .await;
        }
    };
    tokio::time::timeout(PATIENCE, said).await.unwrap();
    lab.stop().await;
}
