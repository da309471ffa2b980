//! Who a client is and what it may do: tokens, API keys, session keys, origins.
//!
//! Called by `gateway` and `api` with what a client presented; never sees a socket and never
//! writes a token or a key anywhere.

pub mod api_keys;
mod claims;
pub mod config;
mod jwks;
mod keys;
pub mod mint;
pub mod operator;
pub mod origin;
pub mod rights;
pub mod session_key;
#[cfg(test)]
mod tests;
pub mod token;

pub use api_keys::{ApiKey, ApiKeys};
pub use config::{ApiKeyConfig, Config, Scope};
pub use keys::KeyError;
pub use operator::OperatorTokens;
pub use origin::Origins;
pub use rights::{Right, Rights};
pub use session_key::SessionKeys;
pub use token::Authenticator;

use tidewire_protocol::{ChannelName, ErrorCode, Name};

/// What a token says, once it was verified.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// The user; none for an anonymous client.
    pub user: Option<Name>,
    /// When the token was issued, Unix ms, if it says so.
    pub issued_ms: Option<u64>,
    /// When the token expires, Unix ms; none for an anonymous client.
    pub expires_ms: Option<u64>,
    /// What it grants beyond what namespaces allow.
    pub rights: Rights,
    /// Channels the session is subscribed to without asking; at most 256.
    pub subs: Vec<ChannelName>,
    /// The token's own id (`jti`).
    pub token_id: Option<Name>,
}

/// Why a token was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No token, and the node does not let anonymous clients in.
    #[error("a token is required")]
    Missing,
    /// Over 8 KiB.
    #[error("the token is too large")]
    TooLarge,
    /// Not a token at all.
    #[error("the token is malformed")]
    Malformed,
    /// Signed in a way this node, or the key it names, does not take.
    #[error("the token's algorithm is not the key's")]
    Algorithm,
    /// It names a key this node does not know.
    #[error("the token's key is unknown")]
    UnknownKey,
    /// The signature is not the key's.
    #[error("the token's signature is wrong")]
    Signature,
    /// It was withdrawn.
    #[error("the token was revoked")]
    Revoked,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// Made by someone else.
    #[error("the token's issuer is not accepted")]
    Issuer,
    /// Made for someone else.
    #[error("the token's audience is not accepted")]
    Audience,
    /// A claim is missing or not what it must be.
    #[error("the token's claim `{0}` is missing or wrong")]
    Claim(&'static str),
    /// This node cannot read which tokens were withdrawn.
    #[error("the node cannot tell at present which tokens were withdrawn")]
    Unverified,
    /// The keys cannot be fetched at present.
    #[error("the keys that check tokens cannot be fetched")]
    KeysUnavailable,
}

impl AuthError {
    /// The code a client is told.
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::KeysUnavailable | Self::Unverified => ErrorCode::Unavailable,
            Self::Missing
            | Self::TooLarge
            | Self::Malformed
            | Self::Algorithm
            | Self::UnknownKey
            | Self::Signature
            | Self::Revoked
            | Self::Expired
            | Self::NotYetValid
            | Self::Issuer
            | Self::Audience
            | Self::Claim(_) => ErrorCode::Unauthenticated,
        }
    }
}
