//! What a delivery and a connection cost on a small node and on a large one, in one table.
//!
//! Every connection has one subscription, every channel that is published to has five readers and
//! the rate is the same in all rows, so one thing varies at a time:
//! - connections, and with them the channels they read: more users of the same kind;
//! - other channels of the node beside those of the measured connections: each is followed by a
//!   connection that holds 250 of them, and holds a publication. They say nothing meanwhile.
//!
//! The floor has the same connections and deliveries at the same time, but no other channels: what
//! its figure grows by is the kernel's and the machine's.

use std::{sync::Arc, time::Duration};

use tokio::io::AsyncWriteExt;

use super::{
    fanout::{self, Load},
    readers::{self, Count},
    server::{Program, Server, median, token},
    socket,
};

const CONNECTIONS: [usize; 4] = [1_000, 5_000, 10_000, 19_000];
const OTHER_CHANNELS: [usize; 3] = [1, 1_000, 100_000];
/// Connections in the rows whose other channels vary.
const CONNECTIONS_BESIDE: usize = 5_000;
const READERS_PER_CHANNEL: usize = 5;
/// Publications a second.
const RATE: usize = 2_000;
const SECONDS: usize = 4;
/// Subscriptions of a connection that follows other channels; 256 are allowed.
const HELD: usize = 250;
/// Connections that warm a program up: its first pages are nobody's.
const WARM: usize = 200;
/// Other channels that are published to at once.
const AT_ONCE: usize = 1_000;
/// What the node defers after connects is done by then.
const SETTLE: Duration = Duration::from_secs(2);
/// Neither figure may grow by more.
const GROWTH_MAX: f64 = 1.2;

/// Prints the table of the medians of so many rounds.
pub async fn run(rounds: usize) {
    let connections = CONNECTIONS.map(|connections| (connections, 0));
    let channels = OTHER_CHANNELS.map(|others| (CONNECTIONS_BESIDE, others));
    table(&connections, rounds).await;
    table(&channels, rounds).await;
}

/// Rows of connections and other channels, each compared with the first.
async fn table(rows: &[(usize, usize)], rounds: usize) {
    println!(
        "growth: {RATE} publications a second to {READERS_PER_CHANNEL} readers each, medians of {rounds}; x: against the first row (must: under {GROWTH_MAX})"
    );
    println!(
        "connections | other channels | CPU per delivery, us |    x | floor, us |    x | resident bytes per connection |    x"
    );
    let mut first = None;
    for (connections, others) in rows {
        let mut figures = Vec::new();
        for _ in 0..rounds {
            let node = measure(&Program::Node, *connections, *others).await;
            let floor = measure(&Program::Floor, *connections, 0).await;
            figures.push((node, floor));
        }
        let middle = |figure: fn(&(Row, Row)) -> f64| {
            median(&mut figures.iter().map(figure).collect::<Vec<_>>())
        };
        let row @ [cpu, floor, bytes] = [
            middle(|(node, _)| node.cpu),
            middle(|(_, floor)| floor.cpu),
            middle(|(node, _)| node.bytes),
        ];
        let [first_cpu, first_floor, first_bytes] = *first.get_or_insert(row);
        println!(
            "{connections:>11} | {others:>14} | {cpu:>20.2} | {:>4.2} | {floor:>9.2} | {:>4.2} | {bytes:>29.0} | {:>4.2}",
            cpu / first_cpu,
            floor / first_floor,
            bytes / first_bytes
        );
    }
}

#[derive(Debug, Clone, Copy)]
struct Row {
    /// µs of a delivery.
    cpu: f64,
    /// Resident, of one more connection, before anything was published to it.
    bytes: f64,
}

async fn measure(program: &Program, connections: usize, others: usize) -> Row {
    let load = Load {
        channels: connections / READERS_PER_CHANNEL,
        readers: connections,
        rate: RATE,
        seconds: SECONDS,
    };
    let server = Server::run(program).await;
    let count = Arc::new(Count::default());
    // They read no channel that is published to while something is measured.
    let unread = load.channels + others;
    warm(&server, unread, &count).await;
    follow(&server, load.channels..unread, &count).await;
    tokio::time::sleep(SETTLE).await;
    let before = server.resident();
    fanout::subscribe(&server, load, &count).await;
    tokio::time::sleep(SETTLE).await;
    let grown = server.resident().saturating_sub(before);
    Row {
        cpu: fanout::deliver(&server, load, &count).await.cpu.all(),
        bytes: grown as f64 / connections as f64,
    }
}

async fn warm(server: &Server, channel: usize, count: &Arc<Count>) {
    let token = token();
    for _ in 0..WARM {
        fanout::listen(server, &token, channel, count).await;
    }
}

/// Has these channels followed, and something in each.
async fn follow(server: &Server, channels: std::ops::Range<usize>, count: &Arc<Count>) {
    let token = token();
    let numbers: Vec<_> = channels.collect();
    if numbers.is_empty() {
        return;
    }
    for held in numbers.chunks(HELD) {
        let names: Vec<_> = held.iter().map(|channel| format!("c{channel}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let hello = socket::hello(&token, &names);
        let live = (r#""t":"live""#, held.len());
        let (stream, _) = socket::open_and_see(server.address, &hello, live).await;
        tokio::spawn(readers::count(stream, Arc::clone(count)));
    }
    let mut publisher = socket::publisher(server.address, &token).await;
    let mut published = 0;
    for channels in numbers.chunks(AT_ONCE) {
        let frames: Vec<_> = channels
            .iter()
            .flat_map(|channel| fanout::publication(*channel))
            .collect();
        publisher.write_all(&frames).await.unwrap();
        published += channels.len() as u64;
        count.reach(published).await;
    }
}
