//! Refusals as RFC 9457 problems.
//!
//! Owns how every error of the API looks on the wire. Its `code` is the name of an `ErrorCode`,
//! or one of the few that only HTTP has.

use axum::{
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tidewire_protocol::{Epoch, ErrorCode, Position};

use super::publish::Outcome;
use crate::broker::BrokerError;

/// When a request refused for a passing reason may be tried again.
const RETRY_MS: u64 = 1_000;
/// Longest detail in characters: what a request says of itself is repeated, but not all of it.
const DETAIL_CHARS_MAX: usize = 400;

/// Why a request, or one publication of it, was refused.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refusal {
    pub code: ErrorCode,
    /// For people.
    pub text: String,
    /// The present last position, where a guard did not hold.
    pub position: Option<Position>,
}

impl Refusal {
    pub(super) fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        let text = text.into();
        let text = match text.char_indices().nth(DETAIL_CHARS_MAX) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        };
        Self {
            code,
            text,
            position: None,
        }
    }

    pub(super) fn bad(text: impl Into<String>) -> Self {
        Self::new(ErrorCode::BadRequest, text)
    }

    /// When to try again, ms; none where the same request fails again.
    pub(super) fn retry_ms(&self) -> Option<u64> {
        self.code.temporary().then_some(RETRY_MS)
    }
}

impl From<BrokerError> for Refusal {
    fn from(error: BrokerError) -> Self {
        let refusal = Self::new(error.code(), error.to_string());
        let position = match error {
            BrokerError::PreconditionFailed(position) => Some(position),
            BrokerError::IdConflict
            | BrokerError::StateFull
            | BrokerError::Gone
            | BrokerError::Unavailable => None,
        };
        Self {
            position,
            ..refusal
        }
    }
}

/// A refusal as an HTTP response.
#[derive(Debug)]
pub(super) struct Problem(Box<Inner>);

#[derive(Debug)]
struct Inner {
    status: StatusCode,
    code: &'static str,
    refusal: Refusal,
    challenge: Option<String>,
    results: Vec<Outcome>,
}

/// The body of the response.
#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: String,
    status: u16,
    code: &'static str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "<[Outcome]>::is_empty")]
    results: &'a [Outcome],
}

impl Problem {
    pub(super) fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Refusal::new(code, detail).into()
    }

    pub(super) fn bad(detail: impl Into<String>) -> Self {
        Refusal::bad(detail).into()
    }

    /// 404 for what is no channel: a route or a session.
    pub(super) fn not_found(code: &'static str, detail: &str) -> Self {
        Self::of_http(StatusCode::NOT_FOUND, code, detail)
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::of_http(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "this path does not have the method",
        )
    }

    fn of_http(status: StatusCode, code: &'static str, detail: &str) -> Self {
        let mut problem = Self::bad(detail);
        problem.0.status = status;
        problem.0.code = code;
        problem
    }

    /// Says which authentication is missing (`WWW-Authenticate`).
    pub(super) fn challenge(mut self, challenge: String) -> Self {
        self.0.challenge = Some(challenge);
        self
    }

    /// Adds the position the present log ends at.
    pub(super) fn position(mut self, position: Position) -> Self {
        self.0.refusal.position = Some(position);
        self
    }

    /// Adds the outcome of each publication.
    pub(super) fn results(mut self, results: Vec<Outcome>) -> Self {
        self.0.results = results;
        self
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self(Box::new(Inner {
            status: StatusCode::from_u16(refusal.code.number())
                .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            code: refusal.code.name(),
            refusal,
            challenge: None,
            results: Vec::new(),
        }))
    }
}

impl From<BrokerError> for Problem {
    fn from(error: BrokerError) -> Self {
        Refusal::from(error).into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Inner {
            status,
            code,
            refusal,
            challenge,
            results,
        } = *self.0;
        let position = refusal.position.as_ref();
        let retry_ms = refusal.retry_ms();
        let body = Body {
            r#type: format!("urn:tidewire:problem:{code}"),
            title: code.replace('_', " "),
            status: status.as_u16(),
            code,
            detail: &refusal.text,
            retry_ms,
            epoch: position.map(|position| Epoch::as_str(&position.epoch)),
            offset: position.map(|position| position.offset),
            results: &results,
        };
        let mut response = (status, axum::Json(body)).into_response();
        // For whoever counts refusals.
        response.extensions_mut().insert(refusal.code);
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(retry_ms) = retry_ms {
            headers.insert(RETRY_AFTER, HeaderValue::from(retry_ms.div_ceil(1_000)));
        }
        if let Some(challenge) = challenge.and_then(|text| HeaderValue::from_str(&text).ok()) {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
