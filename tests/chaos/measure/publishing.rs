//! What a publication costs Redis, against a bare pipelined script with the same effects: a
//! counter and a time in a hash, an entry in a stream of bounded length, an announcement.
//!
//! Redis has one thread for all of it, so its CPU time for each is its throughput at the limit,
//! whatever else is busy on the machine.

use std::{
    fmt::Write,
    path::Path,
    time::{Duration, Instant},
};

use redis::{Script, aio::MultiplexedConnection};
use serde_json::{Value, json};

use super::two_nodes;
use crate::{
    harness::{ask::info, topology::Layout},
    support::Client,
};

/// Both are measured in turn this often, so that what disturbs one disturbs the other.
const ROUNDS: usize = 5;
/// Publications of one round.
const PUBLICATIONS: usize = 6_400;
/// Sent before the first answer is waited for.
const PIPELINES: [usize; 4] = [1, 4, 16, 64];
/// As many channels are published in, in turn.
const CHANNELS: usize = 16;
const PAYLOAD: usize = 128;
/// As `[namespaces.log]` of the nodes keeps, or nearly: trimming costs both the same.
const HISTORY: usize = 200_000;

const BARE: &str = r"
local last = redis.call('HINCRBY', KEYS[1], 'last', 1)
redis.call('HSET', KEYS[1], 'ts', ARGV[1])
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], last .. '-0', 't', ARGV[1], 'd', ARGV[3])
redis.call('PUBLISH', KEYS[2], ARGV[3])
return last";

pub async fn measure(program: &Path) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (topology, nodes) = two_nodes(program, folder.path(), Layout::Direct).await;
    let port = topology.servers[0].port;
    let mut bare = Bare::connect(port).await;
    let mut client = Client::connect(nodes.address(0)).await;
    client.hello("publisher", json!({})).await;
    // The first of each channel begins it, and costs more.
    hub(&mut client, CHANNELS, CHANNELS).await;
    bare.run(CHANNELS, CHANNELS).await;
    let mut text = format!(
        "publishing, {PAYLOAD} bytes, CPU time of Redis and throughput with this many under way; best of {ROUNDS} rounds\n"
    );
    for depth in PIPELINES {
        let (mut best_bare, mut best_hub) = (Cost::MAX, Cost::MAX);
        for _ in 0..ROUNDS {
            let cost = Cost::of(port, bare.run(PUBLICATIONS, depth)).await;
            best_bare = best_bare.min(cost);
            let cost = Cost::of(port, hub(&mut client, PUBLICATIONS, depth)).await;
            best_hub = best_hub.min(cost);
        }
        writeln!(
            text,
            "  {depth:>2}  bare script {best_bare}   publication {best_hub}   throughput at Redis' limit {:.0} %",
            100.0 * best_bare.cpu / best_hub.cpu
        )
        .unwrap();
    }
    text
}

/// Of one publication.
#[derive(Clone, Copy)]
struct Cost {
    /// CPU time of Redis, seconds.
    cpu: f64,
    took: f64,
}

impl Cost {
    const MAX: Self = Self {
        cpu: f64::MAX,
        took: f64::MAX,
    };

    async fn of(port: u16, work: impl Future<Output = ()>) -> Self {
        let (cpu, begun) = (cpu(port).await, Instant::now());
        work.await;
        let took: Duration = begun.elapsed();
        let count = PUBLICATIONS as f64;
        Self {
            cpu: (self::cpu(port).await - cpu) / count,
            took: took.as_secs_f64() / count,
        }
    }

    const fn min(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.min(other.cpu),
            took: self.took.min(other.took),
        }
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (cpu, rate) = (self.cpu * 1e6, 1.0 / self.took);
        write!(f, "{cpu:>5.1} µs, {rate:>7.0}/s")
    }
}

/// CPU seconds of the server so far.
async fn cpu(port: u16) -> f64 {
    let info = info(port, "cpu").await;
    let field = |name: &str| info[name].parse::<f64>().unwrap();
    field("used_cpu_user") + field("used_cpu_sys")
}

fn payload() -> String {
    "x".repeat(PAYLOAD)
}

/// Publishes through a node, so many at a time.
async fn hub(client: &mut Client, count: usize, depth: usize) {
    for begin in (0..count).step_by(depth) {
        let frames: Vec<Value> = (begin..begin + depth)
            .map(|number| {
                let channel = format!("log:{}", number % CHANNELS);
                json!({"t": "pub", "i": 1_000_000 + number, "ch": channel, "d": payload()})
            })
            .collect();
        client.send_all(&frames).await;
        for frame in frames {
            let ok = client.find(|answer| answer["i"] == frame["i"]).await;
            assert_eq!(ok["t"], "ok", "{ok}");
        }
    }
}

struct Bare {
    connection: MultiplexedConnection,
    script: Script,
}

impl Bare {
    async fn connect(port: u16) -> Self {
        let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let script = Script::new(BARE);
        script
            .prepare_invoke()
            .load_async(&mut connection)
            .await
            .unwrap();
        Self { connection, script }
    }

    async fn run(&mut self, count: usize, depth: usize) {
        for begin in (0..count).step_by(depth) {
            let mut pipeline = redis::pipe();
            for number in begin..begin + depth {
                let channel = number % CHANNELS;
                let mut invocation = self.script.prepare_invoke();
                invocation
                    .key(format!("bare:meta:{channel}"))
                    .key(format!("bare:log:{channel}"))
                    .arg("1789000000000")
                    .arg(HISTORY)
                    .arg(payload());
                pipeline.invoke_script(&invocation);
            }
            let made: Vec<u64> = pipeline.query_async(&mut self.connection).await.unwrap();
            assert_eq!(made.len(), depth);
        }
    }
}
