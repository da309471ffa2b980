//! Public keys fetched from the address of an issuer.
//!
//! Owns the cache and the rule when to fetch. Called by `token`. However many tokens with
//! unknown keys arrive, the issuer is asked at most once in [`REFRESH_MIN_MS`], by one caller
//! while the others wait for its answer.

use std::{sync::Arc, time::Duration};

use jsonwebtoken::{Algorithm, jwk::Jwk};
use parking_lot::RwLock;
use serde::Deserialize;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{
    AuthError, KeyError,
    keys::{VerifyingKey, from_jwk},
};

/// Shortest time between two fetches, also after one that failed or did not bring the key asked
/// for: the issuer is not ours to load.
const REFRESH_MIN_MS: u64 = 30_000;
/// Keys older than this are fetched again: how long a withdrawn key is still believed.
const FRESH_MS: u64 = 10 * 60_000;
/// Keys older than this are not used even when the issuer is away: a day's outage is survived.
const USABLE_MS: u64 = 24 * 3_600_000;
/// Longest wait for the issuer: within the 10 s a client has for its hello.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest document read: a hundred RSA keys with their certificates.
const BYTES_MAX: usize = 512 * 1024;
/// Most keys of one document.
const KEYS_MAX: usize = 100;

/// The keys of one issuer.
#[derive(Debug)]
pub(super) struct Jwks {
    issuer: Arc<Issuer>,
    /// Held by the one fetch there is.
    turn: Arc<Mutex<()>>,
}

#[derive(Debug)]
struct Issuer {
    url: String,
    client: reqwest::Client,
    cache: RwLock<Cache>,
}

#[derive(Debug, Clone, Default)]
struct Cache {
    keys: Arc<[Arc<VerifyingKey>]>,
    /// When the keys were fetched, Unix ms.
    fetched_ms: Option<u64>,
    /// When fetching was last begun, Unix ms.
    tried_ms: Option<u64>,
}

impl Cache {
    /// The clock may be set back: what lies in the future counts as just as far away.
    fn within(&self, since: Option<u64>, now_ms: u64, span: u64) -> bool {
        since.is_some_and(|since| now_ms.abs_diff(since) < span)
    }

    fn fresh(&self, now_ms: u64) -> bool {
        self.within(self.fetched_ms, now_ms, FRESH_MS)
    }

    fn usable(&self, now_ms: u64) -> bool {
        self.within(self.fetched_ms, now_ms, USABLE_MS)
    }

    fn may_fetch(&self, now_ms: u64) -> bool {
        !self.within(self.tried_ms, now_ms, REFRESH_MIN_MS)
    }

    /// A token without `kid` is for the one key of its algorithm, if there is just one.
    fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<Arc<VerifyingKey>> {
        let mut candidates = self.keys.iter().filter(|key| match kid {
            Some(_) => key.kid.as_deref() == kid,
            None => key.algorithm == algorithm,
        });
        let first = candidates.next()?;
        (kid.is_some() || candidates.next().is_none()).then(|| Arc::clone(first))
    }
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

/// Why the document could not be had.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("the issuer does not answer")]
    Http(#[from] reqwest::Error),
    #[error("the document has more than {BYTES_MAX} bytes")]
    TooLarge,
    #[error("the document is not a key set")]
    NotAKeySet(#[from] serde_json::Error),
}

impl Jwks {
    pub(super) fn new(url: &str) -> Result<Self, KeyError> {
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("tidewire/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(KeyError::Fetching)?;
        Ok(Self {
            issuer: Arc::new(Issuer {
                url: url.to_owned(),
                client,
                cache: RwLock::default(),
            }),
            turn: Arc::default(),
        })
    }

    /// The key a token names. Fetches where it is not known or the keys are old. Cancel-safe: a
    /// fetch that was begun goes on without its caller, or one that comes and goes could keep
    /// the keys from everybody.
    pub(super) async fn key(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
        now_ms: u64,
    ) -> Result<Arc<VerifyingKey>, AuthError> {
        let cache = self.issuer.cache.read().clone();
        let found = cache.find(kid, algorithm).filter(|_| cache.usable(now_ms));
        let turn = match found {
            Some(key) if cache.fresh(now_ms) => return Ok(key),
            // Old but usable: one caller asks, the others go on with what is there.
            Some(key) => match Arc::clone(&self.turn).try_lock_owned() {
                Ok(turn) => turn,
                Err(_taken) => return Ok(key),
            },
            None => Arc::clone(&self.turn).lock_owned().await,
        };
        if self.issuer.may_fetch(now_ms) {
            let refreshing = Arc::clone(&self.issuer).refresh(now_ms, turn);
            if let Err(error) = tokio::spawn(refreshing).await {
                tracing::error!(%error, "fetching token keys failed");
            }
        }
        let cache = self.issuer.cache.read().clone();
        if !cache.usable(now_ms) {
            return Err(AuthError::KeysUnavailable);
        }
        cache.find(kid, algorithm).ok_or(AuthError::UnknownKey)
    }
}

impl Issuer {
    /// Whether the issuer was not asked a moment ago; if so, it is to be asked now.
    fn may_fetch(&self, now_ms: u64) -> bool {
        let mut cache = self.cache.write();
        let may = cache.may_fetch(now_ms);
        if may {
            cache.tried_ms = Some(now_ms);
        }
        may
    }

    /// Replaces the keys by those the issuer has, or leaves them where it does not answer.
    async fn refresh(self: Arc<Self>, now_ms: u64, _turn: OwnedMutexGuard<()>) {
        match self.fetch().await {
            Ok(keys) => {
                let mut cache = self.cache.write();
                cache.keys = keys;
                cache.fetched_ms = Some(now_ms);
            }
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(url = self.url, error, "token keys could not be fetched");
            }
        }
    }

    async fn fetch(&self) -> Result<Arc<[Arc<VerifyingKey>]>, FetchError> {
        let mut response = self
            .client
            .get(&self.url)
            .send()
            .await?
            .error_for_status()?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > BYTES_MAX {
                return Err(FetchError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        let document: Document = serde_json::from_slice(&body)?;
        // A key of a kind this hub does not know must not hide the others.
        let keys = document.keys.into_iter().take(KEYS_MAX).filter_map(|key| {
            let jwk: Jwk = serde_json::from_value(key).ok()?;
            from_jwk(&jwk).map(Arc::new)
        });
        Ok(keys.collect())
    }
}
