//! Memory under readers that stop reading, as the operating system counts it.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::{
    process::Place,
    support::{Client, JSON},
};

/// Readers that stop.
const STALLED: usize = 200;
/// Publications of a round, and the bytes of each: 60 MB.
const COUNT: u64 = 7_500;
const DATA_BYTES: usize = 8_000;
/// How far the writer is ahead of the prompt reader: less than history holds.
const AHEAD: usize = 50;
/// How long the prompt reader may take for one of them.
const READ_WITHIN: Duration = Duration::from_secs(20);
/// How much more the node may hold at its peak with the stalled readers than without them.
const MORE_BYTES_MAX: f64 = 64.0 * 1024.0 * 1024.0;

async fn resident_bytes(place: &Place) -> f64 {
    let text = reqwest::get(place.url("/metrics"))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let mut values = text
        .lines()
        .filter_map(|line| line.strip_prefix("process_resident_memory_bytes "));
    values.next().unwrap().parse().unwrap()
}

/// Publishes a round while a reader reads; the peak of resident memory.
async fn round(place: &Place) -> f64 {
    let mut reader = place.client("ada").await;
    let first = reader.sub("busy", json!({})).await["o"].as_u64().unwrap();
    reader.expect("live").await;
    let ahead = Arc::new(Semaphore::new(AHEAD));
    let room = Arc::clone(&ahead);
    let reading = tokio::spawn(async move {
        for offset in first + 1..=first + COUNT {
            assert_eq!(reader.expect("msg").await["o"], offset, "nothing skipped");
            room.add_permits(1);
        }
    });
    let mut writer = place.client("bob").await;
    let data = Value::from("x".repeat(DATA_BYTES));
    let mut peak = 0_f64;
    for number in 1..=COUNT {
        let permit = tokio::time::timeout(READ_WITHIN, ahead.acquire()).await;
        permit.expect("the reader reads").unwrap().forget();
        if number % 500 == 0 {
            writer.publish("busy", data.clone()).await;
            peak = peak.max(resident_bytes(place).await);
        } else {
            writer
                .send(json!({"t": "pub", "ch": "busy", "d": data}))
                .await;
        }
    }
    reading.await.unwrap();
    peak.max(resident_bytes(place).await)
}

#[tokio::test]
async fn readers_that_stop_cost_no_memory() {
    let place = Place::new();
    let _node = place.start();
    let without = round(&place).await;
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        let mut client = Client::connect_slow(place.address(), JSON).await;
        client.hello("ann", json!({})).await;
        client.sub("busy", json!({})).await;
        stalled.push(client);
    }
    let with = round(&place).await;
    let more = with - without;
    assert!(more < MORE_BYTES_MAX, "{more} bytes more than without them");
    for client in &mut stalled[..3] {
        // Whoever reads again gets what history holds, and is told of the rest.
        let mut next = 0;
        while next < 2 * COUNT {
            let frame = client.frame().await;
            match frame["t"].as_str() {
                Some("msg") => {
                    assert!(
                        next == 0 || frame["o"] == next + 1,
                        "{} after {next}",
                        frame["o"]
                    );
                    next = frame["o"].as_u64().unwrap();
                }
                Some("gap") => {
                    assert_eq!(frame["from"], next + 1);
                    next = frame["to"].as_u64().unwrap();
                }
                _mark => {}
            }
        }
    }
}
