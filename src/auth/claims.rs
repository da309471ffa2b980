//! The claims of a token whose signature was checked: times, issuer, audience, rights.
//!
//! Called by `token`; time is an argument.

use std::{borrow::Cow, collections::BTreeMap, fmt, ops::Deref};

use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};
use tidewire_protocol::{
    ChannelName, Name,
    limits::{INTEGER_MAX, SUBSCRIPTIONS_MAX},
};

use super::{AuthError, Identity, Right, Rights};

/// How far the clock of whoever made the token may be off.
const LEEWAY_MS: u64 = 30_000;

/// A text of a token: part of its bytes, unless it holds escapes.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// The claims this hub knows; others are not its business.
#[derive(Debug, Deserialize)]
pub(super) struct Claims<'a> {
    #[serde(borrow)]
    sub: Option<Text<'a>>,
    exp: Option<f64>,
    nbf: Option<f64>,
    iat: Option<f64>,
    #[serde(borrow)]
    iss: Option<Text<'a>>,
    aud: Option<Audience>,
    #[serde(borrow)]
    jti: Option<Text<'a>>,
    #[serde(borrow, default)]
    can: BTreeMap<Text<'a>, Granted>,
    #[serde(borrow, default)]
    subs: Vec<Text<'a>>,
}

/// The rights of one pattern; none where a word is no right.
#[derive(Debug)]
struct Granted(Option<Vec<Right>>);

impl<'de> Deserialize<'de> for Granted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;

        impl<'de> Visitor<'de> for Words {
            type Value = Granted;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of rights")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut words: A) -> Result<Granted, A::Error> {
                let mut rights = Some(Vec::new());
                while let Some(word) = words.next_element::<Text<'de>>()? {
                    match (&mut rights, Right::parse(&word)) {
                        (Some(rights), Some(right)) => rights.push(right),
                        (_, _) => rights = None,
                    }
                }
                Ok(Granted(rights))
            }
        }

        deserializer.deserialize_seq(Words)
    }
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

impl Claims<'_> {
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
        if demands.issuer.is_some() && self.iss.as_deref() != demands.issuer.as_deref() {
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

fn rights(can: &BTreeMap<Text<'_>, Granted>) -> Result<Rights, AuthError> {
    let mut patterns = Vec::with_capacity(can.len());
    for (pattern, Granted(rights)) in can {
        patterns.push((
            &**pattern,
            rights.as_deref().ok_or(AuthError::Claim("can"))?,
        ));
    }
    Rights::new(patterns).ok_or(AuthError::Claim("can"))
}

fn subs(names: &[Text<'_>]) -> Result<Vec<ChannelName>, AuthError> {
    if names.len() > SUBSCRIPTIONS_MAX {
        return Err(AuthError::Claim("subs"));
    }
    let channel = |name: &Text<'_>| {
        ChannelName::new(name)
            .ok()
            .filter(|channel| !channel.is_system())
    };
    let channels: Option<Vec<_>> = names.iter().map(channel).collect();
    channels.ok_or(AuthError::Claim("subs"))
}
