//! Duties of ids and of guards without a key.

use super::*;

pub(crate) async fn an_id_is_applied_once_per_channel_and_publisher(lab: &impl Lab) {
    let (broker, _) = open(lab).await;
    let (a, b) = (channel("a"), channel("b"));
    let first = one(&*broker, with_id(publish(&a, "1"), "i")).await.unwrap();
    assert!(!first.duplicate);
    put(&*broker, publish(&a, "between")).await;
    let again = one(&*broker, with_id(publish(&a, "1"), "i")).await.unwrap();
    assert_eq!((again.position, again.duplicate), (first.position, true));
    let others = [
        with_id(publish(&a, "2"), "i"),
        with_id(keyed(&a, "k", "1"), "i"),
        with_id(
            Publish {
                event: Some(name("e")),
                ..publish(&a, "1")
            },
            "i",
        ),
        with_id(
            Publish {
                ttl_ms: Some(1),
                ..publish(&a, "1")
            },
            "i",
        ),
        with_id(
            Publish {
                payload: Some(Payload::Bytes("1".into())),
                ..publish(&a, "1")
            },
            "i",
        ),
    ];
    for other in others {
        assert_eq!(one(&*broker, other).await, Err(BrokerError::IdConflict));
    }
    let bob = Publish {
        publisher: Arc::from("u:bob"),
        ..with_id(publish(&a, "1"), "i")
    };
    assert!(!one(&*broker, bob).await.unwrap().duplicate);
    assert!(
        !one(&*broker, with_id(publish(&b, "1"), "i"))
            .await
            .unwrap()
            .duplicate
    );
    assert_eq!(head(&*broker, &a).await.position.offset, 3);
}

pub(crate) async fn an_id_is_checked_before_the_guard_and_after_reopening(lab: &impl Lab) {
    let (broker, _) = open(lab).await;
    let a = channel("a");
    let item = || with_id(guarded(publish(&a, "1"), Guard::Absent), "i");
    let first = put(&*broker, item()).await;
    assert!(one(&*broker, item()).await.unwrap().duplicate);
    drop(broker);
    let (broker, _) = open(lab).await;
    let again = one(&*broker, item()).await.unwrap();
    assert_eq!((again.position, again.duplicate), (first, true));
    let other = with_id(publish(&a, "2"), "i");
    assert_eq!(one(&*broker, other).await, Err(BrokerError::IdConflict));
}

pub(crate) async fn an_id_is_forgotten_after_its_window(lab: &impl Lab) {
    let (broker, _) = open(lab).await;
    let a = channel("a");
    let short = Retention {
        dedup_ttl_ms: 30,
        ..KEEPS
    };
    let item = || Publish {
        retention: short,
        ..with_id(publish(&a, "1"), "i")
    };
    put(&*broker, item()).await;
    until("published anew", || async {
        !one(&*broker, item()).await.unwrap().duplicate
    })
    .await;
}

pub(crate) async fn guards_of_a_channel_hold_or_name_the_last(lab: &impl Lab) {
    let (broker, _) = open(lab).await;
    let a = channel("a");
    let none = head(&*broker, &a).await.position;
    let missing = guarded(
        publish(&a, "1"),
        Guard::At(Position {
            offset: 1,
            ..none.clone()
        }),
    );
    assert_eq!(
        one(&*broker, missing).await,
        Err(BrokerError::PreconditionFailed(none))
    );
    let first = put(&*broker, guarded(publish(&a, "1"), Guard::Absent)).await;
    let absent = guarded(publish(&a, "2"), Guard::Absent);
    let refused = Err(BrokerError::PreconditionFailed(first.clone()));
    assert_eq!(one(&*broker, absent).await, refused);
    let other_epoch = Position {
        epoch: Epoch::new("other").unwrap(),
        offset: 1,
    };
    let other = guarded(publish(&a, "2"), Guard::At(other_epoch));
    assert_eq!(one(&*broker, other).await, refused);
    let second = put(
        &*broker,
        guarded(publish(&a, "2"), Guard::At(first.clone())),
    )
    .await;
    let stale = guarded(publish(&a, "3"), Guard::At(first));
    assert_eq!(
        one(&*broker, stale).await,
        Err(BrokerError::PreconditionFailed(second))
    );
}
