//! The program as it is shipped, started as a process and killed: what survives, what it says
//! and with which code it ends. The client is that of `tests/it`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod commands;
mod crash;
mod damage;
mod drain;
mod listeners;
mod members;
mod process;
#[expect(dead_code, reason = "whole nodes in one process use the rest")]
#[path = "../it/seeded.rs"]
mod seeded;
#[expect(dead_code, reason = "whole nodes in one process use the rest")]
#[path = "../it/support.rs"]
mod support;
mod tls;
#[path = "../it/wire.rs"]
mod wire;
