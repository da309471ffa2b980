//! Benchmarks of a whole node: `cargo bench --bench node -- [fanout|connect|idle|slow|count] […]`.
//!
//! Each starts a release node as a process of its own, on a folder of its own, and speaks to it
//! over loopback with as little code as a client can have. Figures are ratios within one run, or
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
mod idle;
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
    let number = |at: usize, default: usize| {
        arguments
            .get(at)
            .map_or(default, |text| text.parse().unwrap())
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        match arguments.first().map(String::as_str) {
            Some("idle") => idle::run(number(1, 10_000)).await,
            Some("slow") => slow::run(number(1, 200), number(2, 200)).await,
            Some("fanout") => {
                let load = load(number(1, 1), number(2, 1_000), number(3, 30), number(4, 10));
                let peer = arguments.get(5).map(|path| Program::Peer(path.into()));
                fanout::run(load, peer).await;
            }
            Some("connect") => {
                let peer = arguments.get(2).map(|path| Program::Peer(path.into()));
                connect::run(number(1, 10_000), peer).await;
            }
            Some("count") => {
                count::run(arguments.get(1).is_some_and(|text| text == "write")).await;
            }
            Some("codec") => count::codec(&arguments[1], number(2, 1_000)),
            Some("floor") => floor::run(&arguments[1], &arguments[2]),
            Some(other) => {
                panic!("no bench is called {other}: fanout, connect, idle, slow or count")
            }
            None => {
                idle::run(10_000).await;
                slow::run(200, 200).await;
                fanout::run(load(1, 1_000, 30, 10), None).await;
                fanout::run(load(1_000, 5_000, 2_000, 10), None).await;
            }
        }
    });
}
