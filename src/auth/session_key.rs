//! Session keys: the proof that a client was given a session.
//!
//! A key binds session, user and issuer under the cluster's secret and has no expiry: the
//! store's record decides, and a key is worthless without a valid token of that user. Called by
//! `gateway`; keys are never logged.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use tidewire_protocol::Name;

use crate::config::Secret;

/// What is signed begins with this, so that no other signature of the secret is a session key.
const CONTEXT: &[u8] = b"tidewire session key 1";
/// Longest key looked at, in bytes; a real one has 43.
const KEY_BYTES_MAX: usize = 64;

/// Signs and verifies session keys.
pub struct SessionKeys {
    current: hmac::Key,
    previous: Option<hmac::Key>,
    issuer: Option<String>,
}

impl std::fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionKeys")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

impl SessionKeys {
    /// Signs with `current`; accepts what `previous` signed, while a secret is being changed.
    /// `issuer` is the configured issuer of tokens.
    pub fn new(current: &Secret, previous: Option<&Secret>, issuer: Option<&str>) -> Self {
        let key = |secret: &Secret| hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
        Self {
            current: key(current),
            previous: previous.map(key),
            issuer: issuer.map(str::to_owned),
        }
    }

    /// The key of a session: 43 characters of base64url.
    pub fn sign(&self, session: &str, user: Option<&Name>) -> String {
        let tag = hmac::sign(&self.current, &self.message(session, user));
        URL_SAFE_NO_PAD.encode(tag)
    }

    /// Whether `key` was signed for this session and user. Takes the same time for every wrong key.
    pub fn verify(&self, session: &str, user: Option<&Name>, key: &str) -> bool {
        if key.len() > KEY_BYTES_MAX {
            return false;
        }
        let Ok(tag) = URL_SAFE_NO_PAD.decode(key) else {
            return false;
        };
        let message = self.message(session, user);
        let signed = |key: &hmac::Key| hmac::verify(key, &message, &tag).is_ok();
        signed(&self.current) || self.previous.as_ref().is_some_and(signed)
    }

    /// Each part is preceded by its length, so that two sessions never give the same bytes; an
    /// absent part differs from an empty one.
    fn message(&self, session: &str, user: Option<&Name>) -> Vec<u8> {
        let mut message = CONTEXT.to_vec();
        for part in [
            Some(session),
            user.map(Name::as_str),
            self.issuer.as_deref(),
        ] {
            let length = part.map_or(u64::MAX, |part| part.len() as u64);
            message.extend_from_slice(&length.to_be_bytes());
            message.extend_from_slice(part.unwrap_or_default().as_bytes());
        }
        message
    }
}
