//! From publishing on one node to the reader on another, against bare `PUBLISH` and `SUBSCRIBE`.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use redis::aio::{MultiplexedConnection, PubSub};
use serde_json::json;

use super::{quantile, two_nodes};
use crate::{harness::topology::Layout, support::Client};

/// Both are measured in turn this often, so that what disturbs one disturbs the other.
const ROUNDS: usize = 40;
const SAMPLES: usize = 50;
/// Between two samples: nothing is in a queue, and everybody sleeps.
const PAUSE: Duration = Duration::from_millis(2);
const CHANNEL: &str = "log:latency";

pub async fn measure(program: &Path) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (topology, nodes) = two_nodes(program, folder.path(), Layout::Direct).await;
    let mut bare = Bare::connect(topology.servers[0].port).await;
    let mut hub = Hub {
        writer: client(nodes.address(0), "writer").await,
        reader: client(nodes.address(1), "reader").await,
    };
    hub.reader.sub(CHANNEL, json!({})).await;
    let (mut bare_us, mut hub_us) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        for _ in 0..SAMPLES {
            let (bare_took, hub_took) = (bare.sample().await, hub.sample().await);
            // The first round warms up whatever is cold.
            if round > 0 {
                bare_us.push(bare_took.as_secs_f64() * 1e6);
                hub_us.push(hub_took.as_secs_f64() * 1e6);
            }
        }
    }
    let count = hub_us.len();
    let mut text = format!("latency, {count} samples each, microseconds\n");
    for share in [0.5, 0.99] {
        let (bare, hub) = (quantile(&mut bare_us, share), quantile(&mut hub_us, share));
        text.push_str(&format!(
            "  p{:<3} bare PUBLISH → SUBSCRIBE {bare:>7.0}   publish on node 0 → delivered on node 1 {hub:>7.0}   ratio {:.2}\n",
            share * 100.0,
            hub / bare
        ));
    }
    text
}

async fn client(address: std::net::SocketAddr, user: &str) -> Client {
    let mut client = Client::connect(address).await;
    client.hello(user, json!({})).await;
    client
}

/// One that publishes and one that is subscribed, with Redis between.
struct Bare {
    writer: MultiplexedConnection,
    reader: PubSub,
}

impl Bare {
    async fn connect(port: u16) -> Self {
        let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
        let mut reader = client.get_async_pubsub().await.unwrap();
        reader.subscribe("bare").await.unwrap();
        let writer = client.get_multiplexed_async_connection().await.unwrap();
        Self { writer, reader }
    }

    async fn sample(&mut self) -> Duration {
        tokio::time::sleep(PAUSE).await;
        let begun = Instant::now();
        let mut publish = redis::cmd("PUBLISH");
        publish.arg("bare").arg(payload());
        let mut messages = self.reader.on_message();
        let heard = async {
            messages.next().await.unwrap();
            begun.elapsed()
        };
        let sent = publish.query_async::<u64>(&mut self.writer);
        let (sent, took) = tokio::join!(sent, heard);
        assert_eq!(sent.unwrap(), 1);
        took
    }
}

/// One that publishes on one node and one that reads on another.
struct Hub {
    writer: Client,
    reader: Client,
}

impl Hub {
    async fn sample(&mut self) -> Duration {
        tokio::time::sleep(PAUSE).await;
        let begun = Instant::now();
        let heard = async {
            self.reader.find(|frame| frame["t"] == "msg").await;
            begun.elapsed()
        };
        let sent = self.writer.publish(CHANNEL, json!(payload()));
        let (_, took) = tokio::join!(sent, heard);
        took
    }
}

fn payload() -> String {
    "x".repeat(100)
}
