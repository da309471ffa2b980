//! Benchmarks of a whole node: `cargo bench --bench node -- [idle|slow|fanout] [numbers…]`.
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

mod fanout;
mod idle;
mod server;
mod slow;
mod socket;

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
                fanout::run(number(1, 1), number(2, 1_000), number(3, 30), number(4, 10)).await
            }
            Some(other) => panic!("no bench is called {other}: idle, slow or fanout"),
            None => {
                idle::run(10_000).await;
                slow::run(200, 200).await;
                fanout::run(1, 1_000, 30, 10).await;
                fanout::run(1_000, 5_000, 2_000, 10).await;
            }
        }
    });
}
