//! Acts on what nodes tell each other: connections that were taken over, users and sessions that
//! are to end, tokens that were withdrawn.
//!
//! Two tasks, one for the orders to all nodes and one for those to this one, each following its
//! log by cursor. Never publishes.

use std::sync::Arc;

use tidewire_protocol::{CloseCode, Name, Publication};

use super::Gateway;
use crate::{
    control::{Follower, Heard, Order},
    store::SessionId,
};

/// Follows the orders to all nodes.
pub async fn to_all(gateway: Arc<Gateway>) {
    let Some(mut follower) = gateway.control.follow_all() else {
        return;
    };
    loop {
        match next(&mut follower).await {
            Heard::Again => {
                gateway.control.reload().await;
                gateway.end_shut_out();
            }
            Heard::Entries(publications) => {
                let mut revoked = false;
                for publication in publications {
                    if gateway.control.hear_revocation(&publication) {
                        revoked = true;
                    } else {
                        act(&gateway, &publication).await;
                    }
                }
                if revoked {
                    gateway.end_shut_out();
                }
            }
        }
    }
}

/// Follows the orders to this node.
pub async fn to_this_node(gateway: Arc<Gateway>) {
    let Some(mut follower) = gateway.control.follow_own() else {
        return;
    };
    loop {
        match next(&mut follower).await {
            // A takeover that cannot be read is left to the fence: who was taken over is refused
            // at its next checkpoint.
            Heard::Again => gateway.checkpoints.note_all(&gateway),
            Heard::Entries(publications) => {
                for publication in publications {
                    act(&gateway, &publication).await;
                }
            }
        }
    }
}

/// Boxed: the wait is permanent, the work in it rare.
async fn next(follower: &mut Follower) -> Heard {
    Box::pin(follower.next()).await
}

async fn act(gateway: &Arc<Gateway>, publication: &Publication) {
    match Order::read(publication) {
        Some(Order::Disconnect { user, by }) if !gateway.control.is_own(&by) => {
            if let Ok(user) = Name::new(&user) {
                let ended = gateway.end_user(&user).await;
                tracing::info!(ended, "a user was disconnected by another node");
            }
        }
        Some(Order::Taken { sessions }) => {
            for (session, attempt) in sessions {
                replaced(gateway, &SessionId(Arc::from(session)), attempt);
            }
        }
        Some(Order::End { session }) => {
            gateway.disconnect(&SessionId(Arc::from(session))).await;
        }
        Some(Order::Ask { n, by, question }) if !gateway.control.is_own(&by) => {
            gateway.answer_to(by, n, question);
        }
        Some(Order::Leave) => gateway.dismiss(),
        Some(Order::Probe { n }) => gateway.control.probe_heard(n),
        Some(Order::Disconnect { .. } | Order::Ask { .. }) | None => {}
    }
}

/// A session was claimed elsewhere: its older connection here ends.
fn replaced(gateway: &Gateway, session: &SessionId, attempt: u64) {
    let Some(connection) = gateway.connection_of(session) else {
        return;
    };
    let held = connection.with_session(|session| session.fence.attempt);
    if held.is_some_and(|held| held < attempt) {
        connection.close(CloseCode::Replaced, None, Some(attempt));
    }
}
