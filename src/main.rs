//! The `tidewire` program.

mod auth;
mod broker;
mod config;
mod store;
mod telemetry;

fn main() {}
