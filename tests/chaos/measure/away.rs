//! Redis away: when clients are told, what publishing answers, and when all is as before.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{quantile, two_nodes};
use crate::{
    harness::{nodes::Nodes, topology::Layout},
    support::{API_KEY, Client},
};

const READERS: usize = 40;
const CHANNELS: usize = 8;
/// How long Redis stands still after everybody was told.
const AWAY: Duration = Duration::from_secs(3);
const REPEAT_PAUSE: Duration = Duration::from_millis(50);

pub async fn measure(program: &Path) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (topology, nodes) = two_nodes(program, folder.path(), Layout::Alone).await;
    let mut readers = Vec::new();
    for number in 0..READERS {
        let mut reader = Client::connect(nodes.address(number % 2)).await;
        reader.hello(&format!("reader-{number}"), json!({})).await;
        reader.sub(&channel(number), json!({})).await;
        readers.push(reader);
    }
    topology.servers[0].freeze();
    let frozen = Instant::now();
    let mut told = seconds(frozen, &mut readers, |frame| {
        frame["t"] == "stale" && frame["since"] != 0
    })
    .await;
    let asked = Instant::now();
    let (status, answer) = publish(&nodes, "log:away").await;
    let answered = asked.elapsed();
    tokio::time::sleep(AWAY).await;
    topology.servers[0].thaw();
    let thawed = Instant::now();
    for number in 0..CHANNELS {
        while publish(&nodes, &channel(number)).await.0 != 200 {
            tokio::time::sleep(REPEAT_PAUSE).await;
        }
    }
    let accepted = thawed.elapsed();
    let mut served = seconds(thawed, &mut readers, |frame| frame["t"] == "msg").await;
    let mut fresh = seconds(thawed, &mut readers, |frame| {
        frame["t"] == "stale" && frame["since"] == 0
    })
    .await;
    format!(
        "redis away, {READERS} readers on two nodes, seconds; every connection stayed\n\
         \x20 until `stale` p50 {:.2} max {:.2}\n\
         \x20 publishing meanwhile: {status} in {answered:.2?}, retry_ms {}\n\
         \x20 after it is back: published in every channel {:.2}, with every reader {:.2}, `stale` ended everywhere {:.2}",
        quantile(&mut told, 0.5),
        quantile(&mut told, 1.0),
        answer["retry_ms"],
        accepted.as_secs_f64(),
        quantile(&mut served, 1.0),
        quantile(&mut fresh, 1.0),
    )
}

fn channel(number: usize) -> String {
    format!("log:{}", number % CHANNELS)
}

/// Seconds from a moment until each reader got a frame.
async fn seconds(
    since: Instant,
    readers: &mut [Client],
    matches: impl Fn(&Value) -> bool + Copy,
) -> Vec<f64> {
    let waits = readers.iter_mut().map(async |reader| {
        reader.find(matches).await;
        since.elapsed().as_secs_f64()
    });
    join_all(waits).await
}

async fn publish(nodes: &Nodes, channel: &str) -> (u16, Value) {
    let body = json!({"channel": channel, "data": "x"});
    let request = reqwest::Client::new().post(nodes.url(0, "/v1/publish"));
    let response = request
        .bearer_auth(API_KEY)
        .json(&body)
        .send()
        .await
        .unwrap();
    let status = response.status().as_u16();
    (status, response.json().await.unwrap())
}
