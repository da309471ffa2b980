//! The claims of a token whose signature was checked: times, issuer, audience, rights.
//!
//! Called by `token`; time is an argument.

use std::collections::BTreeMap;

use serde::Deserialize;
use tidewire_protocol::{
    ChannelName, Name,
    limits::{INTEGER_MAX, SUBSCRIPTIONS_MAX},
};

use super::{AuthError, Identity, Right, Rights};

/// How far the clock of whoever made the token may be off.
const LEEWAY_MS: u64 = 30_000;

/// The claims this hub knows; others are not its business.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    sub: Option<String>,
    exp: Option<f64>,
    nbf: Option<f64>,
    iat: Option<f64>,
    iss: Option<String>,
    aud: Option<Audience>,
    jti: Option<String>,
    #[serde(default)]
    can: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    subs: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn contains(&self, wanted: &str) -> bool {
        match self {
            Self::One(one) => one == wanted,
            Self::Many(many) => many.iter().any(|one| one == wanted),
        }
    }
}

/// What the node demands of a token.
#[derive(Debug, Clone, Default)]
pub(super) struct Demands {
    pub(super) issuer: Option<String>,
    pub(super) audience: Option<String>,
}

/// A time claim in seconds as Unix ms; none where it is no time.
fn millis(seconds: f64) -> Option<u64> {
    let ms = (seconds * 1_000.0).floor();
    let bound = 9_007_199_254_740_991.0;
    if !(0.0..=bound).contains(&ms) {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole and between 0 and 2^53 - 1, which both types hold exactly"
    )]
    Some((ms as u64).min(INTEGER_MAX))
}

fn time(claim: Option<f64>, name: &'static str) -> Result<Option<u64>, AuthError> {
    claim
        .map(|seconds| millis(seconds).ok_or(AuthError::Claim(name)))
        .transpose()
}

impl Claims {
    /// Checks every claim against the demands and the time.
    pub(super) fn check(self, demands: &Demands, now_ms: u64) -> Result<Identity, AuthError> {
        let expires_ms = time(self.exp, "exp")?.ok_or(AuthError::Claim("exp"))?;
        if now_ms >= expires_ms.saturating_add(LEEWAY_MS) {
            return Err(AuthError::Expired);
        }
        let issued_ms = time(self.iat, "iat")?;
        let not_before = time(self.nbf, "nbf")?.max(issued_ms);
        if not_before.is_some_and(|begin| begin > now_ms.saturating_add(LEEWAY_MS)) {
            return Err(AuthError::NotYetValid);
        }
        if demands.issuer.is_some() && self.iss != demands.issuer {
            return Err(AuthError::Issuer);
        }
        if let Some(wanted) = &demands.audience {
            let named = self.aud.as_ref().is_some_and(|aud| aud.contains(wanted));
            if !named {
                return Err(AuthError::Audience);
            }
        }
        let user = self.sub.as_deref().and_then(|sub| Name::new(sub).ok());
        let token_id = self.jti.as_deref().map(Name::new).transpose();
        Ok(Identity {
            user: Some(user.ok_or(AuthError::Claim("sub"))?),
            issued_ms,
            expires_ms: Some(expires_ms),
            rights: rights(&self.can)?,
            subs: subs(&self.subs)?,
            token_id: token_id.map_err(|_name| AuthError::Claim("jti"))?,
        })
    }
}

fn rights(can: &BTreeMap<String, Vec<String>>) -> Result<Rights, AuthError> {
    let mut patterns = Vec::with_capacity(can.len());
    for (pattern, words) in can {
        let rights: Option<Vec<Right>> = words.iter().map(|word| Right::parse(word)).collect();
        patterns.push((pattern.as_str(), rights.ok_or(AuthError::Claim("can"))?));
    }
    Rights::new(patterns).ok_or(AuthError::Claim("can"))
}

fn subs(names: &[String]) -> Result<Vec<ChannelName>, AuthError> {
    if names.len() > SUBSCRIPTIONS_MAX {
        return Err(AuthError::Claim("subs"));
    }
    let channel = |name: &String| {
        ChannelName::new(name)
            .ok()
            .filter(|channel| !channel.is_system())
    };
    let channels: Option<Vec<_>> = names.iter().map(channel).collect();
    channels.ok_or(AuthError::Claim("subs"))
}
