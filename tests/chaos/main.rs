//! The hub as a cluster under real faults: processes of the shipped program, a real Redis, real
//! clients. A few short scenarios; `scripts/chaos` runs all of them, larger and longer.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    reason = "tests fail by panicking, say how far they are, and compute rates of small numbers"
)]

mod brief;
mod bytes;
#[expect(dead_code, reason = "the campaign uses the rest")]
mod harness;
mod stage;
