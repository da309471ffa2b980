//! What can be played: one scenario in each file, with its own defaults.
//!
//! Named by `main`, run by `run`. They share how a crowd is gathered and streams are numbered.

mod audience;
pub mod chat;
mod coming_back;
pub mod dashboard;
pub mod deploy;
pub mod fanout;
pub mod idle;
pub mod jitter;
pub mod kill;
pub mod million;
pub mod orders;
mod parts;
pub mod slow;
pub mod spike;
pub mod storm;

pub use audience::connect;

use std::time::Duration;

use crate::{
    publish::{Keys, Outlet, Schedule},
    stage::Stage,
};

/// One stream in each channel of a namespace, numbered like it.
fn outlets(stage: &Stage, namespace: &str, channels: usize) -> Vec<Outlet> {
    let outlet = |(number, stream)| Outlet {
        stream,
        channel: stage.channel(namespace, number),
        keys: Keys::None,
    };
    (0..channels).zip(0..).map(outlet).collect()
}

/// `rate` messages a second of `payload` bytes, over so many channels of the namespace `load`, from
/// now on.
fn steady(
    stage: &Stage,
    channels: usize,
    rate: f64,
    lasting: Duration,
    payload: usize,
) -> Schedule {
    let outlets = outlets(stage, "load", channels);
    Schedule::steady(outlets, stage.begin(), rate, lasting).payload(payload)
}
