//! Publications a second that survive SIGKILL: publishers are acknowledged as fast as they can
//! publish, the node is killed in the midst of it and started again on its folder, and everything
//! that was acknowledged must be there: once and in order.
//!
//! Each channel has one publisher, which numbers what it publishes from 1. So a publication is in
//! its place if and only if its offset is its number, and one that is lost, doubled or disordered
//! shifts all behind it: the 100 that history holds and the head tell about those before.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Deserialize;
use tokio::task::JoinSet;

use super::{
    http::Http,
    publishers::{self, CHANNELS, Publisher},
    server::Server,
};

/// Publishers at once.
const PUBLISHERS: usize = 8;
/// Before the measurement.
const WARM: Duration = Duration::from_secs(1);
/// What history holds of each channel.
const HISTORY: u64 = 100;

/// The way publications take.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// `pub` with `i` and `id`, 256 under way on each connection.
    WebSocket,
    /// `POST /v1/batch` of 100, each with an `id`; one under way on each connection.
    Http,
}

pub async fn run(seconds: u64) {
    for way in [Way::WebSocket, Way::Http] {
        measure(way, Duration::from_secs(seconds)).await;
    }
}

async fn measure(way: Way, length: Duration) {
    let mut server = Server::start().await;
    let address = server.address;
    let acknowledged = Arc::new(AtomicU64::new(0));
    let mut publishing = JoinSet::new();
    for number in 0..PUBLISHERS {
        let publisher = Publisher::new(number, Arc::clone(&acknowledged));
        publishing.spawn(async move {
            match way {
                Way::WebSocket => publishers::websocket(address, publisher).await,
                Way::Http => publishers::http(address, publisher).await,
            }
        });
    }
    tokio::time::sleep(WARM).await;
    let so_far = || acknowledged.load(Ordering::SeqCst);
    let (before, cpu, begin) = (so_far(), server.cpu(), Instant::now());
    tokio::time::sleep(length).await;
    let (count, took) = (so_far() - before, begin.elapsed());
    let cpu = server.cpu().since(cpu, count);
    server.kill();
    let publishers = publishing.join_all().await;
    let begin = Instant::now();
    server.start_again().await;
    let started = begin.elapsed();
    let mut unacknowledged = 0;
    for publisher in &publishers {
        unacknowledged += verify(&server, publisher).await;
    }
    println!(
        "publish: {way:?}: {PUBLISHERS} publishers, {CHANNELS} channels each: {:.0} acknowledged publications a second (must: 50,000), {:.1} us of server CPU each, of it {:.1} user; after SIGKILL and {:.1} s until it listened again, all {} acknowledged were there once and in order, and {unacknowledged} that were not acknowledged",
        count as f64 / took.as_secs_f64(),
        cpu.all(),
        cpu.user,
        started.as_secs_f64(),
        so_far(),
    );
}

#[derive(Debug, Deserialize)]
struct Page {
    offset: u64,
    items: Vec<Item>,
}

#[derive(Debug, Deserialize)]
struct Item {
    offset: u64,
    data: String,
}

/// Panics unless everything acknowledged is in its place; answers how much more there is.
async fn verify(server: &Server, publisher: &Publisher) -> u64 {
    let mut http = Http::connect(server.address).await;
    let mut more = 0;
    for (channel, acknowledged) in publisher.acknowledged.iter().enumerate() {
        if *acknowledged == 0 {
            continue;
        }
        let name = publisher.channel(channel);
        let what = format!("GET /v1/channels/{name}/history?limit={HISTORY}");
        let page = http.request(&what, "").await.unwrap();
        let page: Page = serde_json::from_str(&page).unwrap();
        assert!(
            page.offset >= *acknowledged,
            "{name}: {acknowledged} acknowledged, {} there",
            page.offset
        );
        more += page.offset - acknowledged;
        let places = page.offset.saturating_sub(HISTORY) + 1..=page.offset;
        assert!(
            page.items.iter().map(|item| item.offset).eq(places),
            "{name}: not the newest of its history"
        );
        for item in &page.items {
            let number = publishers::number(&item.data);
            assert_eq!(number, item.offset, "{name}: out of place");
        }
    }
    more
}
