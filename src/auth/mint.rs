//! Makes HS256 tokens: for the command line and for development.
//!
//! Called by `cli`; a node never makes tokens for others.

use std::collections::BTreeMap;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

use super::Right;
use crate::config::Secret;

/// What a new token says.
#[derive(Debug, Clone, Default, Serialize)]
pub struct NewToken {
    /// The user.
    pub sub: String,
    /// When it was made, Unix seconds.
    pub iat: u64,
    /// When it expires, Unix seconds.
    pub exp: u64,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// For whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aud: Option<String>,
    /// What it grants: patterns and rights.
    pub can: BTreeMap<String, Vec<Right>>,
    /// Channels to be subscribed to without asking.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subs: Vec<String>,
}

impl Serialize for Right {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

/// Signs a token with a secret.
///
/// # Errors
/// Only if the token cannot be written as JSON.
pub fn hs256(secret: &Secret, token: &NewToken) -> Result<String, jsonwebtoken::errors::Error> {
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), token, &key)
}
