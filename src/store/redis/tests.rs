//! The store against a real server: the contract every store owes, and what only Redis shows.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tidewire_protocol::Name;

use super::{RedisStore, SCRIPTS};
use crate::{
    redis::tests::{self as link, server::RedisServer},
    store::{
        Checkpoint, CheckpointStore, Fence, SessionId, StoreError, Write,
        contract::{Shelf, store_contract},
    },
};

/// The store on a server of its own; opened again it is another connection of the same node.
struct OnRedis {
    server: RedisServer,
    links: Mutex<Vec<link::Lab>>,
}

impl OnRedis {
    fn new() -> Self {
        Self {
            server: RedisServer::start(&[]),
            links: Mutex::default(),
        }
    }

    async fn node(&self, name: &str) -> RedisStore {
        let link = link::connect(&self.server.url(), SCRIPTS.to_vec()).await;
        let store = RedisStore::start(link.redis.clone(), Name::new(name).unwrap(), &link.tasks);
        self.links.lock().unwrap().push(link);
        store
    }
}

impl Shelf for OnRedis {
    async fn open(&self) -> Arc<dyn CheckpointStore> {
        Arc::new(self.node("n-1").await)
    }
}

store_contract!(OnRedis::new());

fn write(session: &SessionId, attempt: u64, connected: bool) -> Write {
    let fence = Fence { attempt, nonce: 7 };
    let body = Bytes::from_static(b"body");
    Write {
        session: session.clone(),
        checkpoint: Checkpoint { fence, body },
        ttl_ms: 60_000,
        connected,
    }
}

fn fence(attempt: u64) -> Fence {
    Fence { attempt, nonce: 9 }
}

#[tokio::test]
async fn whoever_takes_over_is_told_the_node_that_has_the_connection() {
    let lab = OnRedis::new();
    let (one, two) = (lab.node("n-1").await, lab.node("n-2").await);
    let session = SessionId(Arc::from("s {odd}\u{1}"));
    let named = |name| Some(Name::new(name).unwrap());
    one.write(vec![write(&session, 1, true)])
        .await
        .remove(0)
        .unwrap();
    assert_eq!(
        one.read(&session).await.unwrap().unwrap().node,
        None,
        "itself"
    );
    assert_eq!(
        two.read(&session).await.unwrap().unwrap().node,
        named("n-1")
    );
    let claimed = two
        .claim(&session, fence(2), 60_000)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (&claimed.body[..], claimed.node),
        (&b"body"[..], named("n-1"))
    );
    assert_eq!(
        one.read(&session).await.unwrap().unwrap().node,
        named("n-2")
    );
    let fenced = one.write(vec![write(&session, 1, true)]).await.remove(0);
    assert_eq!(fenced, Err(StoreError::Fenced { attempt: 2 }));
    two.write(vec![Write {
        checkpoint: Checkpoint {
            fence: fence(2),
            body: Bytes::new(),
        },
        ..write(&session, 2, false)
    }])
    .await
    .remove(0)
    .unwrap();
    assert_eq!(
        one.read(&session).await.unwrap().unwrap().node,
        None,
        "nobody has it"
    );
}

#[tokio::test]
async fn one_of_many_claims_of_the_same_attempt_wins() {
    let lab = OnRedis::new();
    let session = SessionId(Arc::from("s"));
    let first = lab.node("n-0").await;
    first
        .write(vec![write(&session, 1, true)])
        .await
        .remove(0)
        .unwrap();
    let mut nodes = Vec::new();
    for n in 1..=4 {
        nodes.push(lab.node(&format!("n-{n}")).await);
    }
    for attempt in 2..50 {
        let claims = nodes.iter().enumerate().map(|(nonce, node)| {
            let fence = Fence {
                attempt,
                nonce: nonce as u64,
            };
            node.claim(&session, fence, 60_000)
        });
        let answers = futures_util::future::join_all(claims).await;
        let won = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(won, 1, "attempt {attempt}: {answers:?}");
    }
}

#[tokio::test]
async fn fences_are_compared_to_the_last_digit() {
    let lab = OnRedis::new();
    let node = lab.node("n-1").await;
    let session = SessionId(Arc::from("s"));
    let large = (1 << 53) + 1;
    node.write(vec![write(&session, large, true)])
        .await
        .remove(0)
        .unwrap();
    let lower = node.claim(&session, fence(large - 1), 60_000).await;
    assert_eq!(lower, Err(StoreError::Fenced { attempt: large }));
    assert!(
        node.claim(&session, fence(large + 1), 60_000)
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn a_storm_of_claims_costs_one_write_each_and_a_few_steps() {
    let lab = OnRedis::new();
    let node = lab.node("n-1").await;
    let sessions: Vec<_> = (0..200)
        .map(|number| SessionId(Arc::from(format!("s-{number}"))))
        .collect();
    let writes = sessions.iter().map(|session| write(session, 1, true));
    assert!(node.write(writes.collect()).await.iter().all(Result::is_ok));
    let before = ["evalsha", "set", "mget", "hget"].map(|command| lab.server.calls(command));
    let claims = sessions
        .iter()
        .map(|session| node.claim(session, fence(2), 60_000));
    for claimed in futures_util::future::join_all(claims).await {
        assert_eq!(&claimed.unwrap().unwrap().body[..], b"body");
    }
    let after = ["evalsha", "set", "mget", "hget"].map(|command| lab.server.calls(command));
    let made: Vec<_> = after
        .iter()
        .zip(before)
        .map(|(now, was)| now - was)
        .collect();
    assert_eq!(made[1], 200, "one write for each");
    // The probe of each second is among them.
    let others = made[0] + made[2] + made[3];
    assert!(
        others < 40,
        "200 claims in {made:?} steps, writes, reads, looks"
    );
}
