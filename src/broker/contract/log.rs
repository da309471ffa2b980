//! Duties of the log: positions, history, following, lives.

use super::*;

pub(crate) async fn offsets_are_dense_and_times_never_fall(lab: &impl Lab) {
    let (broker, _) = open(lab).await;
    let a = channel("a");
    for offset in 1..=5 {
        assert_eq!(put(&*broker, publish(&a, "1")).await.offset, offset);
    }
    let batch = (0..5).map(|_| publish(&a, "2")).collect();
    let answers = broker.publish(batch).await;
    let got: Vec<u64> = answers
        .into_iter()
        .map(|a| a.unwrap().position.offset)
        .collect();
    assert_eq!(got, [6, 7, 8, 9, 10]);
    let page = history(&*broker, &a, Range::After(0)).await;
    assert_eq!(offsets(&page), (1..=10).collect::<Vec<_>>());
    assert!(page.items.is_sorted_by_key(|item| item.ts));
    assert!(page.items[0].ts > 1_600_000_000_000, "Unix milliseconds");
    assert_eq!(put(&*broker, publish(&channel("b"), "1")).await.offset, 1);
}

pub(crate) async fn a_batch_answers_each_item_on_its_own(lab: &impl Lab) {
    let (broker, _) = open(lab).await;
    let (a, b) = (channel("a"), channel("b"));
    let answers = broker
        .publish(vec![
            publish(&a, "1"),
            guarded(publish(&a, "2"), Guard::Absent),
            guarded(publish(&b, "3"), Guard::Absent),
            with_id(publish(&b, "4"), "i"),
            with_id(publish(&b, "4"), "i"),
        ])
        .await;
    let offset = |index: usize| answers[index].as_ref().unwrap().position.offset;
    assert_eq!(answers.len(), 5);
    assert_eq!(offset(0), 1);
    assert!(matches!(&answers[1], Err(BrokerError::PreconditionFailed(at)) if at.offset == 1));
    assert_eq!((offset(2), offset(3), offset(4)), (1, 2, 2));
    assert!(answers[4].as_ref().unwrap().duplicate);
    assert!(broker.publish(Vec::new()).await.is_empty());
}

pub(crate) async fn what_was_acknowledged_is_there_after_reopening(lab: &impl Lab) {
    let (broker, _) = open(lab).await;
    let a = channel("a");
    for n in 0..20 {
        put(&*broker, keyed(&a, &format!("k{}", n % 4), &n.to_string())).await;
    }
    let log = history(&*broker, &a, Range::After(0)).await;
    let kept = state(&*broker, &a, 0).await;
    drop(broker);
    let (broker, _) = open(lab).await;
    assert_eq!(history(&*broker, &a, Range::After(0)).await, log);
    assert_eq!(state(&*broker, &a, 0).await, kept);
    let next = put(&*broker, publish(&a, "21")).await;
    assert_eq!(
        next,
        Position {
            epoch: log.head.position.epoch,
            offset: 21
        }
    );
}

pub(crate) async fn follow_is_the_exact_cut_between_read_and_announced(lab: &impl Lab) {
    let (broker, heard) = open(lab).await;
    let (a, b) = (channel("a"), channel("b"));
    put(&*broker, publish(&a, "1")).await;
    let heads = broker.follow(&[a.clone(), b.clone()]).await.unwrap();
    assert_eq!(heads[0].position.offset, 1);
    assert_eq!(heads[1].position.offset, 0);
    assert_eq!(
        broker.follow(std::slice::from_ref(&a)).await.unwrap(),
        heads[..1]
    );
    let batch = vec![publish(&a, "2"), publish(&b, "1"), publish(&a, "3")];
    broker.publish(batch).await;
    until("all announced", || async {
        heard.offsets(&a).len() + heard.offsets(&b).len() == 3
    })
    .await;
    assert_eq!(heard.offsets(&a), [2, 3]);
    assert_eq!(heard.offsets(&b), [1]);
    until("flushed", || async {
        heard.all().last() == Some(&Told::Flush)
    })
    .await;
    let page = history(&*broker, &a, Range::After(1)).await;
    for told in heard.all() {
        if let Told::Append(name, epoch, publication) = told
            && name == a
        {
            assert_eq!(epoch, heads[0].position.epoch);
            assert!(
                page.items.contains(&publication),
                "announced as history holds it"
            );
        }
    }
}

pub(crate) async fn an_unknown_channel_keeps_its_epoch_from_follow_to_first_publication(
    lab: &impl Lab,
) {
    let (broker, _) = open(lab).await;
    let (a, b) = (channel("a"), channel("b"));
    let followed = broker
        .follow(std::slice::from_ref(&a))
        .await
        .unwrap()
        .remove(0);
    assert_eq!((followed.first, followed.state_floor), (1, 0));
    assert_eq!(head(&*broker, &a).await, followed);
    assert_ne!(
        head(&*broker, &b).await.position.epoch,
        followed.position.epoch
    );
    assert_eq!(
        put(&*broker, publish(&a, "1")).await.epoch,
        followed.position.epoch
    );
    let (broker, _) = open(lab).await;
    assert_eq!(
        put(&*broker, publish(&a, "2")).await.epoch,
        followed.position.epoch
    );
}

pub(crate) async fn unfollowed_channels_are_not_announced(lab: &impl Lab) {
    let (broker, heard) = open(lab).await;
    let (a, b) = (channel("a"), channel("b"));
    broker.follow(&[a.clone(), b.clone()]).await.unwrap();
    broker.unfollow(&a);
    put(&*broker, publish(&a, "1")).await;
    put(&*broker, publish(&b, "1")).await;
    until("b announced", || async { heard.offsets(&b) == [1] }).await;
    assert!(heard.offsets(&a).is_empty());
}

pub(crate) async fn history_pages_both_ways(lab: &impl Lab) {
    let (broker, _) = open(lab).await;
    let a = channel("a");
    for n in 1..=10 {
        put(&*broker, publish(&a, &n.to_string())).await;
    }
    let page = |range, items, bytes| {
        let (broker, a) = (&broker, &a);
        async move {
            let page = broker
                .history(a, range, PageLimit { items, bytes })
                .await
                .unwrap();
            (offsets(&page), page.more)
        }
    };
    assert_eq!(page(Range::After(0), 3, 1000).await, (vec![1, 2, 3], true));
    assert_eq!(
        page(Range::After(7), 3, 1000).await,
        (vec![8, 9, 10], false)
    );
    assert_eq!(page(Range::After(10), 3, 1000).await, (vec![], false));
    assert_eq!(page(Range::After(99), 3, 1000).await, (vec![], false));
    assert_eq!(
        page(Range::Before(None), 3, 1000).await,
        (vec![8, 9, 10], true)
    );
    assert_eq!(
        page(Range::Before(Some(4)), 3, 1000).await,
        (vec![1, 2, 3], false)
    );
    assert_eq!(
        page(Range::Before(Some(4)), 2, 1000).await,
        (vec![2, 3], true)
    );
    assert_eq!(page(Range::Before(Some(1)), 2, 1000).await, (vec![], false));
    assert_eq!(
        page(Range::After(0), 3, 0).await,
        (vec![1], true),
        "one item at least"
    );
    assert_eq!(page(Range::Before(None), 3, 0).await, (vec![10], true));
}

pub(crate) async fn history_keeps_its_size_and_only_its_time(lab: &impl Lab) {
    let (broker, _) = open(lab).await;
    let (a, b) = (channel("a"), channel("b"));
    let five = Retention {
        history_size: 5,
        state: false,
        ..KEEPS
    };
    for n in 0..12 {
        put(
            &*broker,
            Publish {
                retention: five,
                ..publish(&a, &n.to_string())
            },
        )
        .await;
    }
    let page = history(&*broker, &a, Range::After(2)).await;
    assert_eq!(offsets(&page), [8, 9, 10, 11, 12]);
    assert_eq!((page.head.first, page.head.position.offset), (8, 12));
    let short = Retention {
        history_ttl_ms: 30,
        state: false,
        ..KEEPS
    };
    put(
        &*broker,
        Publish {
            retention: short,
            ..publish(&b, "1")
        },
    )
    .await;
    until("b's history is over", || async {
        head(&*broker, &b).await.first == 2
    })
    .await;
    assert!(offsets(&history(&*broker, &b, Range::After(0)).await).is_empty());
    drop(broker);
    let (broker, _) = open(lab).await;
    assert_eq!(history(&*broker, &a, Range::After(2)).await, page);
    assert_eq!(head(&*broker, &b).await.first, 2);
}

pub(crate) async fn a_channel_without_history_counts_on(lab: &impl Lab) {
    let (broker, heard) = open(lab).await;
    let a = channel("a");
    let none = Retention {
        history_size: 0,
        state: false,
        ..KEEPS
    };
    let item = || Publish {
        retention: none,
        ..publish(&a, "1")
    };
    broker.follow(std::slice::from_ref(&a)).await.unwrap();
    for offset in 1..=3 {
        assert_eq!(put(&*broker, item()).await.offset, offset);
    }
    until("announced", || async { heard.offsets(&a) == [1, 2, 3] }).await;
    let before = head(&*broker, &a).await;
    assert_eq!((before.first, before.position.offset), (4, 3));
    drop(broker);
    let (broker, _) = open(lab).await;
    assert_eq!(head(&*broker, &a).await, before);
    assert_eq!(put(&*broker, item()).await.offset, 4);
}

pub(crate) async fn delete_begins_another_life(lab: &impl Lab) {
    let (broker, heard) = open(lab).await;
    let a = channel("a");
    broker.follow(std::slice::from_ref(&a)).await.unwrap();
    let old = put(&*broker, with_id(keyed(&a, "k", "1"), "i")).await;
    let new = broker.delete(&a).await.unwrap();
    assert_ne!(new.position.epoch, old.epoch);
    assert_eq!((new.position.offset, new.first, new.state_floor), (0, 1, 0));
    until("reset", || async {
        heard.all().contains(&Told::Reset(a.clone(), new.clone()))
    })
    .await;
    drop(broker);
    let (broker, _) = open(lab).await;
    assert_eq!(head(&*broker, &a).await, new);
    assert!(state(&*broker, &a, 0).await.items.is_empty());
    let again = one(&*broker, with_id(keyed(&a, "k", "1"), "i"))
        .await
        .unwrap();
    assert!(!again.duplicate);
    assert_eq!(
        again.position,
        Position {
            offset: 1,
            ..new.position
        }
    );
}

pub(crate) async fn blank_keeps_the_offset_and_nothing_else(lab: &impl Lab) {
    let (broker, heard) = open(lab).await;
    let a = channel("a");
    broker.follow(std::slice::from_ref(&a)).await.unwrap();
    for n in 1..=3 {
        put(
            &*broker,
            Publish {
                event: Some(name("e")),
                ..keyed(&a, &format!("k{n}"), "secret")
            },
        )
        .await;
    }
    put(&*broker, keyed(&a, "k2", "newer")).await;
    broker.blank(&a, 2).await.unwrap();
    until("told", || async {
        heard.all().contains(&Told::Blank(a.clone(), 2))
    })
    .await;
    assert_eq!(broker.blank(&a, 5).await, Err(BrokerError::Gone));
    assert_eq!(broker.blank(&channel("b"), 1).await, Err(BrokerError::Gone));
    for _ in 0..2 {
        let (broker, _) = open(lab).await;
        let page = history(&*broker, &a, Range::After(0)).await;
        assert_eq!(offsets(&page), [1, 2, 3, 4]);
        let blank = &page.items[1];
        assert!(blank.deleted && blank.payload.is_none());
        assert!(blank.key.is_none() && blank.event.is_none());
        assert_eq!(text(&page.items[2]), "secret");
        assert_eq!(
            state(&*broker, &a, 0).await.items.len(),
            3,
            "k2 was newer already"
        );
    }
}

pub(crate) async fn channels_are_listed_by_prefix_in_name_order(lab: &impl Lab) {
    let (broker, _) = open(lab).await;
    for name in ["chat:b", "chat:a", "other", "chat:c", "chat"] {
        put(&*broker, publish(&channel(name), "1")).await;
    }
    let list = |prefix: &'static str, after: Option<&'static str>, limit| {
        let broker = &broker;
        async move {
            let rows = broker.channels(prefix, after, limit).await.unwrap();
            assert!(rows.iter().all(|(_, head)| head.position.offset == 1));
            rows.iter()
                .map(|(name, _)| name.as_str().to_owned())
                .collect::<Vec<_>>()
        }
    };
    assert_eq!(
        list("chat:", None, 10).await,
        ["chat:a", "chat:b", "chat:c"]
    );
    assert_eq!(list("chat:", Some("chat:a"), 1).await, ["chat:b"]);
    assert_eq!(list("chat:", Some("chat:c"), 10).await, [""; 0]);
    assert_eq!(list("", None, 10).await.len(), 5);
}

pub(crate) async fn everything_of_a_publication_comes_back(lab: &impl Lab) {
    let (broker, _) = open(lab).await;
    let a = channel("a");
    let full = Publish {
        event: Some(name("moved")),
        by: Some(name("ann")),
        ttl_ms: Some(60_000),
        ..with_id(keyed(&a, "käfer", r#"{"x":"ü"}"#), "id-1")
    };
    put(&*broker, full).await;
    put(
        &*broker,
        Publish {
            payload: Some(Payload::Bytes(vec![0, 255].into())),
            ..publish(&a, "")
        },
    )
    .await;
    put(
        &*broker,
        Publish {
            payload: Some(Payload::Bytes(Vec::new().into())),
            ..publish(&a, "")
        },
    )
    .await;
    put(&*broker, publish(&channel("a").presence(), "{}")).await;
    for _ in 0..2 {
        let (broker, _) = open(lab).await;
        let page = history(&*broker, &a, Range::After(0)).await;
        let first = &page.items[0];
        assert_eq!(text(first), r#"{"x":"ü"}"#);
        assert_eq!(first.key, Some(name("käfer")));
        assert_eq!(first.event, Some(name("moved")));
        assert_eq!(first.id, Some(name("id-1")));
        assert_eq!(first.by, Some(name("ann")));
        assert_eq!(first.expires, Some(first.ts + 60_000));
        assert_eq!(
            page.items[1].payload,
            Some(Payload::Bytes(vec![0, 255].into()))
        );
        assert_eq!(
            page.items[2].payload,
            Some(Payload::Bytes(Vec::new().into()))
        );
        assert_eq!(head(&*broker, &a.presence()).await.position.offset, 1);
    }
}
