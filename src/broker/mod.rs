//! Seam 1: publications between nodes, and history.
//!
//! A broker owns every channel's log: it mints epochs and offsets, keeps history, keyed state and
//! the dedup window, and announces what the log holds to the node. Called by `feed`, `api` and
//! `presence`; it never knows sessions, connections or rights.

#[cfg(test)]
pub(crate) mod contract;
pub mod embedded;
mod fingerprint;
pub mod lineage;
pub mod redis;

use std::{fmt::Debug, future::Future, pin::Pin, sync::Arc};

use tidewire_protocol::{
    ChannelName, Epoch, ErrorCode, Name, Payload, Position, TraceParent,
    command::{Guard, Range},
    frame::{Acknowledge, Publication, StateItem},
};

use self::lineage::Lineage;

/// A boxed future, so that the seam can be a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What one channel keeps; resolved from its namespace by the caller and passed with each
/// publication, so that the broker needs no configuration of channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Publications kept; 0: only the offset counter.
    pub history_size: u32,
    /// How long they are kept, ms.
    pub history_ttl_ms: u64,
    /// Whether the newest publication per key is kept.
    pub state: bool,
    /// Most keys of the state; a publication that would add one more is refused.
    pub state_keys: u32,
    /// How long a key lives without its own lifetime, ms.
    pub state_ttl_ms: u64,
    /// How long tombstones stay in the state, ms: max(history ttl, session ttl, 1 h).
    pub tombstone_ttl_ms: u64,
    /// How long publication ids are remembered, ms: 2 minutes, at least the session's ttl.
    pub dedup_ttl_ms: u64,
    /// What a publication must reach before it is answered, where the broker has copies.
    pub acknowledge: Acknowledge,
}

impl Retention {
    /// A log without keyed state: so many publications, for so many ms.
    pub const fn of_log(size: u32, ttl_ms: u64) -> Self {
        Self {
            history_size: size,
            history_ttl_ms: ttl_ms,
            state: false,
            state_keys: 0,
            state_ttl_ms: ttl_ms,
            tombstone_ttl_ms: ttl_ms,
            dedup_ttl_ms: ttl_ms,
            acknowledge: Acknowledge::Log,
        }
    }
}

/// One publication to make. Rights, names and sizes were checked by the caller.
#[derive(Debug, Clone)]
pub struct Publish {
    /// The channel.
    pub channel: ChannelName,
    /// What the channel keeps.
    pub retention: Retention,
    /// The data; none only with `delete`.
    pub payload: Option<Payload>,
    /// The key it sets.
    pub key: Option<Name>,
    /// The application's event name.
    pub event: Option<Name>,
    /// The id for idempotency, unique per channel and `publisher`.
    pub id: Option<Name>,
    /// Who publishes, as the dedup window tells publishers apart (`u:<user>`, `s:<session>`, `k:<key>`).
    pub publisher: Arc<str>,
    /// The user shown to readers.
    pub by: Option<Name>,
    /// Remove the key (a tombstone).
    pub delete: bool,
    /// Lifetime, ms.
    pub ttl_ms: Option<u64>,
    /// The guard.
    pub guard: Option<Guard>,
    /// The span it is published by; sampled.
    pub trace: Option<TraceParent>,
}

/// The answer to an accepted publication.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// Its position.
    pub position: Position,
    /// The id had been applied before: this is its first position.
    pub duplicate: bool,
    /// What it has reached.
    pub acknowledged: Acknowledge,
}

/// Why the broker refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BrokerError {
    /// The id was used with another body.
    #[error("the publication id was used with another body")]
    IdConflict,
    /// The guard does not hold; carries the present last position (offset 0: there is none).
    #[error("the guard does not hold")]
    PreconditionFailed(Position),
    /// The state holds as many keys as it may.
    #[error("the channel's state is full")]
    StateFull,
    /// The position is not on the surviving log.
    #[error("the position is not on the log")]
    Gone,
    /// The broker cannot be reached or its storage fails; nothing is known to be changed.
    #[error("the broker is unavailable")]
    Unavailable,
}

impl BrokerError {
    /// The code a client is told.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::IdConflict => ErrorCode::IdConflict,
            Self::PreconditionFailed(_) => ErrorCode::PreconditionFailed,
            Self::StateFull => ErrorCode::StateFull,
            Self::Gone => ErrorCode::HistoryGone,
            Self::Unavailable => ErrorCode::Unavailable,
        }
    }
}

/// The present end of a channel's log. A channel never published to has a head with offset 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// Epoch and last offset minted.
    pub position: Position,
    /// The first offset history still holds; `position.offset + 1` when it holds none.
    pub first: u64,
    /// Highest offset of a tombstone that was dropped: a state catch-up from below is a reset.
    pub state_floor: u64,
    /// The surviving log; its last epoch is that of `position`.
    pub lineage: Lineage,
}

impl Head {
    /// The head of a log of one generation.
    #[must_use]
    pub fn of_one(position: Position, first: u64, state_floor: u64) -> Self {
        let lineage = Lineage::of_one(position.epoch.clone());
        Self {
            position,
            first,
            state_floor,
            lineage,
        }
    }
}

/// A page of history, in rising offset order.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryPage {
    /// The head at the time of the read.
    pub head: Head,
    /// The publications.
    pub items: Vec<Arc<Publication>>,
    /// Whether there are more in the direction asked.
    pub more: bool,
}

/// A page of keyed state, in rising offset order. Expired keys are not in it.
#[derive(Debug, Clone, PartialEq)]
pub struct StatePage {
    /// The head at the time of the read.
    pub head: Head,
    /// The items, tombstones among them only where asked for.
    pub items: Vec<StateItem>,
    /// Whether there are more above the last item.
    pub more: bool,
}

/// What to read of a channel's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateQuery {
    /// Lowest offset wanted (inclusive).
    pub from: u64,
    /// Whether tombstones and the newest publication without a key are wanted too: what a reader
    /// in mode `latest` is owed above its cursor.
    pub catch_up: bool,
    /// Bounds of the page.
    pub limit: PageLimit,
}

/// Bounds of one page; whichever is reached first ends it, and it holds at least one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimit {
    /// Most items.
    pub items: usize,
    /// Most bytes of payload.
    pub bytes: usize,
}

/// Where the broker announces what its logs hold, for the channels the node follows.
///
/// Announcements are hints, the log is the truth: one may be missing, come twice, or come from a
/// primary that was left. They carry their position, and what does not continue the log makes the
/// receiver compare heads. `append` is called in the order the broker read them, possibly under
/// the broker's lock: it must be short and must not call the broker. `flush` follows a batch of
/// appends, outside any lock.
pub trait Announce: Debug + Send + Sync {
    /// The log of `channel` holds `publication`, minted under `epoch`.
    fn append(&self, channel: &ChannelName, epoch: &Epoch, publication: &Arc<Publication>);
    /// The entry that was announced last belongs to a trace; told before the next `flush`.
    fn traced(&self, channel: &ChannelName, offset: u64, trace: TraceParent);
    /// The log began another life with this head.
    fn reset(&self, channel: &ChannelName, head: &Head);
    /// The entry at this offset was blanked in place.
    fn blank(&self, channel: &ChannelName, offset: u64);
    /// The batch is complete: deliver.
    fn flush(&self);
    /// Announcements of some channels may have been lost, or their primary changed: heads are to
    /// be compared. Called with a test that says which.
    fn doubt(&self, is_doubted: &dyn Fn(&ChannelName) -> bool);
    /// Since when the broker is out of reach, Unix ms; none: it answers again.
    fn reach(&self, lost_since_ms: Option<u64>);
}

/// The seam. Every call ends within the broker's own time limit; a dropped future changes
/// nothing about whether the step was applied.
pub trait Broker: Debug + Send + Sync {
    /// Publishes in order; each item on its own, not atomic together. One answer per item.
    fn publish(&self, batch: Vec<Publish>) -> BoxFuture<'_, Vec<Result<Published, BrokerError>>>;

    /// Begins announcing each channel and answers its head: the exact cut between what must be
    /// read and what will be announced. Following twice is harmless. Creates nothing in storage
    /// but may mint the epoch of an unknown channel.
    fn follow<'a>(
        &'a self,
        channels: &'a [ChannelName],
    ) -> BoxFuture<'a, Result<Vec<Head>, BrokerError>>;

    /// The heads of channels, in one step: nothing is followed by it.
    fn heads<'a>(
        &'a self,
        channels: &'a [ChannelName],
    ) -> BoxFuture<'a, Result<Vec<Head>, BrokerError>>;

    /// Stops announcing a channel.
    fn unfollow(&self, channel: &ChannelName);

    /// Reads a page of history. A page that begins below `head.first` begins at `head.first`.
    fn history<'a>(
        &'a self,
        channel: &'a ChannelName,
        range: Range,
        limit: PageLimit,
    ) -> BoxFuture<'a, Result<HistoryPage, BrokerError>>;

    /// Reads a page of keyed state.
    fn state<'a>(
        &'a self,
        channel: &'a ChannelName,
        query: StateQuery,
    ) -> BoxFuture<'a, Result<StatePage, BrokerError>>;

    /// Lists channels whose name begins with `prefix`, after `after` in name order.
    fn channels<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(ChannelName, Head)>, BrokerError>>;

    /// Forgets a channel's log and begins another epoch.
    fn delete<'a>(&'a self, channel: &'a ChannelName) -> BoxFuture<'a, Result<Head, BrokerError>>;

    /// Blanks one entry: the offset stays, data, key and event go, `deleted` is set.
    ///
    /// # Errors
    /// `Gone` where history does not hold the offset.
    fn blank<'a>(
        &'a self,
        channel: &'a ChannelName,
        offset: u64,
    ) -> BoxFuture<'a, Result<(), BrokerError>>;

    /// What endangers the promises of this broker although it works, such as a setting of the
    /// server behind it: one sentence each, for `/readyz`.
    fn findings(&self) -> Vec<String> {
        Vec::new()
    }
}
