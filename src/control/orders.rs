//! What nodes tell each other through the hub's own channels, and where.
//!
//! Owns the form of these publications. Called by `control`; nodes of neighbouring versions read
//! each other's, so unknown orders are passed over and unknown fields ignored.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidewire_protocol::{ChannelName, Name, Payload, Publication, frame::Acknowledge};

use super::questions::Question;
use crate::broker::{Publish, Retention};

/// Orders for every node, and revocations as keyed state.
pub const CONTROL: &str = "$sys:control";
/// What the names of the channels of single nodes begin with.
const NODE_PREFIX: &str = "$sys:node:";
/// Orders kept: a node that was frozen for an hour still finds its own.
const HISTORY_SIZE: u32 = 10_000;
/// How long, ms.
const HOUR_MS: u64 = 3_600_000;
/// Most keys of a channel of the hub; each is held in memory by every node.
pub const KEYS_MAX: u32 = 100_000;

/// An order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum Order {
    /// Every session of this user is to end.
    Disconnect {
        /// The user.
        user: String,
        /// The node that gave the order, and has done its own part.
        by: String,
    },
    /// These sessions were claimed elsewhere, each with this attempt.
    Taken {
        /// Session and attempt.
        sessions: Vec<(String, u64)>,
    },
    /// This session is to end.
    End {
        /// The session.
        session: String,
    },
    /// This node is to leave, as on SIGTERM.
    Leave,
    /// An operator's question, to be answered to the node that asks.
    Ask {
        /// Counts the questions of that node.
        n: u64,
        /// The node that asks.
        by: String,
        /// What it asks.
        question: Question,
    },
    /// Comes back to the node that sent it.
    Probe {
        /// Counts the probes of that node.
        n: u64,
    },
}

impl Order {
    /// Reads an order; none: it is a revocation, or one of another version.
    pub fn read(publication: &Publication) -> Option<Self> {
        if publication.key.is_some() {
            return None;
        }
        match &publication.payload {
            Some(Payload::Json(text)) => serde_json::from_slice(text).ok(),
            Some(Payload::Bytes(_)) | None => None,
        }
    }

    /// The publication that gives it to one node, or to all.
    pub fn publish(&self, to: Option<&Name>) -> Option<Publish> {
        let channel = match to {
            Some(node) => node_channel(node)?,
            None => ChannelName::new(CONTROL).ok()?,
        };
        of_node(channel, retention(), self)
    }
}

/// What a node says in a channel of the hub.
pub fn of_node(
    channel: ChannelName,
    retention: Retention,
    said: &impl Serialize,
) -> Option<Publish> {
    Some(Publish {
        channel,
        retention,
        payload: Some(Payload::Json(Bytes::from(serde_json::to_vec(said).ok()?))),
        key: None,
        event: None,
        id: None,
        publisher: Arc::from("n:"),
        by: None,
        delete: false,
        ttl_ms: None,
        guard: None,
        trace: None,
    })
}

/// The channel of one node's orders.
pub fn node_channel(node: &Name) -> Option<ChannelName> {
    ChannelName::new(&format!("{NODE_PREFIX}{node}")).ok()
}

/// What every channel of orders keeps.
pub const fn retention() -> Retention {
    Retention {
        history_size: HISTORY_SIZE,
        history_ttl_ms: HOUR_MS,
        state: true,
        state_keys: KEYS_MAX,
        state_ttl_ms: super::revocations::TTL_MS_MAX,
        tombstone_ttl_ms: HOUR_MS,
        dedup_ttl_ms: HOUR_MS,
        acknowledge: Acknowledge::Log,
    }
}
