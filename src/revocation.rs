//! Tokens withdrawn before their end.
//!
//! Owns who is shut out: the keyed state of `$sys:control`, so that a node that starts knows it,
//! and the same in memory for the look at every hello and refresh. Never closes a connection.

use std::sync::Arc;

use bytes::Bytes;
use dashmap::DashMap;
use serde::{Deserialize, Serialize};
use tidewire_protocol::{ChannelName, Name, Payload};
use tokio::sync::OnceCell;

use crate::{
    auth::Identity,
    broker::{Broker, BrokerError, PageLimit, Publish, Retention, StateQuery},
    clock,
};

/// Where revocations are written.
const CHANNEL: &str = "$sys:control";
/// Most revocations in force; each is held in memory by every node.
const REVOCATIONS_MAX: u32 = 100_000;
/// Longest life of a revocation, ms: no token should live longer.
pub const TTL_MS_MAX: u64 = 30 * 24 * 3_600_000;
/// How long tombstones and ids of the channel are kept, ms.
const HOUR_MS: u64 = 3_600_000;
/// One page of those read at the start.
const PAGE: PageLimit = PageLimit {
    items: 1024,
    bytes: 1 << 20,
};

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
    loaded: OnceCell<()>,
    in_force: DashMap<Target, Revocation>,
}

impl Revocations {
    pub fn new(broker: Arc<dyn Broker>) -> Self {
        Self {
            broker,
            loaded: OnceCell::new(),
            in_force: DashMap::new(),
        }
    }

    /// Shuts tokens out for `ttl_ms`.
    ///
    /// # Errors
    /// `Unavailable`, or `StateFull` with as many in force as may be; nothing is shut out then.
    pub async fn revoke(&self, target: Target, ttl_ms: u64) -> Result<(), BrokerError> {
        let at = clock::now_ms();
        let revocation = Revocation {
            target,
            at,
            until: at + ttl_ms.min(TTL_MS_MAX),
        };
        let publish = written(&revocation).ok_or(BrokerError::Unavailable)?;
        for result in self.broker.publish(vec![publish]).await {
            result?;
        }
        self.in_force.retain(|_, held| held.until > at);
        self.in_force.insert(revocation.target.clone(), revocation);
        Ok(())
    }

    /// Whether what a client presented was withdrawn.
    ///
    /// # Errors
    /// `Unavailable` while what was revoked before this node started cannot be read.
    pub async fn is_revoked(&self, identity: &Identity) -> Result<bool, BrokerError> {
        self.loaded.get_or_try_init(|| self.load()).await?;
        Ok(self.shuts_out(identity))
    }

    /// The same, from memory alone: for sessions that were let in.
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

    async fn load(&self) -> Result<(), BrokerError> {
        let Ok(channel) = ChannelName::new(CHANNEL) else {
            return Ok(());
        };
        let mut from = 1;
        loop {
            let query = StateQuery {
                from,
                catch_up: false,
                limit: PAGE,
            };
            let page = self.broker.state(&channel, query).await?;
            for item in &page.items {
                from = item.publication.offset + 1;
                if let Some(Payload::Json(text)) = &item.publication.payload
                    && let Ok(revocation) = serde_json::from_slice::<Revocation>(text)
                {
                    self.in_force.insert(revocation.target.clone(), revocation);
                }
            }
            if !page.more {
                return Ok(());
            }
        }
    }
}

/// The publication that holds a revocation. Keys are digests, since a user's name fills one.
fn written(revocation: &Revocation) -> Option<Publish> {
    let target = serde_json::to_vec(&revocation.target).ok()?;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &target);
    let key: String = digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let ttl_ms = revocation.until - revocation.at;
    Some(Publish {
        channel: ChannelName::new(CHANNEL).ok()?,
        retention: Retention {
            history_size: 0,
            history_ttl_ms: 0,
            state: true,
            state_keys: REVOCATIONS_MAX,
            state_ttl_ms: TTL_MS_MAX,
            tombstone_ttl_ms: HOUR_MS,
            dedup_ttl_ms: HOUR_MS,
        },
        payload: Some(Payload::Json(Bytes::from(
            serde_json::to_vec(revocation).ok()?,
        ))),
        key: Some(Name::new(&key).ok()?),
        event: None,
        id: None,
        publisher: Arc::from("n:"),
        by: None,
        delete: false,
        ttl_ms: Some(ttl_ms),
        guard: None,
    })
}
