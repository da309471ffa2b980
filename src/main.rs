//! The `tidewire` program.

mod auth;
mod broker;
mod channel;
mod clock;
mod config;
mod feed;
mod gateway;
mod http;
mod presence;
mod random;
mod session;
mod store;
mod tasks;
mod telemetry;

fn main() {}
