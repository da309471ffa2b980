//! Verifies tokens: finds the key, checks the signature with the key's own algorithm, then the
//! claims.
//!
//! Called by `gateway` for every `hello` and `auth`; never logs a token.

use std::sync::Arc;

use jsonwebtoken::{Algorithm, DecodingKey, Validation, errors::ErrorKind};
use tidewire_protocol::limits::TOKEN_BYTES_MAX;

use super::{
    AuthError, Config, Identity, KeyError,
    claims::{Claims, Demands},
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
            fixed.push(Arc::new(VerifyingKey {
                kid: None,
                algorithm: Algorithm::HS256,
                key: DecodingKey::from_secret(secret.expose().as_bytes()),
            }));
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
        let header = jsonwebtoken::decode_header(token).map_err(|_any| AuthError::Malformed)?;
        if header.crit.is_some() {
            // Extensions a verifier must understand; this one understands none.
            return Err(AuthError::Malformed);
        }
        let key = self.key(header.kid.as_deref(), header.alg, now_ms).await?;
        if key.algorithm != header.alg {
            return Err(AuthError::Algorithm);
        }
        let claims = signed_claims(token, &key)?;
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

/// Whether the algorithm is one of those keys are fetched for.
fn asymmetric(algorithm: Algorithm) -> bool {
    matches!(
        algorithm,
        Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA
    )
}

fn signed_claims(token: &str, key: &VerifyingKey) -> Result<Claims, AuthError> {
    let mut validation = Validation::new(key.algorithm);
    // Claims are checked by `Claims::check` against the time given, all of them in one place.
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    let decoded = jsonwebtoken::decode::<Claims>(token, &key.key, &validation);
    match decoded {
        Ok(decoded) => Ok(decoded.claims),
        Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => {
            Err(AuthError::Signature)
        }
        Err(error) if matches!(error.kind(), ErrorKind::InvalidAlgorithm) => {
            Err(AuthError::Algorithm)
        }
        Err(_) => Err(AuthError::Malformed),
    }
}
