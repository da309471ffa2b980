//! Refusals: whether a session may do what it asks, and the error frames that say why not.

use std::sync::Arc;

use tidewire_protocol::{ChannelName, ErrorCode, Frame, Position, command::RequestId};

use super::connection::Connection;
use crate::{auth::Right, broker::BrokerError, config::Namespace, telemetry::labels::Rejection};

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

impl Connection {
    /// Whether the session may do this to a channel.
    pub fn permit(
        &self,
        channel: &ChannelName,
        right: Right,
    ) -> Result<&Namespace, (ErrorCode, &'static str)> {
        let decided = self.with_session(|session| {
            let rights = &session.identity.rights;
            let namespaces = &self.gateway.namespaces;
            let namespace = namespaces.resolve_for(rights, channel).ok_or((
                ErrorCode::UnknownChannel,
                "no namespace is configured for this channel",
            ))?;
            Ok((namespace, rights.allows(namespace, channel, right)))
        });
        match decided.transpose()? {
            Some((namespace, true)) => Ok(namespace),
            Some((_, false)) | None => Err((
                ErrorCode::Forbidden,
                "neither the token nor the namespace allows this",
            )),
        }
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
