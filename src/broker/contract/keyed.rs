//! Duties of the keyed state.

use super::*;

fn row(offset: u64, key: &str, data: &str) -> (u64, String, String, bool) {
    (offset, key.to_owned(), data.to_owned(), false)
}

fn gone(offset: u64, key: &str) -> (u64, String, String, bool) {
    (offset, key.to_owned(), String::new(), true)
}

pub(crate) async fn state_holds_the_newest_of_each_key(lab: &impl Lab) {
    let (broker, _) = open(lab).await;
    let a = channel("a");
    let small = Retention {
        history_size: 1,
        ..KEEPS
    };
    for (key, data) in [("x", "1"), ("y", "2"), ("x", "3"), ("z", "4")] {
        put(
            &*broker,
            Publish {
                retention: small,
                ..keyed(&a, key, data)
            },
        )
        .await;
    }
    put(
        &*broker,
        Publish {
            retention: small,
            ..publish(&a, "no key")
        },
    )
    .await;
    for _ in 0..2 {
        let (broker, _) = open(lab).await;
        let page = state(&*broker, &a, 0).await;
        assert_eq!(
            entries(&page),
            [row(2, "y", "2"), row(3, "x", "3"), row(4, "z", "4")]
        );
        assert!(
            page.items
                .iter()
                .all(|item| item.epoch == page.head.position.epoch)
        );
        assert_eq!((page.head.position.offset, page.more), (5, false));
        assert_eq!(entries(&state(&*broker, &a, 4).await), [row(4, "z", "4")]);
    }
}

pub(crate) async fn state_pages_in_rising_offset_order(lab: &impl Lab) {
    let (broker, _) = open(lab).await;
    let a = channel("a");
    for n in 0..8 {
        put(&*broker, keyed(&a, &format!("k{}", 7 - n), "1")).await;
    }
    let (mut from, mut seen) = (0, Vec::new());
    loop {
        let limit = PageLimit {
            items: 3,
            bytes: 10_000,
        };
        let query = StateQuery {
            from,
            catch_up: false,
            limit,
        };
        let page = broker.state(&a, query).await.unwrap();
        assert!(page.items.len() <= 3);
        seen.extend(page.items.iter().map(|item| item.publication.offset));
        if !page.more {
            break;
        }
        from = seen.last().unwrap() + 1;
    }
    assert_eq!(seen, (1..=8).collect::<Vec<_>>());
    let limit = PageLimit { items: 3, bytes: 0 };
    let query = StateQuery {
        from: 0,
        catch_up: false,
        limit,
    };
    let page = broker.state(&a, query).await.unwrap();
    assert_eq!(
        (page.items.len(), page.more),
        (1, true),
        "one item at least"
    );
}

pub(crate) async fn a_removed_key_leaves_a_tombstone_for_those_who_catch_up(lab: &impl Lab) {
    let (broker, _) = open(lab).await;
    let a = channel("a");
    put(&*broker, keyed(&a, "x", "1")).await;
    put(&*broker, keyed(&a, "y", "2")).await;
    put(&*broker, removal(&a, "x")).await;
    for _ in 0..2 {
        let (broker, _) = open(lab).await;
        assert_eq!(entries(&state(&*broker, &a, 0).await), [row(2, "y", "2")]);
        let page = catch_up(&*broker, &a, 2).await;
        assert_eq!(entries(&page), [row(2, "y", "2"), gone(3, "x")]);
        assert_eq!(page.head.state_floor, 0);
    }
    put(&*open(lab).await.0, keyed(&a, "x", "4")).await;
    let (broker, _) = open(lab).await;
    assert_eq!(
        entries(&catch_up(&*broker, &a, 3).await),
        [row(4, "x", "4")]
    );
}

pub(crate) async fn a_dropped_tombstone_raises_the_floor(lab: &impl Lab) {
    let (broker, _) = open(lab).await;
    let a = channel("a");
    let short = Retention {
        tombstone_ttl_ms: 30,
        ..KEEPS
    };
    put(
        &*broker,
        Publish {
            retention: short,
            ..keyed(&a, "x", "1")
        },
    )
    .await;
    put(
        &*broker,
        Publish {
            retention: short,
            ..removal(&a, "x")
        },
    )
    .await;
    until("the tombstone is dropped", || async {
        put(
            &*broker,
            Publish {
                retention: short,
                ..keyed(&a, "y", "2")
            },
        )
        .await;
        let page = catch_up(&*broker, &a, 0).await;
        let dropped = page.head.state_floor == 2;
        assert_eq!(
            entries(&page).contains(&gone(2, "x")),
            !dropped,
            "in it or below the floor"
        );
        dropped
    })
    .await;
    drop(broker);
    let (broker, _) = open(lab).await;
    assert_eq!(catch_up(&*broker, &a, 0).await.head.state_floor, 2);
}

pub(crate) async fn a_catch_up_sees_the_newest_without_a_key(lab: &impl Lab) {
    let (broker, _) = open(lab).await;
    let a = channel("a");
    let none = Retention {
        history_size: 0,
        ..KEEPS
    };
    for item in [publish(&a, "1"), keyed(&a, "x", "2"), publish(&a, "3")] {
        put(
            &*broker,
            Publish {
                retention: none,
                ..item
            },
        )
        .await;
    }
    for _ in 0..2 {
        let (broker, _) = open(lab).await;
        assert_eq!(
            entries(&catch_up(&*broker, &a, 0).await),
            [row(2, "x", "2"), row(3, "", "3")]
        );
        assert_eq!(entries(&state(&*broker, &a, 0).await), [row(2, "x", "2")]);
    }
}

pub(crate) async fn guards_of_a_key_hold_or_name_its_last(lab: &impl Lab) {
    let (broker, _) = open(lab).await;
    let a = channel("a");
    let x = put(&*broker, guarded(keyed(&a, "x", "1"), Guard::Absent)).await;
    put(&*broker, keyed(&a, "y", "2")).await;
    let absent = guarded(keyed(&a, "x", "3"), Guard::Absent);
    assert_eq!(
        one(&*broker, absent).await,
        Err(BrokerError::PreconditionFailed(x.clone()))
    );
    let newer = put(&*broker, guarded(keyed(&a, "x", "3"), Guard::At(x.clone()))).await;
    let stale = guarded(removal(&a, "x"), Guard::At(x));
    assert_eq!(
        one(&*broker, stale).await,
        Err(BrokerError::PreconditionFailed(newer.clone()))
    );
    let removed = put(&*broker, guarded(removal(&a, "x"), Guard::At(newer))).await;
    let none = Position {
        offset: 0,
        ..removed.clone()
    };
    let at_tombstone = guarded(keyed(&a, "x", "5"), Guard::At(removed));
    assert_eq!(
        one(&*broker, at_tombstone).await,
        Err(BrokerError::PreconditionFailed(none))
    );
    assert_eq!(
        put(&*broker, guarded(keyed(&a, "x", "5"), Guard::Absent))
            .await
            .offset,
        5
    );
}

pub(crate) async fn a_full_state_refuses_one_more_key(lab: &impl Lab) {
    let (broker, _) = open(lab).await;
    let a = channel("a");
    for n in 0..KEEPS.state_keys {
        put(&*broker, keyed(&a, &format!("k{n}"), "1")).await;
    }
    assert_eq!(
        one(&*broker, keyed(&a, "more", "1")).await,
        Err(BrokerError::StateFull)
    );
    put(&*broker, keyed(&a, "k3", "2")).await;
    put(&*broker, publish(&a, "no key")).await;
    put(&*broker, removal(&a, "k3")).await;
    put(&*broker, keyed(&a, "more", "1")).await;
    assert_eq!(
        one(&*broker, keyed(&a, "k3", "1")).await,
        Err(BrokerError::StateFull)
    );
    drop(broker);
    let (broker, _) = open(lab).await;
    assert_eq!(
        one(&*broker, keyed(&a, "k3", "1")).await,
        Err(BrokerError::StateFull)
    );
    assert_eq!(state(&*broker, &a, 0).await.items.len(), 10);
}

pub(crate) async fn an_expired_key_is_hidden_absent_and_no_burden(lab: &impl Lab) {
    let (broker, _) = open(lab).await;
    let a = channel("a");
    let one_key = Retention {
        state_keys: 1,
        ..KEEPS
    };
    let short = |data| Publish {
        ttl_ms: Some(30),
        retention: one_key,
        ..keyed(&a, "x", data)
    };
    put(&*broker, short("1")).await;
    until("hidden", || async {
        state(&*broker, &a, 0).await.items.is_empty()
    })
    .await;
    put(&*broker, guarded(short("2"), Guard::Absent)).await;
    until("hidden again", || async {
        catch_up(&*broker, &a, 0).await.items.is_empty()
    })
    .await;
    put(
        &*broker,
        Publish {
            retention: one_key,
            ..keyed(&a, "y", "3")
        },
    )
    .await;
    assert_eq!(
        head(&*broker, &a).await.state_floor,
        0,
        "expiry leaves no tombstone"
    );
    let own = Retention {
        state_ttl_ms: 30,
        ..KEEPS
    };
    let b = channel("b");
    put(
        &*broker,
        Publish {
            retention: own,
            ..keyed(&b, "x", "1")
        },
    )
    .await;
    until("the state's own lifetime", || async {
        state(&*broker, &b, 0).await.items.is_empty()
    })
    .await;
}

pub(crate) async fn a_key_without_state_is_only_history(lab: &impl Lab) {
    let (broker, _) = open(lab).await;
    let a = channel("a");
    let plain = Retention {
        state: false,
        state_keys: 0,
        ..KEEPS
    };
    put(
        &*broker,
        Publish {
            retention: plain,
            ..keyed(&a, "x", "1")
        },
    )
    .await;
    put(
        &*broker,
        Publish {
            retention: plain,
            ..keyed(&a, "x", "2")
        },
    )
    .await;
    assert!(catch_up(&*broker, &a, 0).await.items.is_empty());
    let page = history(&*broker, &a, Range::After(0)).await;
    assert_eq!(page.items[0].key, Some(name("x")));
    assert_eq!(page.items[0].expires, None);
}

pub(crate) async fn blank_of_a_keys_newest_leaves_a_tombstone(lab: &impl Lab) {
    let (broker, _) = open(lab).await;
    let a = channel("a");
    put(&*broker, keyed(&a, "x", "1")).await;
    put(&*broker, keyed(&a, "y", "2")).await;
    broker.blank(&a, 1).await.unwrap();
    for _ in 0..2 {
        let (broker, _) = open(lab).await;
        assert_eq!(entries(&state(&*broker, &a, 0).await), [row(2, "y", "2")]);
        assert_eq!(
            entries(&catch_up(&*broker, &a, 0).await),
            [gone(1, "x"), row(2, "y", "2")]
        );
        assert_eq!(
            history(&*broker, &a, Range::After(0)).await.items[0].key,
            None
        );
    }
    put(
        &*open(lab).await.0,
        guarded(keyed(&a, "x", "3"), Guard::Absent),
    )
    .await;
}
