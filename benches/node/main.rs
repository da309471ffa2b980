//! Benchmarks of a whole node: `cargo bench --bench node -- BENCH […]`.
//!
//! | BENCH | measures |
//! |---|---|
//! | `fanout CHANNELS READERS RATE SECONDS [PROGRAM]` | CPU per delivery and latency at a steady rate, beside the floor |
//! | `limit CHANNELS READERS [PROGRAM]` | the highest rate without loss and with a p99 below 100 ms |
//! | `connect CONNECTIONS [PROGRAM]` | CPU per connect and subscribe |
//! | `idle CONNECTIONS` | resident bytes per connection |
//! | `growth ROUNDS` | both, with more connections and with more channels |
//! | `publish SECONDS` | acknowledged publications a second, and that they survive SIGKILL |
//! | `slow READERS MEGABYTES` | memory under readers that stop |
//! | `count [write]` | counted instructions, against the baseline |
//!
//! Numbers may be left out from the end on; PROGRAM speaks the dialogue of `floor.rs`. Each bench
//! starts a release node as a process of its own, on a folder of its own, and speaks to it over
//! loopback with as little code as a client can have. Figures are ratios within one run, or
//! counts; single times on a shared machine mean little.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench prints and fails by panicking"
)]

mod connect;
mod count;
mod fanout;
mod floor;
mod growth;
mod http;
mod idle;
mod latencies;
mod limit;
mod pace;
mod publish;
mod publishers;
mod readers;
mod server;
mod slow;
mod socket;

use self::{fanout::Load, server::Program};

const fn load(channels: usize, readers: usize, rate: usize, seconds: usize) -> Load {
    Load {
        channels,
        readers,
        rate,
        seconds,
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run(&arguments));
}

async fn run(arguments: &[String]) {
    let number = |at: usize, default: usize| {
        arguments
            .get(at)
            .map_or(default, |text| text.parse().unwrap())
    };
    let peer = |at: usize| arguments.get(at).map(|path| Program::Peer(path.into()));
    match arguments.first().map(String::as_str) {
        Some("fanout") => {
            let load = load(number(1, 1), number(2, 1_000), number(3, 30), number(4, 10));
            fanout::run(load, peer(5)).await;
        }
        Some("limit") => limit::run(number(1, 1), number(2, 1_000), peer(3)).await,
        Some("connect") => connect::run(number(1, 10_000), peer(2)).await,
        Some("idle") => idle::run(number(1, 10_000)).await,
        Some("growth") => growth::run(number(1, 1)).await,
        Some("publish") => publish::run(number(1, 5) as u64).await,
        Some("slow") => slow::run(number(1, 200), number(2, 200)).await,
        Some("count") => count::run(arguments.get(1).is_some_and(|text| text == "write")).await,
        Some("codec") => count::codec(&arguments[1], number(2, 1_000)),
        Some("floor") => floor::run(&arguments[1], &arguments[2]),
        Some(other) => panic!("no bench is called {other}; main.rs lists them"),
        None => {
            idle::run(10_000).await;
            slow::run(200, 200).await;
            fanout::run(load(1, 1_000, 30, 10), None).await;
            fanout::run(load(1_000, 5_000, 2_000, 10), None).await;
        }
    }
}
