//! Interest: declared once, nothing lost on the way, and nothing lost when it is withdrawn.

use super::*;
use crate::channel::{Message, Place, Read};

fn spawn_attach(
    lab: &Arc<Lab>,
    name: &ChannelName,
) -> tokio::task::JoinHandle<Result<Arc<Channel>, BrokerError>> {
    let (lab, name) = (Arc::clone(lab), name.clone());
    tokio::spawn(async move { lab.attach(&name).await })
}

#[tokio::test]
async fn many_who_want_a_channel_at_once_share_one_step() {
    let lab = Arc::new(Lab::gated(SETTINGS));
    let channel = name("room:1");
    let attaching: Vec<_> = (0..50).map(|_| spawn_attach(&lab, &channel)).collect();
    lab.followed(1).await;
    attaching[0].abort();
    lab.gate.heads.add_permits(1);
    let mut attached = Vec::new();
    for attaching in attaching.into_iter().skip(1) {
        attached.push(attaching.await.unwrap().unwrap());
    }
    assert!(attached.iter().all(|one| Arc::ptr_eq(one, &attached[0])));
    assert_eq!(lab.gate.follows.load(Ordering::SeqCst), 1);
    assert_eq!(lab.feed.logs().len(), 1);
}

#[tokio::test]
async fn what_is_published_before_the_head_is_known_counts_into_it() {
    let lab = Arc::new(Lab::gated(SETTINGS));
    let channel = name("room:1");
    lab.publish(&channel, 1).await;
    let attaching = spawn_attach(&lab, &channel);
    lab.followed(1).await;
    for _ in 0..1_500 {
        lab.publish(&channel, 1).await;
    }
    lab.gate.heads.add_permits(1);
    let attached = attaching.await.unwrap().unwrap();
    assert_eq!(attached.head().position.offset, 1_501);
}

#[tokio::test]
async fn a_log_that_begins_another_life_meanwhile_is_met_in_that_one() {
    let lab = Arc::new(Lab::gated(SETTINGS));
    let channel = name("room:1");
    for _ in 0..5 {
        lab.publish(&channel, 1).await;
    }
    let attaching = spawn_attach(&lab, &channel);
    lab.followed(1).await;
    lab.publish(&channel, 1).await;
    let head = lab.gate.delete(&channel).await.unwrap();
    lab.publish(&channel, 1).await;
    lab.gate.heads.add_permits(2);
    let attached = attaching.await.unwrap().unwrap();
    let position = attached.head().position;
    assert_eq!((position.epoch, position.offset), (head.position.epoch, 1));
    lab.publish(&channel, 1).await;
    assert_eq!(attached.head().position.offset, 2);
}

#[tokio::test]
async fn a_head_that_cannot_be_read_is_told_to_all_and_asked_for_again() {
    let lab = Arc::new(Lab::gated(SETTINGS));
    let (known, failing) = (name("known"), name("failing"));
    lab.gate.heads.add_permits(1);
    lab.attach(&known).await.unwrap();
    lab.gate.refuses.store(true, Ordering::SeqCst);
    let attaching: Vec<_> = (0..5).map(|_| spawn_attach(&lab, &failing)).collect();
    lab.followed(2).await;
    lab.gate.heads.add_permits(1);
    for attaching in attaching {
        assert_eq!(
            attaching.await.unwrap().err(),
            Some(BrokerError::Unavailable)
        );
    }
    lab.attach(&known).await.unwrap();
    assert_eq!(lab.feed.logs().len(), 1);
    lab.gate.refuses.store(false, Ordering::SeqCst);
    lab.gate.heads.add_permits(1);
    lab.attach(&failing).await.unwrap();
}

/// Joins, publishes one itself, and reads from where it joined until it sees that one: whoever is
/// not told, or reads a channel that is not followed, waits for good.
async fn join_and_see(lab: &Lab, name: &ChannelName) {
    let reader = Arc::new(Waiting::default());
    let (channel, joined) = loop {
        let channel = lab.attach(name).await.unwrap();
        if let Some(joined) = channel.join(Arc::clone(&reader) as _, 0, VIEW) {
            break (channel, joined);
        }
    };
    let mine = lab.publish(name, 10).await;
    let mut cursor = joined.head.position.offset;
    while cursor < mine {
        let mut message = Message::reusing(VIEW.encoding, Vec::new());
        let place = Place {
            life: joined.head.life,
            segment: joined.head.segment,
            cursor,
        };
        match channel.read(Mode::Every, place, &mut message, 1_000) {
            Read::Copied {
                cursor: to, count, ..
            } => {
                assert_eq!(to, cursor + count);
                cursor = to;
            }
            Read::AtHead => reader.told.notified().await,
            Read::Behind => {
                let page = lab.feed.page(&channel, cursor).await.unwrap();
                let frames = page.frames(name, VIEW.encoding);
                cursor = frames.run(cursor, u64::MAX, 1_000).unwrap().last;
            }
            other => panic!("{other:?}"),
        }
    }
    channel.leave(joined.key, VIEW);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn thousands_who_join_while_others_publish_and_channels_are_let_go_of_miss_nothing() {
    let lab = Arc::new(Lab::open(Settings {
        linger_ms: 0,
        ..SETTINGS
    }));
    let done = Arc::new(AtomicBool::new(false));
    let sweeping = {
        let (lab, done) = (Arc::clone(&lab), Arc::clone(&done));
        tokio::spawn(async move {
            while !done.load(Ordering::Relaxed) {
                lab.feed.sweep(u64::MAX).await;
                tokio::task::yield_now().await;
            }
        })
    };
    let joiners: Vec<_> = (0..8_usize)
        .map(|number| {
            let lab = Arc::clone(&lab);
            let name = name(&format!("storm:{}", number % 6));
            tokio::spawn(async move {
                for _ in 0..500 {
                    join_and_see(&lab, &name).await;
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for joiner in joiners {
        let joined = tokio::time::timeout(PATIENCE, joiner).await;
        joined.expect("nobody waits for good").unwrap();
    }
    done.store(true, Ordering::Relaxed);
    sweeping.await.unwrap();
    let follows = lab.gate.follows.load(Ordering::SeqCst);
    assert!(follows > 100, "channels were let go of and followed again");
}
