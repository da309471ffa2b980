//! The `tidewire` program.

mod broker;
mod store;

fn main() {}
