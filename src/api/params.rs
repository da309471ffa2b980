//! What stands in a request's path and query, read strictly: a typo is refused, never passed over.

use std::str::FromStr;

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::request::Parts,
};
use tidewire_protocol::{ChannelName, Epoch, ErrorCode, limits::INTEGER_MAX};

use super::problem::{Problem, Refusal};

/// Most parameters of a query that are looked at; no route has more.
const QUERY_PARAMS_MAX: usize = 8;

/// The parts of the path that vary, percent-decoded.
#[derive(Debug)]
pub(super) struct PathParams(RawPathParams);

impl<S: Send + Sync> FromRequestParts<S> for PathParams {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let params = RawPathParams::from_request_parts(parts, state).await;
        let params = params.map_err(|_not_utf8| Problem::bad("the path is not UTF-8"))?;
        Ok(Self(params))
    }
}

impl PathParams {
    /// A part by the name the route gives it; empty where the route has no such part.
    pub(super) fn text(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(known, _)| *known == name);
        found.map_or("", |(_, text)| text)
    }

    /// The channel the path names. Those of the hub itself are refused.
    pub(super) fn channel(&self) -> Result<ChannelName, Problem> {
        channel(self.text("channel")).map_err(Problem::from)
    }

    /// The offset the path names.
    pub(super) fn offset(&self) -> Result<u64, Problem> {
        integer("offset", self.text("offset"))
    }
}

/// A channel an API key may be used on.
pub(super) fn channel(text: &str) -> Result<ChannelName, Refusal> {
    let channel =
        ChannelName::new(text).map_err(|error| Refusal::bad(format!("channel: {error}")))?;
    if channel.is_system() {
        let detail = "channels whose names start with `$` belong to the hub";
        return Err(Refusal::new(ErrorCode::Forbidden, detail));
    }
    Ok(channel)
}

/// The parameters of the query, each taken once; `finish` refuses what nobody took.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        let query = parts.uri.query().unwrap_or_default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, text) = (decoded(name)?, decoded(text)?);
            if pairs.len() == QUERY_PARAMS_MAX || pairs.iter().any(|(known, _)| *known == name) {
                return Err(Problem::bad(format!(
                    "the query has `{name}` twice or too many parameters"
                )));
            }
            pairs.push((name, text));
        }
        Ok(Self(pairs))
    }
}

impl Query {
    /// Takes a text.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Takes an integer of 0 to 2^53 - 1.
    pub(super) fn integer(&mut self, name: &str) -> Result<Option<u64>, Problem> {
        let text = self.text(name);
        text.map(|text| integer(name, &text)).transpose()
    }

    /// Takes `limit`: how many items a page may have, at least 1; the node's own bound holds too.
    pub(super) fn limit(&mut self, default: usize, max: usize) -> Result<usize, Problem> {
        match self.integer("limit")? {
            None => Ok(default.min(max)),
            Some(0) => Err(Problem::bad("limit: at least 1")),
            Some(limit) => Ok(usize::try_from(limit).map_or(max, |limit| limit.min(max))),
        }
    }

    /// Takes an epoch.
    pub(super) fn epoch(&mut self) -> Result<Option<Epoch>, Problem> {
        let text = self.text("epoch");
        let epoch = text.map(|text| Epoch::new(&text)).transpose();
        epoch.map_err(|error| Problem::bad(format!("epoch: {error}")))
    }

    /// Refuses what is left.
    pub(super) fn finish(self, known: &str) -> Result<(), Problem> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(Problem::bad(format!(
                "unknown parameter `{name}`, expected {known}"
            ))),
        }
    }
}

fn integer(name: &str, text: &str) -> Result<u64, Problem> {
    let number = u64::from_str(text)
        .ok()
        .filter(|number| *number <= INTEGER_MAX && text.bytes().all(|byte| byte.is_ascii_digit()));
    number.ok_or_else(|| Problem::bad(format!("{name}: an integer of 0 to 2^53 - 1")))
}

/// Decodes one name or text of a query: `%41` and `+`.
fn decoded(text: &str) -> Result<String, Problem> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        bytes.push(match first {
            b'+' => b' ',
            b'%' => {
                let byte = after.get(..2).and_then(hex);
                rest = after.get(2..).unwrap_or_default();
                byte.ok_or_else(|| Problem::bad("the query holds a `%` without two digits"))?
            }
            byte => *byte,
        });
    }
    String::from_utf8(bytes).map_err(|_not_utf8| Problem::bad("the query is not UTF-8"))
}

fn hex(digits: &[u8]) -> Option<u8> {
    let mut value = 0;
    for digit in digits {
        value = value << 4 | char::from(*digit).to_digit(16)?;
    }
    u8::try_from(value).ok()
}
