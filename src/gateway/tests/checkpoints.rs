//! Sessions and a store that is away, or forgets.

use super::client::{Lab, PATIENCE};
use crate::{
    gateway::connection::Connection,
    lab::Cluster,
    store::{Held, SessionId},
};
use std::sync::Arc;
use tidewire_protocol::Encoding;

fn session_of(connection: &Connection) -> SessionId {
    connection
        .with_session(|session| session.id.clone())
        .unwrap()
}

/// Waits until the store has a session.
async fn stored(lab: &Lab, session: &SessionId) -> Held {
    let store = &lab.gateway().store;
    let there = async {
        loop {
            if let Ok(Some(held)) = store.read(session).await {
                return held;
            }
            tokio::task::yield_now().await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, there).await;
    in_time.expect("the session is written down")
}

#[tokio::test]
async fn a_session_that_ends_while_the_store_is_away_is_written_when_it_is_back() {
    let cluster = Cluster::open();
    let (lab, link) = Lab::start_over(&cluster).await;
    let (connection, _reader, _client) = lab.accept(Encoding::Json).await;
    let session = session_of(&connection);
    link.cut(true);
    lab.gateway().end(&connection).await;
    assert!(connection.with_session(|_| ()).is_none());
    link.cut(false);
    let held = stored(&lab, &session).await;
    assert_eq!(held.checkpoint.fence.attempt, 1);
    lab.stop().await;
}

#[tokio::test]
async fn a_kept_checkpoint_is_written_before_the_session_is_claimed_again() {
    let cluster = Cluster::open();
    let (lab, link) = Lab::start_over(&cluster).await;
    let (connection, _reader, _client) = lab.accept(Encoding::Json).await;
    let session = session_of(&connection);
    let fence = connection.with_session(|session| session.fence).unwrap();
    link.cut(true);
    lab.gateway().end(&connection).await;
    link.cut(false);
    let next = crate::store::Fence {
        attempt: fence.attempt + 1,
        nonce: 7,
    };
    lab.gateway().write_down_for(&session, next).await;
    let claimed = lab.gateway().store.claim(&session, next, 60_000).await;
    assert!(claimed.unwrap().is_some(), "it was there to be claimed");
    lab.stop().await;
}

#[tokio::test]
async fn after_a_loss_every_session_is_written_again() {
    let cluster = Cluster::open();
    let (lab, _link) = Lab::start_over(&cluster).await;
    let mut sessions = Vec::new();
    for _ in 0..5 {
        let (connection, reader, client) = lab.accept(Encoding::Json).await;
        let session = session_of(&connection);
        lab.gateway().register(&session, &connection);
        sessions.push((session, Arc::clone(&connection), reader, client));
    }
    cluster.lose();
    for (session, ..) in &sessions {
        stored(&lab, session).await;
    }
    lab.stop().await;
}
