//! What one client is owed: starts, acknowledgements, slots, checkpoints and budgets.

mod bucket;
mod checkpoint;
mod failover;
mod generations;
mod start;
mod subs;

use std::sync::Arc;

use tidewire_protocol::{ChannelName, Encoding, Epoch, Name, Position};

use super::*;
use crate::{
    broker::Head,
    channel::{ChannelOptions, Reader, View},
    telemetry::tally::Tally,
};

#[derive(Debug)]
struct Nobody;

impl Reader for Nobody {
    fn mark(&self, _slot: u8) -> bool {
        false
    }

    fn pull(self: Arc<Self>, _tally: &mut Tally<'_>) {}
}

fn epoch(text: &str) -> Epoch {
    Epoch::new(text).unwrap()
}

fn position(text: &str, offset: u64) -> Position {
    Position {
        epoch: epoch(text),
        offset,
    }
}

fn head(text: &str, offset: u64) -> Head {
    Head::of_one(position(text, offset), 1, 0)
}

/// A live channel whose log stands at `a/offset`.
fn channel(name: &str, offset: u64) -> Arc<Channel> {
    let options = ChannelOptions {
        counts: None,
        keeps_history: true,
        tail_bytes: 1 << 20,
    };
    let channel = Channel::new(ChannelName::new(name).unwrap(), options);
    assert!(channel.cut(&head("a", offset)));
    Arc::new(channel)
}

fn session() -> Session {
    Session::new(
        SessionId(Arc::from("s-1")),
        Fence {
            attempt: 1,
            nonce: 1,
        },
        Identity::default(),
    )
}

fn wishes() -> Wishes {
    Wishes {
        mode: Mode::Every,
        fallback: Fallback::Now,
        hz: None,
        member: None,
    }
}

fn start_at(offset: u64, phase: Phase) -> Start {
    Start {
        recovery: Recovery::Fresh,
        position: position("a", offset),
        progress: Progress {
            life: 0,
            segment: 0,
            cursor: offset,
            left_out: offset,
            begun: offset,
            phase,
            replayed: 0,
        },
        rewind: None,
    }
}

/// Subscribes to the channel in the next free slot, from `cursor`.
fn subscribe(
    session: &mut Session,
    channel: &Arc<Channel>,
    wishes: Wishes,
    cursor: u64,
) -> Option<u8> {
    let slot = session.free_slot()?;
    let view = View {
        encoding: Encoding::Json,
        mode: wishes.mode,
    };
    let joined = channel.join(Arc::new(Nobody), slot, view).unwrap();
    session.insert(
        slot,
        Arc::clone(channel),
        joined.key,
        wishes,
        &start_at(cursor, Phase::Live),
    );
    Some(slot)
}
