//! The `tidewire` program.

mod api;
mod auth;
mod broker;
mod config;
mod journal;
mod storage;
mod store;
mod telemetry;

fn main() {}
