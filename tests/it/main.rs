//! Whole nodes in this process, on port 0, over real sockets and a real folder; the client is
//! `tokio-tungstenite`, an implementation that shares no code with the node's.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    clippy::unused_async,
    reason = "tests fail by panicking, match the enums of libraries, and await every helper alike"
)]

mod admission;
mod backend;
mod bad_input;
mod cluster;
mod delivery;
mod floods;
mod hello;
mod journeys;
mod metrics;
mod modes;
mod operators;
mod pages;
mod presence;
mod proxy;
mod publish;
mod raw;
#[expect(dead_code, reason = "the tests of processes use the rest")]
mod redis;
mod resume;
mod rust_client;
mod scripts;
mod seeded;
mod subscribe;
mod support;
mod tokens;
mod tracing;
mod wire;
