//! One connection of a simulated client, and what its frames are about.

use std::collections::BTreeMap;

use tidewire_protocol::{ChannelName, Frame, Position};
use tokio::time::Instant;

use super::super::{
    wire::{Incoming, Wire},
    world::World,
};

/// One connection.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) wire: Wire,
    pub(super) is_welcome: bool,
    pub(super) opened: Instant,
    /// Subscriptions that are not answered, by channel and request; no request: the hello's.
    pub(super) asked: BTreeMap<(ChannelName, Option<u64>), Option<Position>>,
    pub(super) attempt: u64,
}

/// What a frame is about.
pub(super) const fn channel_of(frame: &Frame) -> Option<&ChannelName> {
    match frame {
        Frame::Subscribed { channel, .. }
        | Frame::Msg { channel, .. }
        | Frame::State { channel, .. }
        | Frame::Live { channel, .. }
        | Frame::Gap { channel, .. }
        | Frame::Rewind { channel, .. }
        | Frame::Unsubscribed { channel, .. } => Some(channel),
        Frame::Welcome(_)
        | Frame::Done { .. }
        | Frame::Published { .. }
        | Frame::HistoryPage { .. }
        | Frame::StatePage { .. }
        | Frame::Error { .. }
        | Frame::Stale { .. }
        | Frame::Auth { .. }
        | Frame::Move { .. }
        | Frame::Ping
        | Frame::Bye { .. } => None,
    }
}

pub(super) async fn receive(line: Option<&mut Line>, world: &World) -> Vec<Incoming> {
    match line {
        Some(line) => line.wire.receive(world).await,
        None => std::future::pending().await,
    }
}
