//! Pages of history: shared, aligned, whole, and never older than what a reader must see.

use super::*;

/// Offsets a reader gets that walks from `cursor` to the head, and how many pages it took.
async fn walk(lab: &Lab, channel: &Channel, mut cursor: u64) -> (Vec<u64>, usize) {
    let (mut seen, mut pages) = (Vec::new(), 0);
    let head = channel.head().position.offset;
    while cursor < head {
        let page = lab.feed.page(channel, cursor).await.unwrap();
        let frames = page.frames(channel.name(), Encoding::Json);
        let first = page.first().unwrap().max(cursor + 1);
        let last = frames
            .run(first - 1, u64::MAX, usize::MAX >> 1)
            .unwrap()
            .last;
        seen.extend(first..=last);
        cursor = last;
        pages += 1;
    }
    (seen, pages)
}

async fn page(lab: &Lab, channel: &Channel, cursor: u64) -> Arc<Page> {
    lab.feed.page(channel, cursor).await.unwrap()
}

#[tokio::test]
async fn laggards_meet_in_aligned_pages() {
    let lab = Lab::open(SETTINGS);
    let channel = lab.attach(&name("room:1")).await.unwrap();
    for _ in 0..300 {
        lab.publish(channel.name(), 10).await;
    }
    let first = page(&lab, &channel, 0).await;
    assert_eq!(first.first(), Some(1));
    assert!(Arc::ptr_eq(&first, &page(&lab, &channel, 127).await));
    let second = page(&lab, &channel, 128).await;
    assert_eq!(second.first(), Some(129));
    assert!(Arc::ptr_eq(&second, &page(&lab, &channel, 200).await));
    let frames = first.frames(channel.name(), Encoding::Json);
    assert!(std::ptr::eq(
        frames,
        first.frames(channel.name(), Encoding::Json)
    ));
    for cursor in [0, 5, 127, 128, 255, 299] {
        let (seen, _) = walk(&lab, &channel, cursor).await;
        assert_eq!(seen, (cursor + 1..=300).collect::<Vec<_>>());
    }
    assert_eq!(walk(&lab, &channel, 0).await.1, 3);
}

#[tokio::test]
async fn pages_cut_short_by_their_bytes_follow_each_other() {
    let lab = Lab::open(Settings {
        pages_bytes: 256 << 20,
        ..SETTINGS
    });
    let channel = lab.attach(&name("room:1")).await.unwrap();
    for offset in 0..20 {
        let size = if offset == 9 { 300 * 1024 } else { 100 * 1024 };
        lab.publish(channel.name(), size).await;
    }
    for cursor in 0..20 {
        let (seen, _) = walk(&lab, &channel, cursor).await;
        assert_eq!(seen, (cursor + 1..=20).collect::<Vec<_>>());
    }
    let cut = page(&lab, &channel, 0).await;
    lab.publish(channel.name(), 10).await;
    page(&lab, &channel, 20).await;
    assert!(
        Arc::ptr_eq(&cut, &page(&lab, &channel, 0).await),
        "a full page stays"
    );
}

#[tokio::test]
async fn a_page_at_the_head_grows_with_it() {
    let lab = Lab::open(SETTINGS);
    let channel = lab.attach(&name("room:1")).await.unwrap();
    let mut cursor = 0;
    for round in 0..60_u64 {
        for _ in 0..=round % 5 {
            lab.publish(channel.name(), 10).await;
        }
        let (seen, _) = walk(&lab, &channel, cursor).await;
        let head = channel.head().position.offset;
        assert_eq!(seen, (cursor + 1..=head).collect::<Vec<_>>());
        cursor = head;
    }
}

#[tokio::test]
async fn a_page_begins_where_history_does() {
    let lab = Lab::open(SETTINGS);
    let channel = lab.attach(&name("room:1")).await.unwrap();
    let few = Retention {
        history_size: 100,
        ..KEEPS
    };
    for _ in 0..300 {
        lab.publish_kept(channel.name(), 10, few).await;
    }
    assert_eq!(page(&lab, &channel, 0).await.first(), Some(201));
    assert_eq!(page(&lab, &channel, 190).await.first(), Some(201));
    assert_eq!(
        walk(&lab, &channel, 0).await.0,
        (201..=300).collect::<Vec<_>>()
    );
    let none = Retention {
        history_size: 0,
        ..KEEPS
    };
    let volatile = lab.attach(&name("volatile:1")).await.unwrap();
    lab.publish_kept(volatile.name(), 10, none).await;
    let empty = page(&lab, &volatile, 0).await;
    assert_eq!((empty.first(), empty.head.position.offset), (None, 1));
}

#[tokio::test]
async fn a_blanked_entry_is_gone_from_pages_at_once() {
    let lab = Lab::open(SETTINGS);
    let channel = lab.attach(&name("room:1")).await.unwrap();
    for _ in 0..5 {
        lab.publish(channel.name(), 10).await;
    }
    let before = page(&lab, &channel, 0).await;
    lab.gate.blank(channel.name(), 3).await.unwrap();
    let after = page(&lab, &channel, 0).await;
    let bytes = |page: &Page| {
        let frames = page.frames(channel.name(), Encoding::Json);
        frames.frame(3).unwrap().to_vec()
    };
    assert!(bytes(&after).len() < bytes(&before).len());
    assert_eq!(walk(&lab, &channel, 0).await.0, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn pages_of_another_life_or_of_before_the_channel_was_let_go_of_are_not_served() {
    let lab = Lab::open(SETTINGS);
    let channel = lab.attach(&name("room:1")).await.unwrap();
    for _ in 0..5 {
        lab.publish(channel.name(), 10).await;
    }
    let old = page(&lab, &channel, 0).await;
    lab.gate.delete(channel.name()).await.unwrap();
    lab.publish(channel.name(), 10).await;
    let new = page(&lab, &channel, 0).await;
    assert_ne!(old.head.position.epoch, new.head.position.epoch);
    assert_eq!(walk(&lab, &channel, 0).await.0, [1]);
    lab.feed.sweep(u64::MAX).await;
    lab.gate.blank(channel.name(), 1).await.unwrap();
    let again = lab.attach(channel.name()).await.unwrap();
    assert!(!Arc::ptr_eq(&new, &page(&lab, &again, 0).await));
}
