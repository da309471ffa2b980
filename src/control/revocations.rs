//! Tokens withdrawn before their end.
//!
//! Owns who is shut out: the keyed state of `$sys:control`, so that a node that starts knows it,
//! and the same in memory for the look at every hello and refresh. Never closes a connection.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use dashmap::DashMap;
use serde::{Deserialize, Serialize};
use tidewire_protocol::{ChannelName, Payload, Publication, command::Guard};

use super::{
    STATE_PAGE, each_entry,
    orders::{CONTROL, retention},
};
use crate::{
    auth::Identity,
    broker::{Broker, BrokerError, Publish},
    clock,
};

/// Longest life of a revocation, ms: no token should live longer.
pub const TTL_MS_MAX: u64 = 30 * 24 * 3_600_000;

/// Whose tokens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// All of a user that were issued up to the revocation.
    User(Box<str>),
    /// The one with this id (`jti`).
    Token(Box<str>),
}

/// A revocation as the channel holds it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Revocation {
    #[serde(flatten)]
    target: Target,
    /// When it was made, Unix ms.
    at: u64,
    /// When it ends, Unix ms: the tokens have expired by then.
    until: u64,
}

/// The revocations in force.
#[derive(Debug)]
pub struct Revocations {
    broker: Arc<dyn Broker>,
    in_force: DashMap<Target, Revocation>,
}

impl Revocations {
    pub(super) fn new(broker: Arc<dyn Broker>) -> Self {
        Self {
            broker,
            in_force: DashMap::new(),
        }
    }

    /// Shuts tokens out for `ttl_ms`.
    ///
    /// # Errors
    /// `Unavailable`, or `StateFull` with as many in force as may be; nothing is shut out then.
    pub async fn revoke(&self, target: Target, ttl_ms: u64) -> Result<(), BrokerError> {
        let at = clock::now_ms();
        let held_until = self.in_force.get(&target).map_or(0, |held| held.until);
        let until = (at + ttl_ms.min(TTL_MS_MAX)).max(held_until);
        let revocation = Revocation { target, at, until };
        let publish = written(&revocation, at, None).ok_or(BrokerError::Unavailable)?;
        for result in self.broker.publish(vec![publish]).await {
            result?;
        }
        self.in_force.retain(|_, held| held.until > at);
        self.hold(revocation);
        Ok(())
    }

    /// Whether what a client presented was withdrawn.
    pub fn shuts_out(&self, identity: &Identity) -> bool {
        let now_ms = clock::now_ms();
        let in_force = |target: Target| {
            let held = self.in_force.get(&target)?;
            (held.until > now_ms).then_some(held.at)
        };
        let user = identity.user.as_ref();
        let by_user = user.and_then(|user| in_force(Target::User(user.as_str().into())));
        let token = identity.token_id.as_ref();
        let by_token = token.and_then(|token| in_force(Target::Token(token.as_str().into())));
        // A token that does not say when it was issued may be an old one.
        by_token.is_some() || by_user.is_some_and(|at| identity.issued_ms.unwrap_or(0) <= at)
    }

    /// Takes one publication of the channel; true: it is a revocation.
    pub(super) fn hear(&self, publication: &Publication) -> bool {
        let Some(revocation) = read(publication) else {
            return false;
        };
        self.hold(revocation);
        true
    }

    /// Keeps the strictest of what is said about a target.
    fn hold(&self, revocation: Revocation) {
        let mut held = self
            .in_force
            .entry(revocation.target.clone())
            .or_insert_with(|| revocation.clone());
        held.at = held.at.max(revocation.at);
        held.until = held.until.max(revocation.until);
    }

    /// Reads the channel's state. What this node knows and the log lost is written again: what
    /// was shut out stays out.
    ///
    /// # Errors
    /// `Unavailable`: it is to be tried again.
    pub(super) async fn load(&self) -> Result<(), BrokerError> {
        let Ok(channel) = ChannelName::new(CONTROL) else {
            return Ok(());
        };
        let now_ms = clock::now_ms();
        self.in_force.retain(|_, held| held.until > now_ms);
        let mut found = HashSet::new();
        each_entry(&*self.broker, &channel, |entry| {
            if let Some(revocation) = read(entry) {
                found.insert(revocation.target.clone());
                self.hold(revocation);
            }
        })
        .await?;
        let missing = self
            .in_force
            .iter()
            .filter(|held| !found.contains(held.key()));
        let again: Vec<_> = missing
            .filter_map(|held| written(&held, now_ms, Some(Guard::Absent)))
            .collect();
        for chunk in again.chunks(STATE_PAGE.items) {
            for result in self.broker.publish(chunk.to_vec()).await {
                match result {
                    Ok(_) | Err(BrokerError::PreconditionFailed(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

fn read(publication: &Publication) -> Option<Revocation> {
    publication.key.as_ref()?;
    match &publication.payload {
        Some(Payload::Json(text)) => serde_json::from_slice(text).ok(),
        Some(Payload::Bytes(_)) | None => None,
    }
}

/// The publication that holds a revocation. Keys are digests, since a user's name fills one.
fn written(revocation: &Revocation, now_ms: u64, guard: Option<Guard>) -> Option<Publish> {
    let target = serde_json::to_vec(&revocation.target).ok()?;
    Some(Publish {
        channel: ChannelName::new(CONTROL).ok()?,
        retention: retention(),
        payload: Some(Payload::Json(Bytes::from(
            serde_json::to_vec(revocation).ok()?,
        ))),
        key: Some(super::digest_key(&target)),
        event: None,
        id: None,
        publisher: Arc::from("n:"),
        by: None,
        delete: false,
        ttl_ms: Some(revocation.until.saturating_sub(now_ms).max(1)),
        guard,
        trace: None,
    })
}
