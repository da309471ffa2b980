//! Tidewire: a real-time WebSocket hub whose sessions never break.
//!
//! The program is `cli`; whole nodes for tests are `node`, made from a `config`.

#![cfg_attr(
    test,
    allow(
        clippy::wildcard_enum_match_arm,
        clippy::too_many_lines,
        clippy::unused_async,
        reason = "tests look for one variant, hold tables, and await every helper alike"
    )
)]

mod admin;
mod api;
mod assets;
mod auth;
mod broker;
mod channel;
pub mod cli;
mod clock;
pub mod config;
mod control;
mod demo;
mod feed;
mod gateway;
mod http;
mod journal;
#[cfg(test)]
mod lab;
pub mod node;
mod presence;
mod random;
mod redis;
mod session;
#[cfg(test)]
#[path = "../tests/sim/mod.rs"]
mod sim;
mod storage;
mod store;
mod tasks;
mod telemetry;
