//! The list of a node's members, `$sys:members:<node>`: what others need to know when it is gone.
//!
//! Owns the form of its entries. An entry is written in the same step of the broker as the member,
//! before it; one without a member does no harm. Called by `presence` alone.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidewire_protocol::{ChannelName, Name, Payload, Publication, frame::Acknowledge};

use super::Owner;
use crate::{
    broker::{Publish, Retention},
    config::PRESENCE_TTL_MS,
    control::digest_key,
};

/// What the names of the lists begin with.
pub const PREFIX: &str = "$sys:members:";
/// Most members of one node: every connection in a few channels.
const MEMBERS_MAX: u32 = 1_000_000;
/// How long removed entries are remembered, ms: nobody reads the list as it changes.
const TOMBSTONE_MS: u64 = 60_000;

/// A member and the claim of the session behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The channel.
    pub ch: String,
    /// The member's key.
    pub k: String,
    /// The session.
    pub session: String,
    /// The attempt that entered last.
    pub attempt: u64,
}

impl Entry {
    /// Reads an entry of a list.
    pub fn read(publication: &Publication) -> Option<Self> {
        match &publication.payload {
            Some(Payload::Json(text)) => serde_json::from_slice(text).ok(),
            Some(Payload::Bytes(_)) | None => None,
        }
    }
}

/// The list of a node.
pub fn channel(node: &Name) -> Option<ChannelName> {
    ChannelName::new(&format!("{PREFIX}{node}")).ok()
}

/// The node a list belongs to.
pub fn node_of(channel: &ChannelName) -> Option<Name> {
    Name::new(channel.as_str().strip_prefix(PREFIX)?).ok()
}

/// The publication that puts a member on the list of `node`, or takes it off (`owner`: none).
pub fn publish(
    node: &Name,
    channel: &ChannelName,
    member: &Name,
    owner: Option<&Owner>,
) -> Option<Publish> {
    let entry = owner.map(|owner| Entry {
        ch: channel.to_string(),
        k: member.to_string(),
        session: owner.session.0.to_string(),
        attempt: owner.fence.attempt,
    });
    let data = entry.as_ref().map(serde_json::to_vec).transpose().ok()?;
    // A name holds no line feed: no two members share a key.
    let key = digest_key(format!("{channel}\n{member}").as_bytes());
    Some(Publish {
        channel: self::channel(node)?,
        retention: Retention {
            history_size: 0,
            history_ttl_ms: 0,
            state: true,
            state_keys: MEMBERS_MAX,
            state_ttl_ms: PRESENCE_TTL_MS,
            tombstone_ttl_ms: TOMBSTONE_MS,
            dedup_ttl_ms: TOMBSTONE_MS,
            acknowledge: Acknowledge::Log,
        },
        delete: data.is_none(),
        payload: data.map(|data| Payload::Json(Bytes::from(data))),
        key: Some(key),
        event: None,
        id: None,
        publisher: Arc::from("n:"),
        by: None,
        ttl_ms: None,
        guard: None,
        trace: None,
    })
}
