//! The parts of a connection: its wire, its slots, and delivery over a real socket.

mod checkpoints;
mod client;
mod delivery;
mod pages;
mod redis;
mod rights;
mod slots;
mod stale;
mod websocket;
