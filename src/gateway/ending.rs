//! Ending sessions by somebody else's wish: tokens withdrawn, users and sessions disconnected.
//!
//! Called by `api`, and by `orders` for what other nodes were asked. A session that lives on
//! another node is told to that node; never waits for it.

use std::sync::Arc;

use tidewire_protocol::{CloseCode, Name};

use super::{Connection, Gateway};
use crate::{broker::BrokerError, control::Target, store::SessionId};

impl Gateway {
    /// Every connection of a user.
    fn connections_of_user(&self, user: &Name) -> Vec<Arc<Connection>> {
        let of_user = |connection: &Arc<Connection>| {
            connection.with_session(|session| session.identity.user.as_ref() == Some(user))
                == Some(true)
        };
        self.sessions
            .iter()
            .filter(|entry| of_user(entry.value()))
            .map(|entry| Arc::clone(entry.value()))
            .collect()
    }

    /// Shuts tokens out on every node and ends the connections here that were let in with one;
    /// answers how many. Other nodes end theirs within 5 s.
    ///
    /// # Errors
    /// The revocation could not be written; nobody is shut out.
    pub async fn revoke(&self, target: Target, ttl_ms: u64) -> Result<usize, BrokerError> {
        self.control.revoke(target, ttl_ms).await?;
        Ok(self.end_shut_out())
    }

    /// Ends the connections whose token was withdrawn; answers how many.
    pub(super) fn end_shut_out(&self) -> usize {
        let shut_out = |connection: &Arc<Connection>| {
            connection.with_session(|session| self.control.shuts_out(&session.identity))
                == Some(true)
        };
        let mut connections = self.connections();
        connections.retain(shut_out);
        for connection in &connections {
            connection.close(CloseCode::Unauthenticated, None, None);
        }
        connections.len()
    }

    /// Ends every session of a user that has a connection, on every node; answers how many were
    /// here. Other nodes end theirs within 5 s.
    ///
    /// # Errors
    /// The other nodes could not be told; nothing was ended here.
    pub async fn disconnect_user(&self, user: &Name) -> Result<usize, BrokerError> {
        self.control.disconnect_user(user).await?;
        Ok(self.end_user(user).await)
    }

    /// Ends the sessions of a user that have a connection here; answers how many.
    pub(super) async fn end_user(&self, user: &Name) -> usize {
        let mut ended = 0;
        for connection in self.connections_of_user(user) {
            let Some(session) = connection.with_session(|session| session.id.clone()) else {
                continue;
            };
            ended += usize::from(self.disconnect(&session).await);
        }
        ended
    }

    /// Ends a session by an operator's wish.
    pub async fn disconnect(&self, session: &SessionId) -> bool {
        let Some(connection) = self.connection_of(session) else {
            return false;
        };
        self.forget(&connection).await;
        connection.close(CloseCode::Forbidden, None, None);
        true
    }
}
