//! What is let go of: channels nobody reads, and tails over the node's budget.

use super::*;
use crate::clock;

#[tokio::test]
async fn a_channel_goes_after_its_linger_and_only_without_readers() {
    let lab = Lab::open(SETTINGS);
    let (read, unread) = (name("read"), name("unread"));
    let channel = lab.attach(&read).await.unwrap();
    let joined = channel.join(Arc::new(Waiting::default()), 0, VIEW).unwrap();
    let let_go = lab.attach(&unread).await.unwrap();
    let now_ms = clock::now_ms();
    lab.feed.sweep(now_ms).await;
    assert_eq!(lab.feed.logs().len(), 2, "somebody is about to join");
    lab.feed.sweep(now_ms + SETTINGS.linger_ms + 60_000).await;
    assert_eq!(lab.feed.logs().len(), 1);
    assert!(let_go.join(Arc::new(Waiting::default()), 0, VIEW).is_none());
    lab.publish(&unread, 10).await;
    assert_eq!(let_go.head().position.offset, 0, "it is not followed");
    let again = lab.attach(&unread).await.unwrap();
    assert_eq!(again.head().position.offset, 1);
    lab.publish(&unread, 10).await;
    assert_eq!(again.head().position.offset, 2);
    lab.publish(&read, 10).await;
    assert_eq!(channel.head().position.offset, 1);
    channel.leave(joined.key, VIEW);
    channel.touch(now_ms);
    lab.feed.sweep(now_ms + SETTINGS.linger_ms).await;
    assert_eq!(lab.feed.logs().len(), 2);
    lab.feed.sweep(u64::MAX).await;
    assert_eq!(lab.feed.logs().len(), 0);
}

#[tokio::test]
async fn a_channel_whose_head_is_awaited_stays() {
    let lab = Arc::new(Lab::gated(SETTINGS));
    let channel = name("room:1");
    let attaching = {
        let (lab, channel) = (Arc::clone(&lab), channel.clone());
        tokio::spawn(async move { lab.attach(&channel).await })
    };
    lab.followed(1).await;
    assert!(lab.feed.logs().sweep(u64::MAX).is_empty());
    lab.gate.heads.add_permits(1);
    attaching.await.unwrap().unwrap();
}

#[tokio::test]
async fn tails_over_the_budget_go_least_recently_read_first_and_only_copies_last() {
    let lab = Lab::open(Settings {
        tails_bytes: 90_000,
        linger_ms: u64::MAX,
        ..SETTINGS
    });
    let mut channels = Vec::new();
    for (text, keeps_history, read_at) in [("new", true, 9), ("old", true, 5), ("only", false, 1)] {
        let wanted = [(name(text), options(keeps_history))];
        let attached = lab.feed.attach(&wanted).await.pop().unwrap();
        let channel = attached.unwrap().channel;
        channel.join(Arc::new(Waiting::default()), 0, VIEW).unwrap();
        for _ in 0..3 {
            lab.publish(channel.name(), 10_000).await;
        }
        channel.touch(read_at);
        channels.push(channel);
    }
    let held = |channels: &[Arc<Channel>]| -> Vec<bool> {
        channels
            .iter()
            .map(|channel| channel.frame_bytes() > 0)
            .collect()
    };
    lab.feed.sweep(10).await;
    assert_eq!(held(&channels), [true, false, true]);
    for _ in 0..3 {
        lab.publish(channels[2].name(), 10_000).await;
        lab.publish(channels[1].name(), 10_000).await;
    }
    channels[1].touch(10);
    lab.feed.sweep(10).await;
    assert_eq!(held(&channels), [false, false, true]);
}
