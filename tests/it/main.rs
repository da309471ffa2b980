//! Whole nodes in this process, on port 0, over real sockets and a real folder; the client is
//! `tokio-tungstenite`, an implementation that shares no code with the node's.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod bad_input;
mod delivery;
mod floods;
mod hello;
mod modes;
mod pages;
mod presence;
mod publish;
mod raw;
mod resume;
mod scripts;
mod subscribe;
mod support;
mod tokens;
mod wire;
