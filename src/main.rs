//! The `tidewire` program.

mod broker;
mod journal;
mod storage;
mod store;

fn main() {}
