//! A fresh token on a living connection: same user, rights checked again.

use std::sync::Arc;

use tidewire_protocol::{ChannelName, ErrorCode, Frame, command::RequestId};

use super::{connection::Connection, subscribe::unsubscribe};
use crate::{auth::Right, telemetry::labels::Rejection};

/// Puts a fresh token in place. Subscriptions it no longer allows end, and say so, before the
/// answer. Answers when the token ends, Unix ms; none: it was refused.
pub async fn refresh(connection: &Arc<Connection>, i: RequestId, token: &str) -> Option<u64> {
    let gateway = Arc::clone(&connection.gateway);
    let identity = match gateway.identify(Some(token)).await {
        Ok(identity) => identity,
        Err(error) => {
            gateway.metrics.rejected.count(Rejection::of(error.code()));
            connection.send(&[connection.error(i, error.code(), &error.to_string())]);
            return None;
        }
    };
    let expires = identity.expires_ms;
    let replaced = connection.with_session(|session| {
        if session.identity.user != identity.user {
            return None;
        }
        session.identity = identity;
        let rights = &session.identity.rights;
        let lost = session
            .subs()
            .map(|(_, sub)| sub.channel.name())
            .filter(|channel| {
                !gateway
                    .namespaces
                    .resolve_for(rights, channel)
                    .is_some_and(|namespace| rights.allows(namespace, channel, Right::Sub))
            });
        Some(lost.cloned().collect::<Vec<ChannelName>>())
    });
    let Some(lost) = replaced.flatten() else {
        connection.send(&[connection.error(
            i,
            ErrorCode::Forbidden,
            "the token is another user's",
        )]);
        return None;
    };
    for channel in lost {
        unsubscribe(connection, &channel).await;
        connection.send(&[Frame::Unsubscribed {
            channel,
            code: ErrorCode::Forbidden,
        }]);
    }
    if let Some(i) = i {
        connection.send(&[Frame::Done { i, expires }]);
    }
    expires
}
