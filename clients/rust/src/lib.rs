#![doc = include_str!("../README.md")]

mod backoff;
mod builder;
mod client;
mod core;
mod driver;
mod error;
mod event;
mod requests;
mod subscription;
mod view;

pub use backoff::Backoff;
pub use builder::Builder;
pub use client::{Client, Enqueued};
pub use core::TokenReason;
pub use error::{BuildError, Error, TokenError};
pub use event::{Event, GapReason, Loss, Message, Online, Status};
pub use requests::{History, HistoryPage, Publish};
pub use subscription::{Options, Start, Subscription};
pub use tidewire_protocol::{
    ChannelName, CloseCode, Encoding, Epoch, ErrorCode, Name, Payload, Position, Publication,
    command::Mode,
    frame::{Acknowledge, Recovery, StateItem},
};
pub use tokio_rustls::rustls;
pub use view::{Freshness, View};

/// Where a publication is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Its place in the log.
    pub position: Position,
    /// It had been applied before; the position is the first one.
    pub duplicate: bool,
    /// What it had reached when the node answered; the channel's namespace decides for what the
    /// node waits.
    pub acknowledged: Acknowledge,
}
