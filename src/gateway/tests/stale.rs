//! What clients hear of a broker that is out of reach: since when, once, and that it is over.

use std::sync::Arc;

use tidewire_protocol::{
    Encoding, Frame,
    command::{Hello, Mode},
};

use super::client::{Client, Lab, PATIENCE, channel, last, sub};
use crate::{broker::Announce, gateway::connection::Connection, gateway::hello};

/// A connection that said hello.
async fn welcomed(lab: &Lab) -> (Arc<Connection>, Client) {
    let (connection, client) = lab.connect(Encoding::Json).await;
    connection.take_session();
    let opened = hello::open(&connection, Hello::default()).await;
    assert!(opened.is_some());
    (connection, client)
}

/// What it was told, in order.
fn told(frames: &[Frame]) -> Vec<u64> {
    let since = |frame: &Frame| match frame {
        Frame::Stale { channel, since } => {
            assert_eq!(*channel, None, "all channels");
            Some(*since)
        }
        _other => None,
    };
    frames.iter().filter_map(since).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_is_told_once_and_none_is_cut() {
    let lab = Lab::start().await;
    let mut clients = Vec::new();
    for _ in 0..50 {
        let (connection, client) = welcomed(&lab).await;
        sub(&connection, "room", Mode::Every).await;
        clients.push((connection, client));
    }
    let feed = lab.gateway().feed.clone();
    let begun = std::time::Instant::now();
    feed.logs().reach(Some(1_760_000_000_000));
    feed.logs().reach(Some(1_760_000_000_500));
    for (_, client) in &mut clients {
        client.read_until(|frames| !told(frames).is_empty()).await;
    }
    assert!(
        begun.elapsed() < PATIENCE / 4,
        "within a second, or what a loaded machine makes of it"
    );
    let (late, mut client) = welcomed(&lab).await;
    client.read_until(|frames| !told(frames).is_empty()).await;
    assert!(matches!(client.frames[0], Frame::Welcome(_)));
    sub(&late, "room", Mode::Every).await;
    clients.push((late, client));

    feed.logs().reach(None);
    for (_, client) in &mut clients {
        client.read_until(|frames| told(frames).len() == 2).await;
    }
    let (_, mut fresh) = welcomed(&lab).await;
    let newest = lab.publish(&channel("room"), None, 10).await;
    for (_, client) in &mut clients {
        client
            .read_until(|frames| last(frames, "room") == newest)
            .await;
        assert_eq!(told(&client.frames), [1_760_000_000_000, 0]);
    }
    fresh.read_until(|frames| !frames.is_empty()).await;
    assert_eq!(told(&fresh.frames), [0_u64; 0]);
    lab.stop().await;
}
