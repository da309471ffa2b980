//! API keys of backends and what each may be used for.
//!
//! Called by `api` with the bearer of a request. Keys are held as hashes alone and compared
//! without telling by time how near a guess was.

use std::sync::Arc;

use aws_lc_rs::digest;
use subtle::ConstantTimeEq;

use super::config::{ApiKeyConfig, Scope};

const SHA256_BYTES: usize = 32;
/// Hexadecimal digits of a key's hash that name it in logs and in the dedup window.
const ID_DIGITS: usize = 12;
/// Longest bearer looked at, in bytes: bounds the hashing of garbage.
const BEARER_BYTES_MAX: usize = 1024;

/// One API key.
#[derive(Clone)]
pub struct ApiKey {
    hash: [u8; SHA256_BYTES],
    scopes: Vec<Scope>,
    id: Arc<str>,
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiKey")
            .field("id", &self.id)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

impl ApiKey {
    /// What an operator's token may be used for: all but publishing. `id` is that of the key it
    /// was given for.
    pub fn of_operator(id: &str) -> Self {
        Self {
            hash: [0; SHA256_BYTES],
            scopes: vec![Scope::Read, Scope::Manage],
            id: Arc::from(id),
        }
    }

    /// Whether it may be used for this.
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    /// A name for it that is not a secret: the beginning of its hash in hexadecimal.
    pub const fn id(&self) -> &Arc<str> {
        &self.id
    }
}

/// Every configured key.
#[derive(Debug, Clone, Default)]
pub struct ApiKeys {
    keys: Vec<ApiKey>,
}

impl ApiKeys {
    /// Takes the configured keys; one that is not whole is left out, the configuration's check
    /// has refused it.
    pub fn new(config: &[ApiKeyConfig]) -> Self {
        let keys = config.iter().filter_map(|config| {
            let hash = match (&config.key, &config.key_sha256) {
                (Some(key), _) => sha256(key.expose().as_bytes()),
                (None, Some(text)) => parse_sha256(text)?,
                (None, None) => return None,
            };
            let digits = hash
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>();
            Some(ApiKey {
                hash,
                scopes: config.scopes.clone(),
                id: digits.chars().take(ID_DIGITS).collect::<String>().into(),
            })
        });
        Self {
            keys: keys.collect(),
        }
    }

    /// The key a request presents, if it is one of ours. Takes the same time whichever it is.
    pub fn check(&self, bearer: &str) -> Option<&ApiKey> {
        if bearer.len() > BEARER_BYTES_MAX {
            return None;
        }
        let hash = sha256(bearer.as_bytes());
        let mut found = None;
        for key in &self.keys {
            if bool::from(key.hash.ct_eq(&hash)) {
                found = Some(key);
            }
        }
        found
    }
}

fn sha256(bytes: &[u8]) -> [u8; SHA256_BYTES] {
    let mut hash = [0; SHA256_BYTES];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

/// Reads 64 hexadecimal digits.
pub(super) fn parse_sha256(text: &str) -> Option<[u8; SHA256_BYTES]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * SHA256_BYTES {
        return None;
    }
    let mut hash = [0; SHA256_BYTES];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| {
            char::from(digit)
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        };
        let (high, low) = (digit(*pair.first()?)?, digit(*pair.last()?)?);
        *byte = high << 4 | low;
    }
    Some(hash)
}
