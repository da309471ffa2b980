//! What every checkpoint store owes, as tests that run against each implementation.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{Checkpoint, CheckpointStore, Fence, SessionId, StoreError, Write};

/// Opens the store under test; a second call closes it and opens it again.
pub(crate) trait Shelf {
    fn open(&self) -> impl Future<Output = Arc<dyn CheckpointStore>>;
}

const HOUR: u64 = 3_600_000;
const SHORT: u64 = 200;

fn id(text: &str) -> SessionId {
    SessionId(Arc::from(text))
}

const fn fence(attempt: u64, nonce: u64) -> Fence {
    Fence { attempt, nonce }
}

fn write(session: &SessionId, fence: Fence, body: &str, ttl_ms: u64) -> Write {
    let body = Bytes::copy_from_slice(body.as_bytes());
    Write {
        session: session.clone(),
        checkpoint: Checkpoint { fence, body },
        ttl_ms,
        connected: true,
    }
}

/// Claims, and answers the body.
async fn take(
    store: &dyn CheckpointStore,
    session: &SessionId,
    fence: Fence,
    ttl_ms: u64,
) -> Result<Option<Bytes>, StoreError> {
    let claimed = store.claim(session, fence, ttl_ms).await?;
    Ok(claimed.map(|claimed| claimed.body))
}

async fn put(store: &dyn CheckpointStore, item: Write) -> Result<(), StoreError> {
    let mut answers = store.write(vec![item]).await;
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

async fn body(store: &dyn CheckpointStore, session: &SessionId) -> Option<(Fence, Bytes)> {
    let checkpoint = store.read(session).await.unwrap()?.checkpoint;
    Some((checkpoint.fence, checkpoint.body))
}

async fn until<F: Future<Output = bool>>(what: &str, ask: impl Fn() -> F) {
    let begun = Instant::now();
    while !ask().await {
        assert!(begun.elapsed() < Duration::from_secs(10), "in vain: {what}");
        tokio::task::yield_now().await;
    }
}

pub(crate) async fn what_was_written_is_there_after_reopening(shelf: &impl Shelf) {
    let store = shelf.open().await;
    let (a, b, c) = (id("a"), id("b"), id("c"));
    let large = "x".repeat(256 * 1024);
    put(&*store, write(&a, fence(1, 7), "first", HOUR))
        .await
        .unwrap();
    put(&*store, write(&a, fence(1, 7), "second", HOUR))
        .await
        .unwrap();
    put(&*store, write(&b, fence(3, 1), &large, HOUR))
        .await
        .unwrap();
    put(&*store, write(&c, fence(1, 1), "", HOUR))
        .await
        .unwrap();
    drop(store);
    let store = shelf.open().await;
    assert_eq!(
        body(&*store, &a).await,
        Some((fence(1, 7), "second".into()))
    );
    assert_eq!(body(&*store, &b).await, Some((fence(3, 1), large.into())));
    assert_eq!(body(&*store, &c).await, Some((fence(1, 1), "".into())));
    assert_eq!(body(&*store, &id("unknown")).await, None);
}

pub(crate) async fn a_claim_takes_over_and_answers_the_body(shelf: &impl Shelf) {
    let store = shelf.open().await;
    let a = id("a");
    assert_eq!(take(&*store, &a, fence(9, 9), HOUR).await, Ok(None));
    assert_eq!(body(&*store, &a).await, None, "nothing was stored");
    put(&*store, write(&a, fence(1, 1), "body", HOUR))
        .await
        .unwrap();
    assert_eq!(
        take(&*store, &a, fence(2, 5), HOUR).await,
        Ok(Some("body".into()))
    );
    drop(store);
    let store = shelf.open().await;
    assert_eq!(body(&*store, &a).await, Some((fence(2, 5), "body".into())));
    let old = put(&*store, write(&a, fence(1, 1), "late", HOUR)).await;
    assert_eq!(old, Err(StoreError::Fenced { attempt: 2 }));
    put(&*store, write(&a, fence(2, 5), "mine", HOUR))
        .await
        .unwrap();
    assert_eq!(body(&*store, &a).await, Some((fence(2, 5), "mine".into())));
}

pub(crate) async fn a_fence_admits_higher_attempts_and_its_own_nonce_only(shelf: &impl Shelf) {
    let store = shelf.open().await;
    let a = id("a");
    put(&*store, write(&a, fence(5, 1), "body", HOUR))
        .await
        .unwrap();
    let fenced = StoreError::Fenced { attempt: 5 };
    for wrong in [fence(4, 1), fence(5, 2), fence(0, 0), fence(5, 0)] {
        assert_eq!(take(&*store, &a, wrong, HOUR).await, Err(fenced.clone()));
        assert_eq!(
            put(&*store, write(&a, wrong, "no", HOUR)).await,
            Err(fenced.clone())
        );
        assert_eq!(store.remove(&a, wrong).await, Err(fenced.clone()));
    }
    assert_eq!(
        take(&*store, &a, fence(5, 1), HOUR).await,
        Ok(Some("body".into()))
    );
    assert_eq!(
        take(&*store, &a, fence(6, 0), HOUR).await,
        Ok(Some("body".into()))
    );
    let lower = put(&*store, write(&a, fence(5, 1), "no", HOUR)).await;
    assert_eq!(lower, Err(StoreError::Fenced { attempt: 6 }));
}

pub(crate) async fn a_batch_answers_each_write_on_its_own(shelf: &impl Shelf) {
    let store = shelf.open().await;
    let (a, b) = (id("a"), id("b"));
    let batch = vec![
        write(&a, fence(2, 1), "a2", HOUR),
        write(&a, fence(1, 1), "a1", HOUR),
        write(&b, fence(1, 1), "b1", HOUR),
    ];
    let answers = store.write(batch).await;
    assert_eq!(
        answers,
        [Ok(()), Err(StoreError::Fenced { attempt: 2 }), Ok(())]
    );
    assert_eq!(body(&*store, &a).await, Some((fence(2, 1), "a2".into())));
}

pub(crate) async fn a_session_expires_unless_extended(shelf: &impl Shelf) {
    let store = shelf.open().await;
    let (a, b, c) = (id("a"), id("b"), id("c"));
    for session in [&a, &b, &c] {
        put(&*store, write(session, fence(3, 1), "body", SHORT))
            .await
            .unwrap();
    }
    store
        .extend(&[b.clone(), id("unknown")], HOUR)
        .await
        .unwrap();
    take(&*store, &c, fence(4, 1), HOUR).await.unwrap();
    until("a expired", || async { body(&*store, &a).await.is_none() }).await;
    assert_eq!(take(&*store, &a, fence(9, 1), HOUR).await, Ok(None));
    store.extend(std::slice::from_ref(&a), HOUR).await.unwrap();
    drop(store);
    let store = shelf.open().await;
    assert_eq!(body(&*store, &a).await, None);
    assert!(body(&*store, &b).await.is_some());
    assert!(body(&*store, &c).await.is_some());
    put(&*store, write(&a, fence(1, 1), "new", HOUR))
        .await
        .unwrap();
    assert_eq!(body(&*store, &a).await, Some((fence(1, 1), "new".into())));
}

pub(crate) async fn a_removed_session_is_unknown(shelf: &impl Shelf) {
    let store = shelf.open().await;
    let a = id("a");
    assert_eq!(store.remove(&a, fence(1, 1)).await, Ok(()));
    put(&*store, write(&a, fence(2, 1), "body", HOUR))
        .await
        .unwrap();
    store.remove(&a, fence(2, 1)).await.unwrap();
    assert_eq!(body(&*store, &a).await, None);
    drop(store);
    let store = shelf.open().await;
    assert_eq!(body(&*store, &a).await, None);
    put(&*store, write(&a, fence(1, 1), "new", HOUR))
        .await
        .unwrap();
}

/// Makes one test of each duty for the shelf that the expression makes.
macro_rules! store_contract {
    ($shelf:expr) => {
        store_contract!($shelf;
            what_was_written_is_there_after_reopening,
            a_claim_takes_over_and_answers_the_body,
            a_fence_admits_higher_attempts_and_its_own_nonce_only,
            a_batch_answers_each_write_on_its_own,
            a_session_expires_unless_extended,
            a_removed_session_is_unknown,
        );
    };
    ($shelf:expr; $($test:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $test() {
                $crate::store::contract::$test(&$shelf).await;
            }
        )*
    };
}
pub(crate) use store_contract;
