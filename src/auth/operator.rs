//! Operator tokens: what the page at `/admin` shows instead of an API key, and what they open.
//!
//! A token is signed with the cluster's secret, so every node takes it, names the API key it was
//! given for, and lives minutes. Called by `gateway`, `api` and `admin`; tokens are never logged
//! and grant nothing on channels of clients.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use tidewire_protocol::{ChannelName, Name};

use super::{AuthError, Identity, Rights};
use crate::config::Secret;

/// Where nodes hold their leases and say how they are; keyed state.
pub const NODES: &str = "$sys:nodes";
/// What nodes said of themselves in the last minutes.
pub const PAST: &str = "$sys:history";

/// How long a token lives, ms: a page left open asks for another one without anybody's help, and
/// a key that was withdrawn opens nothing after that.
pub const TTL_MS: u64 = 5 * 60_000;
/// What a token begins with; no JWT does.
const PREFIX: &str = "operator.";
/// What is signed begins with this, so that no other signature of the secret is a token.
const CONTEXT: &[u8] = b"tidewire operator token 1";
/// Longest token looked at, in bytes; a real one has under 90.
const TOKEN_BYTES_MAX: usize = 160;

/// Whether a channel of the hub is one that operators read. Nobody publishes to them but nodes.
pub fn may_read(channel: &ChannelName) -> bool {
    matches!(channel.as_str(), NODES | PAST)
}

/// Signs and verifies operator tokens.
pub struct OperatorTokens {
    current: hmac::Key,
    previous: Option<hmac::Key>,
}

impl std::fmt::Debug for OperatorTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OperatorTokens").finish_non_exhaustive()
    }
}

/// Who a token was given to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// The id of the API key.
    pub key_id: String,
    /// When the token ends, Unix ms.
    pub expires_ms: u64,
}

impl Operator {
    /// The name its connection goes by.
    pub fn user(&self) -> Option<Name> {
        Name::new(&format!("operator:{}", self.key_id)).ok()
    }
}

impl OperatorTokens {
    /// Signs with `current`; accepts what `previous` signed, while a secret is being changed.
    pub fn new(current: &Secret, previous: Option<&Secret>) -> Self {
        let key = |secret: &Secret| hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
        Self {
            current: key(current),
            previous: previous.map(key),
        }
    }

    /// A token for whoever showed the API key with this id.
    pub fn mint(&self, key_id: &str, now_ms: u64) -> (String, Operator) {
        let operator = Operator {
            key_id: key_id.to_owned(),
            expires_ms: now_ms + TTL_MS,
        };
        let claims = format!("{PREFIX}{}.{key_id}", operator.expires_ms);
        let tag = URL_SAFE_NO_PAD.encode(hmac::sign(&self.current, &message(&claims)));
        (format!("{claims}.{tag}"), operator)
    }

    /// Whether a text is meant as an operator token, whatever it is worth.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// Whose token this is; none where it is none of ours or has expired.
    pub fn verify(&self, token: &str, now_ms: u64) -> Option<Operator> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let (claims, tag) = token.rsplit_once('.')?;
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
        let message = message(claims);
        let signed = |key: &hmac::Key| hmac::verify(key, &message, &tag).is_ok();
        if !signed(&self.current) && !self.previous.as_ref().is_some_and(signed) {
            return None;
        }
        let (expires, key_id) = claims.strip_prefix(PREFIX)?.split_once('.')?;
        let expires_ms = expires.parse().ok().filter(|end| now_ms < *end)?;
        Some(Operator {
            key_id: key_id.to_owned(),
            expires_ms,
        })
    }

    /// The identity of a connection that came with this token.
    ///
    /// # Errors
    /// `Signature`: it is none of ours, or its time is over.
    pub fn identify(&self, token: &str, now_ms: u64) -> Result<Identity, AuthError> {
        let operator = self.verify(token, now_ms).ok_or(AuthError::Signature)?;
        Ok(Identity {
            user: operator.user(),
            issued_ms: Some(operator.expires_ms.saturating_sub(TTL_MS)),
            expires_ms: Some(operator.expires_ms),
            rights: Rights::of_operator(),
            ..Identity::default()
        })
    }
}

fn message(claims: &str) -> Vec<u8> {
    [CONTEXT, claims.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(secret: &str) -> OperatorTokens {
        OperatorTokens::new(&Secret::new(secret.repeat(32)), None)
    }

    #[test]
    fn a_token_is_taken_by_every_node_of_the_secret_until_its_end() {
        let (token, operator) = tokens("a").mint("0123456789ab", 1_000);
        assert_eq!(operator.expires_ms, 1_000 + TTL_MS);
        let before = operator.expires_ms - 1;
        assert_eq!(tokens("a").verify(&token, before), Some(operator.clone()));
        assert_eq!(tokens("a").verify(&token, operator.expires_ms), None);
        assert_eq!(tokens("b").verify(&token, before), None);
        let changed = OperatorTokens::new(
            &Secret::new("b".repeat(32)),
            Some(&Secret::new("a".repeat(32))),
        );
        assert_eq!(changed.verify(&token, before), Some(operator));
    }

    #[test]
    fn nothing_in_a_token_can_be_changed() {
        let tokens = tokens("a");
        let (token, operator) = tokens.mint("0123456789ab", 1_000);
        let later = format!("{}", operator.expires_ms + 1);
        for forged in [
            token.replace(&operator.expires_ms.to_string(), &later),
            token.replace("0123456789ab", "0123456789ac"),
            token.replace(PREFIX, "Operator."),
            token[..token.len() - 1].to_owned(),
            format!("{token}."),
            format!("{token}{}", "A".repeat(TOKEN_BYTES_MAX)),
            "operator..".to_owned(),
            String::new(),
        ] {
            assert_eq!(tokens.verify(&forged, 1_000), None, "{forged}");
            assert!(tokens.identify(&forged, 1_000).is_err(), "{forged}");
        }
    }
}
