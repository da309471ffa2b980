//! What one client is owed: identity, subscriptions, and a cursor in each.
//!
//! PURE: no clock, no randomness, no IO, no async; the time is an argument. The gateway holds a
//! `Session` beside the connection it lives on, and writes it down as a checkpoint; between
//! connections it exists only in the store. It never sends anything itself.

mod bucket;
mod checkpoint;
mod events;
mod pages;
mod start;
mod step;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use tidewire_protocol::{
    ChannelName, Name, Position,
    command::{Fallback, Mode},
    frame::Recovery,
    limits::SUBSCRIPTIONS_MAX,
};

pub use self::{
    bucket::Bucket,
    checkpoint::{Stored, StoredSub, decode as decode_checkpoint},
    events::{Event, Events, Recoveries, What},
    pages::{Loaded, Need, Paged, put},
    start::{Start, StartRequest, plan},
    step::{End, Step},
};
use crate::{
    auth::Identity,
    channel::{Channel, Place, ReaderKey, Told},
    store::{Fence, SessionId},
};

/// How far a subscription has come; what a pull changes, all at once, when bytes left the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The life of the channel's log the cursor belongs to.
    pub life: u32,
    /// The segment of the log the cursor is in.
    pub segment: u32,
    /// The last offset given to the client.
    pub cursor: u64,
    /// Of what lies at or below the cursor, values may have been left out for newer ones up to
    /// this offset: the newest per key, and snapshots. Until the cursor is there, a log that loses
    /// its end leaves the client without either.
    pub left_out: u64,
    /// The offset after which this delivery began.
    pub begun: u64,
    /// What the subscription waits for.
    pub phase: Phase,
    /// Publications replayed so far.
    pub replayed: u64,
}

impl Progress {
    /// The cursor, as the channel names it.
    pub const fn place(&self) -> Place {
        Place {
            life: self.life,
            segment: self.segment,
            cursor: self.cursor,
        }
    }
}

/// What a subscription is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Pages of the keyed state, of items at or below the cursor.
    Snapshot {
        /// The lowest offset of the next page.
        from: u64,
    },
    /// Catching up; `live` is owed when it is done.
    Replay,
    /// Following.
    Live,
}

/// A member this session is in a channel's presence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its key in the presence channel: `<user>/<n>`.
    pub key: Name,
    /// What it says of itself, JSON text.
    pub me: Bytes,
}

/// The wishes of a subscription, as the client may change them.
#[derive(Debug, Clone, PartialEq)]
pub struct Wishes {
    pub mode: Mode,
    /// What follows a gap or a reset.
    pub fallback: Fallback,
    /// Most deliveries a second.
    pub hz: Option<u32>,
    pub member: Option<Box<Member>>,
}

/// One subscription.
#[derive(Debug)]
pub struct Sub {
    pub channel: Arc<Channel>,
    /// Its place among the channel's readers.
    pub reader: ReaderKey,
    /// Tells incarnations in one slot apart: work begun for an older one is dropped.
    pub number: u32,
    pub wishes: Wishes,
    pub progress: Progress,
    /// The offset the application acknowledged.
    pub floor: u64,
    /// Whether it starts over from a reset that the client has not acknowledged: until it has, a
    /// resume without a position is told again, or what the reset left out would be skipped in silence.
    is_unheard: bool,
    /// Not read before this moment (`hz`), Unix ms.
    pub due_ms: u64,
    /// Whether a timer waits for `due_ms`.
    pub armed: bool,
}

impl Sub {
    /// Moves the cursor. Where delivery starts over nothing was acknowledged yet, and what the
    /// log lost is acknowledged no more.
    pub fn move_to(&mut self, progress: Progress) {
        let old = self.progress;
        if (progress.life, progress.begun) != (old.life, old.begun) {
            self.floor = progress.begun;
            self.is_unheard = true;
        }
        self.floor = self.floor.min(progress.cursor);
        self.progress = progress;
    }

    /// Takes what the application handled, within the cursor's epoch; whether that changed anything.
    fn acknowledge(&mut self, offset: u64) -> bool {
        let floor = self.floor.max(offset.min(self.progress.cursor));
        let is_heard = self.is_unheard && offset >= self.progress.begun;
        let changed = is_heard || floor != self.floor;
        self.floor = floor;
        self.is_unheard &= !is_heard;
        changed
    }
}

/// One client's session on its living connection.
#[derive(Debug)]
pub struct Session {
    pub id: SessionId,
    pub fence: Fence,
    pub identity: Identity,
    /// The first in place: most sessions have one, and each delivery would go to another piece of
    /// memory for it.
    subs: SmallVec<[Option<Sub>; 1]>,
    /// What happened to it, for operators.
    pub events: Events,
    /// How the subscriptions of this connection began.
    pub recoveries: Recoveries,
    /// What its client was told on this connection.
    pub told: Told,
    next_number: u32,
    unwritten: Unwritten,
}

/// What the store does not know yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unwritten {
    /// Nothing.
    None,
    /// Acknowledged floors: may wait long.
    Floors,
    /// Subscriptions: written within a second.
    Subscriptions,
}

impl Session {
    pub const fn new(id: SessionId, fence: Fence, identity: Identity) -> Self {
        Self {
            id,
            fence,
            identity,
            subs: SmallVec::new_const(),
            events: Events::new(),
            recoveries: Recoveries::none(),
            told: Told::nothing(),
            next_number: 0,
            unwritten: Unwritten::None,
        }
    }

    /// When it came to this connection, Unix ms.
    pub fn since_ms(&self) -> u64 {
        self.events.as_slice().last().map_or(0, |event| event.at)
    }

    /// How many subscriptions it holds.
    pub fn len(&self) -> usize {
        self.subs.iter().flatten().count()
    }

    /// The slot a new subscription will have. None: the session holds as many as it may.
    pub fn free_slot(&self) -> Option<u8> {
        let slot = self
            .subs
            .iter()
            .position(Option::is_none)
            .unwrap_or(self.subs.len());
        if slot < SUBSCRIPTIONS_MAX {
            u8::try_from(slot).ok()
        } else {
            None
        }
    }

    /// Where the subscription to a channel is.
    pub fn slot_of(&self, channel: &ChannelName) -> Option<u8> {
        let slot = self.subs.iter().position(|sub| {
            sub.as_ref()
                .is_some_and(|sub| sub.channel.name() == channel)
        })?;
        u8::try_from(slot).ok()
    }

    pub fn sub(&self, slot: u8) -> Option<&Sub> {
        self.subs.get(usize::from(slot))?.as_ref()
    }

    pub fn sub_mut(&mut self, slot: u8) -> Option<&mut Sub> {
        self.subs.get_mut(usize::from(slot))?.as_mut()
    }

    /// All subscriptions with their slots.
    pub fn subs(&self) -> impl Iterator<Item = (u8, &Sub)> {
        (0..=u8::MAX)
            .zip(&self.subs)
            .filter_map(|(slot, sub)| Some((slot, sub.as_ref()?)))
    }

    /// Begins a subscription in a free slot.
    pub fn insert(
        &mut self,
        slot: u8,
        channel: Arc<Channel>,
        reader: ReaderKey,
        wishes: Wishes,
        start: &Start,
    ) {
        let at = usize::from(slot);
        if self.subs.len() <= at {
            // Exactly: most sessions hold few, and every idle one holds this memory.
            self.subs.reserve_exact(at + 1 - self.subs.len());
            self.subs.resize_with(at + 1, || None);
        }
        assert!(
            self.subs[at].is_none(),
            "a subscription begins in a free slot"
        );
        let number = self.number();
        let progress = start.progress;
        self.subs[at] = Some(Sub {
            channel,
            reader,
            number,
            wishes,
            progress,
            floor: progress.cursor,
            is_unheard: start.recovery == Recovery::Reset,
            due_ms: 0,
            armed: false,
        });
        self.unwritten = Unwritten::Subscriptions;
    }

    /// Replaces the wishes of a subscription that stays where it is, cursor, floor and fallback
    /// with it; `live` is owed again. `reader` is its new place among the channel's readers.
    pub fn change(&mut self, slot: u8, wishes: Wishes, reader: ReaderKey) {
        let number = self.number();
        self.unwritten = Unwritten::Subscriptions;
        let Some(sub) = self.sub_mut(slot) else {
            return;
        };
        if sub.progress.phase == Phase::Live {
            sub.progress.phase = Phase::Replay;
        }
        sub.progress.replayed = 0;
        let fallback = sub.wishes.fallback;
        sub.wishes = Wishes { fallback, ..wishes };
        (sub.number, sub.reader) = (number, reader);
        (sub.due_ms, sub.armed) = (0, false);
    }

    /// Ends a subscription and gives it back to be taken off its channel.
    pub fn remove(&mut self, slot: u8) -> Option<Sub> {
        let sub = self.subs.get_mut(usize::from(slot))?.take()?;
        while matches!(self.subs.last(), Some(None)) {
            self.subs.pop();
        }
        self.unwritten = Unwritten::Subscriptions;
        Some(sub)
    }

    /// Ends all subscriptions.
    pub fn remove_all(&mut self) -> Vec<Sub> {
        std::mem::take(&mut self.subs)
            .into_iter()
            .flatten()
            .collect()
    }

    const fn number(&mut self) -> u32 {
        self.next_number = self.next_number.wrapping_add(1);
        self.next_number
    }

    /// Raises floors to what the application handled: only within the cursor's epoch, never
    /// above the cursor, never down.
    pub fn acknowledge(&mut self, handled: &[(ChannelName, Position)]) {
        for (channel, position) in handled {
            let Some(sub) = self.slot_of(channel).and_then(|slot| self.sub_mut(slot)) else {
                continue;
            };
            let epoch = sub.channel.epoch_at(sub.progress.place());
            if epoch.is_some_and(|epoch| epoch == position.epoch)
                && sub.acknowledge(position.offset)
            {
                self.unwritten = self.unwritten.max(Unwritten::Floors);
            }
        }
    }

    /// Publications between the cursors and the heads of their channels.
    pub fn lag(&self) -> u64 {
        let behind = |sub: &Sub| {
            sub.channel
                .head()
                .position
                .offset
                .saturating_sub(sub.progress.cursor)
        };
        self.subs.iter().flatten().map(behind).sum()
    }

    /// What the store does not know yet.
    pub const fn unwritten(&self) -> Unwritten {
        self.unwritten
    }

    /// The session goes on from what the store holds. Where nothing but positions changed, its
    /// floors are all that is unwritten: a storm of resumes does not write what is there.
    pub fn went_on_from(&mut self, stored: &[StoredSub]) {
        let is_same = self.len() == stored.len()
            && (self.subs().zip(stored)).all(|((_, sub), stored)| stored.is_of(sub));
        if is_same && self.unwritten == Unwritten::Subscriptions {
            self.unwritten = Unwritten::Floors;
        }
    }

    /// The checkpoint's body; what it holds counts as written.
    pub fn checkpoint(&mut self) -> Bytes {
        self.unwritten = Unwritten::None;
        checkpoint::encode(self)
    }

    /// The write failed: it is owed again.
    pub fn write_failed(&mut self) {
        self.unwritten = Unwritten::Subscriptions;
    }
}
