//! Seam 2: session checkpoints.
//!
//! A store keeps one record per session and decides who owns it by fence. Called by `gateway`
//! and `api`; it never looks inside a checkpoint beyond the fence.

#[cfg(test)]
pub(crate) mod contract;
pub mod embedded;
pub mod redis;

use std::fmt::Debug;

use bytes::Bytes;
use tidewire_protocol::Name;
use tokio::sync::watch;

use crate::broker::BoxFuture;

/// The name of a session: opaque text minted by a node, ≤ 48 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub std::sync::Arc<str>);

impl std::borrow::Borrow<str> for SessionId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Who owns a session: a higher attempt wins, an equal one only with the same nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The client's number for its claim.
    pub attempt: u64,
    /// Drawn by the node for each claim.
    pub nonce: u64,
}

/// A session written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The owner.
    pub fence: Fence,
    /// The session's state as `session` encodes it, ≤ 256 KiB; empty for one just claimed.
    pub body: Bytes,
}

/// One write of a checkpoint, which is itself a claim.
#[derive(Clone, Debug)]
pub struct Write {
    /// The session.
    pub session: SessionId,
    /// Owner and body.
    pub checkpoint: Checkpoint,
    /// How long the record lives from this write on, ms.
    pub ttl_ms: u64,
    /// Whether the session has a connection on this node: only then is the node named to whoever
    /// claims or reads it next.
    pub connected: bool,
}

/// A session that was taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// Its state, as it was.
    pub body: Bytes,
    /// The node that held it and is to be told; none: nobody else can have it.
    pub node: Option<Name>,
}

/// A session as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its owner and body.
    pub checkpoint: Checkpoint,
    /// Another node that has its connection, as far as that node said; none: this one, or nobody.
    pub node: Option<Name>,
}

/// Why the store refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A higher attempt, or an equal one with another nonce, holds the session.
    #[error("the session is held by attempt {attempt}")]
    Fenced {
        /// The attempt that holds it.
        attempt: u64,
    },
    /// The store cannot be reached or fails.
    #[error("the store is unavailable")]
    Unavailable,
}

/// The seam.
pub trait CheckpointStore: Debug + Send + Sync {
    /// Takes a session over: stores the fence, keeps the body, restarts its lifetime, and answers
    /// what was there. None: the session is unknown or expired, and nothing was stored.
    ///
    /// # Errors
    /// `Fenced` for a lower attempt or an equal one with another nonce.
    fn claim<'a>(
        &'a self,
        session: &'a SessionId,
        fence: Fence,
        ttl_ms: u64,
    ) -> BoxFuture<'a, Result<Option<Claimed>, StoreError>>;

    /// Writes checkpoints, each on its own; creates records that do not exist. One answer per write.
    fn write(&self, batch: Vec<Write>) -> BoxFuture<'_, Vec<Result<(), StoreError>>>;

    /// Restarts the lifetime of sessions; unknown ones are passed over.
    fn extend<'a>(
        &'a self,
        sessions: &'a [SessionId],
        ttl_ms: u64,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Forgets a session, if this fence still holds it.
    fn remove<'a>(
        &'a self,
        session: &'a SessionId,
        fence: Fence,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Reads a session without claiming it.
    fn read<'a>(
        &'a self,
        session: &'a SessionId,
    ) -> BoxFuture<'a, Result<Option<Held>, StoreError>>;

    /// Counts the moments at which the store may have forgotten claims (a failover to a copy that
    /// lagged): after each, every node writes its sessions again, since a write is a claim.
    fn losses(&self) -> watch::Receiver<u64>;
}
