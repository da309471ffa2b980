//! Verifies tokens: finds the key, checks the signature with the key's own algorithm, then the
//! claims.
//!
//! Called by `gateway` for every `hello` and `auth`; never logs a token.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde::{Deserialize, de::IgnoredAny};
use tidewire_protocol::limits::TOKEN_BYTES_MAX;

use super::{
    AuthError, Config, Identity, KeyError,
    claims::{Claims, Demands, Text},
    jwks::Jwks,
    keys::{self, VerifyingKey},
};

/// Checks what clients present as their token.
#[derive(Debug)]
pub struct Authenticator {
    fixed: Vec<Arc<VerifyingKey>>,
    jwks: Option<Jwks>,
    demands: Demands,
    anonymous: bool,
}

impl Authenticator {
    /// Reads the configured keys. Fetches nothing yet.
    ///
    /// # Errors
    /// Names the key that cannot be used.
    pub fn new(config: &Config) -> Result<Self, KeyError> {
        let mut fixed = Vec::with_capacity(config.keys.len() + 1);
        if let Some(secret) = &config.hmac_secret {
            fixed.push(Arc::new(VerifyingKey::of_secret(secret)));
        }
        for (index, key) in config.keys.iter().enumerate() {
            fixed.push(Arc::new(keys::from_config(index, key)?));
        }
        Ok(Self {
            fixed,
            jwks: config.jwks_url.as_deref().map(Jwks::new).transpose()?,
            demands: Demands {
                issuer: config.issuer.clone(),
                audience: config.audience.clone(),
            },
            anonymous: config.anonymous,
        })
    }

    /// Who a client is that came with this token, or without one.
    ///
    /// # Errors
    /// See [`Authenticator::verify`]; `Missing` where a token is required.
    pub async fn identify(&self, token: Option<&str>, now_ms: u64) -> Result<Identity, AuthError> {
        match token {
            Some(token) => self.verify(token, now_ms).await,
            None if self.anonymous => Ok(Identity::default()),
            None => Err(AuthError::Missing),
        }
    }

    /// Checks a token at a time (Unix ms). Waits only where the issuer's keys must be fetched,
    /// at most 5 s a fetch; cancel-safe.
    ///
    /// # Errors
    /// `KeysUnavailable` may pass by itself; every other one needs another token.
    pub async fn verify(&self, token: &str, now_ms: u64) -> Result<Identity, AuthError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(AuthError::TooLarge);
        }
        let parts = Parts::of(token)?;
        let head = decoded(parts.head)?;
        let head: Head<'_> = parsed(&head)?;
        if head.crit.is_some() {
            // Extensions a verifier must understand; this one understands none.
            return Err(AuthError::Malformed);
        }
        let kid = head.kid.as_deref();
        let key = self.key(kid, head.alg, now_ms).await?;
        if key.algorithm != head.alg {
            return Err(AuthError::Algorithm);
        }
        key.check(parts.signed, parts.signature)?;
        let payload = decoded(parts.payload)?;
        let claims: Claims<'_> = parsed(&payload)?;
        claims.check(&self.demands, now_ms)
    }

    async fn key(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
        now_ms: u64,
    ) -> Result<Arc<VerifyingKey>, AuthError> {
        let named = |key: &&Arc<VerifyingKey>| match kid {
            Some(_) => key.kid.as_deref() == kid,
            None => key.kid.is_none() && key.algorithm == algorithm,
        };
        if let Some(key) = self.fixed.iter().find(named) {
            return Ok(Arc::clone(key));
        }
        match &self.jwks {
            Some(jwks) if asymmetric(algorithm) => jwks.key(kid, algorithm, now_ms).await,
            Some(_) => Err(AuthError::Algorithm),
            None if kid.is_some() => Err(AuthError::UnknownKey),
            None => Err(AuthError::Algorithm),
        }
    }
}

/// The texts between the dots of a token, each still in base64url.
#[derive(Debug, Clone, Copy)]
struct Parts<'a> {
    head: &'a str,
    payload: &'a str,
    signature: &'a str,
    /// What the signature is of: head and payload with their dot.
    signed: &'a str,
}

impl<'a> Parts<'a> {
    fn of(token: &'a str) -> Result<Self, AuthError> {
        let (signed, signature) = token.rsplit_once('.').ok_or(AuthError::Malformed)?;
        let (head, payload) = signed.rsplit_once('.').ok_or(AuthError::Malformed)?;
        Ok(Self {
            head,
            payload,
            signature,
            signed,
        })
    }
}

/// What of a token's head matters: which key, which algorithm, what must be understood.
#[derive(Debug, Deserialize)]
struct Head<'a> {
    alg: Algorithm,
    #[serde(borrow)]
    kid: Option<Text<'a>>,
    crit: Option<IgnoredAny>,
}

fn decoded(part: &str) -> Result<Vec<u8>, AuthError> {
    let bytes = URL_SAFE_NO_PAD.decode(part);
    bytes.map_err(|_not_base64| AuthError::Malformed)
}

fn parsed<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, AuthError> {
    serde_json::from_slice(json).map_err(|_not_that| AuthError::Malformed)
}

/// Whether the algorithm is one of those keys are fetched for.
fn asymmetric(algorithm: Algorithm) -> bool {
    matches!(
        algorithm,
        Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA
    )
}
