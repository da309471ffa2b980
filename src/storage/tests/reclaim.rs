//! Reclaiming: the disk use is bounded, and nothing that is kept moves out of sight.

use tidewire_protocol::command::Range;

use super::*;
use crate::{
    broker::{
        Publish, Retention,
        contract::{
            KEEPS, catch_up, channel, entries, history, keyed, offsets, publish, put, state,
        },
    },
    store::{Checkpoint, Fence, SessionId, Write},
};

fn small() -> Folder {
    Folder::with(Options {
        segment_bytes: 64 * 1024,
        ..Options::default()
    })
}

fn checkpoint(id: usize, body: &str) -> Write {
    Write {
        session: SessionId(Arc::from(format!("s{id}"))),
        checkpoint: Checkpoint {
            fence: Fence {
                attempt: 1,
                nonce: 1,
            },
            body: body.to_owned().into(),
        },
        ttl_ms: 3_600_000,
        connected: true,
    }
}

#[tokio::test]
async fn what_is_kept_survives_and_the_rest_gives_its_disk_back() {
    let folder = small();
    let (broker, store) = folder.reopen();
    let (cold, hot) = (channel("cold"), channel("hot"));
    let never = history(&*broker, &channel("never"), Range::After(0)).await;
    put(&*broker, keyed(&cold, "x", "old value")).await;
    put(&*broker, publish(&cold, "old")).await;
    store
        .write(vec![checkpoint(0, "old session")])
        .await
        .remove(0)
        .unwrap();
    let fence = Fence {
        attempt: 2,
        nonce: 2,
    };
    let session = SessionId(Arc::from("s0"));
    store.claim(&session, fence, 3_600_000).await.unwrap();
    let few = Retention {
        history_size: 20,
        state: false,
        ..KEEPS
    };
    let body = "x".repeat(2000);
    for n in 0..600 {
        put(
            &*broker,
            Publish {
                retention: few,
                ..publish(&hot, &body)
            },
        )
        .await;
        store
            .write(vec![checkpoint(1 + n % 3, &body)])
            .await
            .remove(0)
            .unwrap();
        if n % 100 == 0 {
            folder.keep();
        }
    }
    folder.keep();
    let live = 30 * 2200;
    assert!(
        folder.bytes() <= 2 * live + 2 * 64 * 1024,
        "{}",
        folder.bytes()
    );
    for _ in 0..2 {
        let (broker, store) = folder.reopen();
        let page = history(&*broker, &cold, Range::After(0)).await;
        assert_eq!(offsets(&page), [1, 2]);
        assert_eq!(entries(&state(&*broker, &cold, 0).await).len(), 1);
        assert_eq!(entries(&catch_up(&*broker, &cold, 0).await).len(), 2);
        let page = history(&*broker, &hot, Range::After(0)).await;
        assert_eq!(offsets(&page), (581..=600).collect::<Vec<_>>());
        let unknown = history(&*broker, &channel("never"), Range::After(0)).await;
        assert_eq!(unknown.head, never.head);
        let read = store.read(&session).await.unwrap().unwrap().checkpoint;
        assert_eq!((read.fence, read.body), (fence, "old session".into()));
        assert!(
            store
                .read(&SessionId(Arc::from("s3")))
                .await
                .unwrap()
                .is_some()
        );
    }
}

#[tokio::test]
async fn ids_are_remembered_when_their_segment_goes() {
    let folder = small();
    let (broker, _) = folder.reopen();
    let a = channel("a");
    let none = Retention {
        history_size: 0,
        state: false,
        ..KEEPS
    };
    let item = |n: usize| Publish {
        id: Some(crate::broker::contract::name(&format!("id-{n}"))),
        retention: none,
        ..publish(&a, &n.to_string())
    };
    for n in 0..3000 {
        put(&*broker, item(n)).await;
    }
    let few = Retention {
        history_size: 1,
        state: false,
        ..KEEPS
    };
    for _ in 0..200 {
        put(
            &*broker,
            Publish {
                retention: few,
                ..publish(&channel("b"), &"x".repeat(4000))
            },
        )
        .await;
    }
    folder.keep();
    let once = folder.bytes();
    folder.keep();
    assert!(
        folder.bytes() <= once,
        "ids are no reason to go round again"
    );
    let (broker, _) = folder.reopen();
    for n in 0..3000 {
        let mut answers = broker.publish(vec![item(n)]).await;
        let answer = answers.remove(0).unwrap();
        assert!(answer.duplicate);
        assert_eq!(answer.position.offset, n as u64 + 1);
    }
}

#[tokio::test]
async fn pages_stay_readable_while_segments_go() {
    let folder = small();
    let (broker, _) = folder.reopen();
    let (a, b) = (channel("a"), channel("b"));
    for _ in 0..50 {
        put(&*broker, publish(&a, &"x".repeat(1000))).await;
    }
    let few = Retention {
        history_size: 1,
        state: false,
        ..KEEPS
    };
    let noise = async {
        for _ in 0..400 {
            put(
                &*broker,
                Publish {
                    retention: few,
                    ..publish(&b, &"x".repeat(4000))
                },
            )
            .await;
            folder.keep();
            tokio::task::yield_now().await;
        }
    };
    let reads = async {
        for _ in 0..400 {
            let page = history(&*broker, &a, Range::After(0)).await;
            assert_eq!(offsets(&page), (1..=50).collect::<Vec<_>>());
        }
    };
    tokio::join!(noise, reads);
    assert!(folder.bytes() < 400_000);
}

#[tokio::test]
async fn an_idle_folder_writes_nothing() {
    let folder = small();
    let (broker, _) = folder.reopen();
    put(&*broker, publish(&channel("a"), "1")).await;
    folder.keep();
    folder.keep();
    let before = folder.bytes();
    for _ in 0..20 {
        folder.keep();
    }
    assert_eq!(folder.bytes(), before);
}

#[tokio::test]
async fn a_channel_nobody_can_know_any_more_is_forgotten() {
    let now = Arc::new(std::sync::atomic::AtomicU64::new(1_800_000_000_000));
    let clock = now.clone();
    let folder = Folder::with(Options {
        clock: Clock(Arc::new(move || {
            clock.load(std::sync::atomic::Ordering::Relaxed)
        })),
        ..Options::default()
    });
    let (broker, _) = folder.reopen();
    let (a, b) = (channel("a"), channel("b"));
    let none = Retention {
        history_size: 0,
        state: false,
        ..KEEPS
    };
    let old = put(
        &*broker,
        Publish {
            retention: none,
            ..publish(&a, "1")
        },
    )
    .await;
    put(
        &*broker,
        Publish {
            retention: none,
            ..publish(&b, "1")
        },
    )
    .await;
    broker.follow(std::slice::from_ref(&b)).await.unwrap();
    now.fetch_add(3_600_000, std::sync::atomic::Ordering::Relaxed);
    folder.keep();
    assert_eq!(
        broker.channels("", None, 9).await.unwrap().len(),
        2,
        "a session may know it"
    );
    now.fetch_add(3_600_001, std::sync::atomic::Ordering::Relaxed);
    folder.keep();
    let left = broker.channels("", None, 9).await.unwrap();
    assert_eq!(left.len(), 1, "b is followed");
    let new = put(&*broker, publish(&a, "1")).await;
    assert_eq!(new.offset, 1);
    assert_ne!(new.epoch, old.epoch);
    let (broker, _) = folder.reopen();
    assert_eq!(broker.channels("", None, 9).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_state_floor_outlives_the_segment_of_its_tombstone() {
    let now = Arc::new(std::sync::atomic::AtomicU64::new(1_800_000_000_000));
    let clock = now.clone();
    let folder = Folder::with(Options {
        segment_bytes: 64 * 1024,
        clock: Clock(Arc::new(move || {
            clock.load(std::sync::atomic::Ordering::Relaxed)
        })),
        ..Options::default()
    });
    let (broker, _) = folder.reopen();
    let (a, b) = (channel("a"), channel("b"));
    let none = Retention {
        history_size: 0,
        tombstone_ttl_ms: 1000,
        ..KEEPS
    };
    put(
        &*broker,
        Publish {
            retention: none,
            ..keyed(&a, "x", "1")
        },
    )
    .await;
    put(
        &*broker,
        Publish {
            retention: none,
            ..crate::broker::contract::removal(&a, "x")
        },
    )
    .await;
    for _ in 0..20 {
        put(
            &*broker,
            Publish {
                retention: none,
                ..keyed(&b, "x", &"x".repeat(4000))
            },
        )
        .await;
    }
    let wider = Retention {
        state_keys: 11,
        ..none
    };
    put(
        &*broker,
        Publish {
            retention: wider,
            ..keyed(&a, "y", "2")
        },
    )
    .await;
    now.fetch_add(2000, std::sync::atomic::Ordering::Relaxed);
    folder.keep();
    assert!(!folder.path().join("0000000001.log").exists());
    let (broker, _) = folder.reopen();
    let page = catch_up(&*broker, &a, 0).await;
    assert_eq!((page.head.state_floor, page.items.len()), (2, 1));
}
