//! Refusals: whether a session may do what it asks, and the error frames that say why not.

use std::sync::Arc;

use tidewire_protocol::{ChannelName, ErrorCode, Frame, Position, command::RequestId};

use super::{Gateway, connection::Connection};
use crate::{
    auth::Right, broker::BrokerError, config::Namespace, session::Session,
    telemetry::labels::Rejection,
};

/// Refuses a request.
pub fn refuse(connection: &Arc<Connection>, i: RequestId, code: ErrorCode, text: &str) {
    connection
        .gateway
        .metrics
        .rejected
        .count(Rejection::of(code));
    if i.is_some() {
        connection.send(&[connection.error(i, code, text)]);
    }
}

/// Refuses a request that came too soon.
pub fn limit(connection: &Arc<Connection>, i: RequestId, retry_ms: u64, text: &str) {
    connection
        .gateway
        .metrics
        .rejected
        .count(Rejection::RateLimited);
    if i.is_some() {
        connection.send(&[Frame::Error {
            i,
            code: ErrorCode::RateLimited,
            text: text.to_owned(),
            retry_ms: Some(retry_ms),
            position: None,
        }]);
    }
}

/// Why something is refused: the code and a sentence for people.
pub type Refusal = (ErrorCode, &'static str);

const FORBIDDEN: Refusal = (
    ErrorCode::Forbidden,
    "neither the token nor the namespace allows this",
);

/// Whether a session may do this to a channel; answers the channel's settings.
pub fn permit<'a>(
    gateway: &'a Gateway,
    session: &Session,
    channel: &ChannelName,
    right: Right,
) -> Result<&'a Namespace, Refusal> {
    let rights = &session.identity.rights;
    let namespace = gateway.namespaces.resolve_for(rights, channel).ok_or((
        ErrorCode::UnknownChannel,
        "no namespace is configured for this channel",
    ))?;
    if rights.allows(namespace, channel, right) {
        Ok(namespace)
    } else {
        Err(FORBIDDEN)
    }
}

impl Connection {
    /// Whether its session may do this to a channel.
    pub fn permit(&self, channel: &ChannelName, right: Right) -> Result<&Namespace, Refusal> {
        self.with_session(|session| permit(&self.gateway, session, channel, right))
            .unwrap_or(Err(FORBIDDEN))
    }

    /// An error frame.
    pub fn error(&self, i: RequestId, code: ErrorCode, text: &str) -> Frame {
        let retry_ms = code.temporary().then_some(1_000);
        Frame::Error {
            i,
            code,
            text: text.to_owned(),
            retry_ms,
            position: None,
        }
    }

    /// What the broker refused.
    pub fn broker_error(&self, i: RequestId, error: BrokerError) -> Frame {
        let code = error.code();
        let text = error.to_string();
        let position: Option<Position> = match error {
            BrokerError::PreconditionFailed(position) => Some(position),
            BrokerError::IdConflict
            | BrokerError::StateFull
            | BrokerError::Gone
            | BrokerError::Unavailable => None,
        };
        self.gateway.metrics.rejected.count(Rejection::of(code));
        Frame::Error {
            i,
            code,
            text,
            retry_ms: code.temporary().then_some(1_000),
            position,
        }
    }
}
