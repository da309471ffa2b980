//! The program as it is shipped, started as a process and killed: what survives, what it says
//! and with which code it ends. The client is that of `tests/it`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    clippy::unused_async,
    reason = "tests fail by panicking, match the enums of libraries, and await every helper alike"
)]

mod cluster;
mod commands;
mod crash;
mod damage;
mod deployment;
mod drain;
mod listeners;
mod members;
mod operators;
mod process;
mod ready;
#[path = "../it/redis.rs"]
mod redis;
mod restore;
#[expect(dead_code, reason = "whole nodes in one process use the rest")]
#[path = "../it/seeded.rs"]
mod seeded;
mod slow;
#[expect(dead_code, reason = "whole nodes in one process use the rest")]
#[path = "../it/support.rs"]
mod support;
mod tls;
#[path = "../it/wire.rs"]
mod wire;
