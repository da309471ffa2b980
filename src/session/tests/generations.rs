//! What a subscription is told when its log goes on in another generation, step by step.

use bytes::Bytes;
use tidewire_protocol::{
    Frame, Payload, decode,
    frame::{GapReason, Publication, Recovery, StateItem},
};

use super::*;
use crate::{
    broker::{
        HistoryPage, StatePage,
        lineage::{Lineage, Segment},
    },
    channel::{HEADER_BYTES_MAX, Message, Page, Settled},
};

const ONE: (&str, u64) = ("life.00000001test.1.", 1);
/// What follows generation 1 with all of its five publications, and with three of them.
const WHOLE: (&str, u64) = ("life.00000002test.6.00000001test", 6);
const LAGGED: (&str, u64) = ("life.00000002test.4.00000001test", 4);

fn log(segments: &[(&str, u64)], offset: u64) -> Head {
    let segments = segments.iter().map(|(text, start)| Segment {
        epoch: epoch(text),
        start: *start,
    });
    let lineage = Lineage::new(segments.collect()).unwrap();
    Head {
        position: position(lineage.epoch().as_str(), offset),
        first: 1,
        state_floor: 0,
        lineage,
    }
}

fn publication(offset: u64) -> Arc<Publication> {
    Arc::new(Publication {
        offset,
        ts: offset,
        payload: Some(Payload::bytes(Bytes::from_static(b"x"))),
        key: Some(Name::new("k").unwrap()),
        event: None,
        id: None,
        by: None,
        deleted: false,
        expires: None,
    })
}

/// A session whose only subscription has been given the five publications of generation 1.
fn follower(mode: Mode, fallback: Fallback) -> (Session, Arc<Channel>, u8) {
    let options = ChannelOptions {
        counts: None,
        keeps_history: true,
        tail_bytes: 1 << 20,
    };
    let channel = Channel::new(ChannelName::new("room:1").unwrap(), options);
    assert!(channel.cut(&log(&[ONE], 0)));
    let channel = Arc::new(channel);
    let mut session = session();
    let wishes = Wishes {
        mode,
        fallback,
        ..wishes()
    };
    let slot = subscribe(&mut session, &channel, wishes, 0).unwrap();
    for offset in 1..=5 {
        channel.append(&epoch(ONE.0), &publication(offset));
    }
    assert_eq!(
        read(&mut session, slot).len(),
        if mode == Mode::Every { 5 } else { 1 }
    );
    (session, channel, slot)
}

/// What one read tells the client.
fn read(session: &mut Session, slot: u8) -> Vec<Frame> {
    let sub = session.sub_mut(slot).unwrap();
    let mut message = Message::reusing(Encoding::Json, Vec::new());
    let (step, _) = Step::read(slot, sub, &mut message, 1 << 16);
    sub.move_to(step.progress);
    frames(message)
}

/// What a page of state tells it that asks for one from an offset on.
fn load(session: &mut Session, slot: u8, from: u64, head: &Head, offsets: &[u64]) -> Vec<Frame> {
    let sub = session.sub_mut(slot).unwrap();
    assert!(matches!(Need::of(sub), Need::State(query) if query.from == from));
    let items = offsets.iter().map(|offset| StateItem {
        epoch: head.position.epoch.clone(),
        publication: publication(*offset),
    });
    let page = Loaded::State(StatePage {
        head: head.clone(),
        items: items.collect(),
        more: false,
    });
    let mut message = Message::reusing(Encoding::Json, Vec::new());
    let Paged::Moved(step) = put(slot, sub, &page, &mut message) else {
        panic!("it waits for that page");
    };
    sub.move_to(step.progress);
    frames(message)
}

fn frames(message: Message) -> Vec<Frame> {
    let bytes = message.into_bytes();
    match &bytes[HEADER_BYTES_MAX..] {
        [] => Vec::new(),
        bytes => decode::frames(Encoding::Json, bytes).unwrap(),
    }
}

fn settle(channel: &Channel, head: &Head) {
    let (settled, _) = channel.settle(head, channel.version().0);
    assert!(matches!(settled, Settled::Forked { .. }));
}

fn rewind(head: &Head, to: u64, lost: u64) -> Frame {
    Frame::Rewind {
        channel: ChannelName::new("room:1").unwrap(),
        epoch: head.position.epoch.clone(),
        to,
        lost,
    }
}

#[test]
fn where_nothing_was_lost_the_new_epoch_is_all_there_is_to_tell() {
    for (mode, fallback) in [
        (Mode::Every, Fallback::Now),
        (Mode::Every, Fallback::State),
        (Mode::Latest, Fallback::State),
    ] {
        let (mut session, channel, slot) = follower(mode, fallback);
        let head = log(&[ONE, WHOLE], 5);
        settle(&channel, &head);
        assert_eq!(read(&mut session, slot), [rewind(&head, 5, 0)]);
        assert!(read(&mut session, slot).is_empty());
    }
}

#[test]
fn a_boundary_lies_between_the_publications_of_two_generations() {
    let (mut session, channel, slot) = follower(Mode::Every, Fallback::Now);
    channel.append(&epoch(WHOLE.0), &publication(6));
    let told = read(&mut session, slot);
    assert_eq!(told[0], rewind(&log(&[ONE, WHOLE], 6), 5, 0));
    assert!(matches!(&told[1], Frame::Msg { publication, .. } if publication.offset == 6));
}

#[test]
fn what_the_log_lost_is_counted_and_floors_go_back_with_it() {
    let (mut session, channel, slot) = follower(Mode::Every, Fallback::Now);
    session.acknowledge(&[(channel.name().clone(), position(ONE.0, 5))]);
    let head = log(&[ONE, LAGGED], 3);
    settle(&channel, &head);
    // Until it was told, it is where it was.
    let stored = decode_checkpoint(&session.checkpoint()).unwrap();
    assert_eq!(stored.subs[0].floor, position(ONE.0, 5));
    session.acknowledge(&[(channel.name().clone(), position(LAGGED.0, 3))]);
    assert_eq!(read(&mut session, slot), [rewind(&head, 3, 2)]);
    let stored = decode_checkpoint(&session.checkpoint()).unwrap();
    assert_eq!(stored.subs[0].floor, position(LAGGED.0, 3));
    let sub = session.sub(slot).unwrap();
    assert_eq!(sub.progress.phase, Phase::Live);
}

#[test]
fn a_subscription_that_falls_back_on_state_gets_what_is_left_of_it() {
    let (mut session, channel, slot) = follower(Mode::Every, Fallback::State);
    let head = log(&[ONE, LAGGED], 4);
    settle(&channel, &head);
    assert_eq!(read(&mut session, slot), [rewind(&head, 3, 2)]);
    let told = load(&mut session, slot, 1, &head, &[2, 4]);
    let Frame::State { items, more, .. } = &told[0] else {
        panic!("{told:?}");
    };
    let offsets: Vec<_> = items.iter().map(|item| item.publication.offset).collect();
    assert_eq!(
        (&offsets[..], *more),
        (&[2][..], false),
        "the rest comes as msg"
    );
}

#[test]
fn a_reader_of_the_newest_starts_over_with_what_is_left() {
    let (mut session, channel, slot) = follower(Mode::Latest, Fallback::Now);
    let head = log(&[ONE, LAGGED], 4);
    settle(&channel, &head);
    let told = read(&mut session, slot);
    assert_eq!(told[0], rewind(&head, 3, 2));
    let over = Frame::Subscribed {
        i: None,
        channel: channel.name().clone(),
        position: head.position.clone(),
        recovery: Recovery::Reset,
    };
    assert_eq!(told[1], over);
    let told = load(&mut session, slot, 1, &head, &[4]);
    assert!(matches!(&told[0], Frame::State { items, .. } if items.len() == 1));
}

#[test]
fn a_gap_ends_where_its_generation_does() {
    let (mut session, channel, slot) = follower(Mode::Every, Fallback::Now);
    settle(&channel, &log(&[ONE, LAGGED], 9));
    let sub = session.sub_mut(slot).unwrap();
    sub.progress.cursor = 1;
    let page = HistoryPage {
        head: Head {
            first: 6,
            ..log(&[ONE, LAGGED], 9)
        },
        items: (6..=9).map(publication).collect(),
        more: false,
    };
    let page = Loaded::History(Arc::new(Page::new(0, page)));
    let mut message = Message::reusing(Encoding::Json, Vec::new());
    assert!(matches!(
        put(slot, sub, &page, &mut message),
        Paged::Moved(step) if step.progress.cursor == 3
    ));
    let gap = Frame::Gap {
        channel: channel.name().clone(),
        from: 2,
        to: 3,
        reason: GapReason::Expired,
    };
    assert_eq!(frames(message), [gap]);
}

#[test]
fn a_catch_up_from_below_a_dropped_tombstone_starts_over() {
    // The reader has 5. A removal up to there it was told of; one above it never will be.
    for (state_floor, starts_over) in [(5, false), (6, true)] {
        let (mut session, _channel, slot) = follower(Mode::Latest, Fallback::Now);
        let head = Head {
            state_floor,
            ..log(&[ONE], 8)
        };
        let told = load(&mut session, slot, 6, &head, &[7, 8]);
        let over = Frame::Subscribed {
            i: None,
            channel: ChannelName::new("room:1").unwrap(),
            position: head.position.clone(),
            recovery: Recovery::Reset,
        };
        assert_eq!(told.contains(&over), starts_over, "{told:?}");
        let given = |frame: &Frame| matches!(frame, Frame::Msg { .. });
        assert_eq!(told.iter().any(given), !starts_over, "{told:?}");
        if starts_over {
            let whole = load(&mut session, slot, 1, &head, &[7, 8]);
            assert!(matches!(&whole[0], Frame::State { items, .. } if items.len() == 2));
        }
    }
}

#[test]
fn a_page_of_another_log_brings_nothing_and_says_so() {
    let (mut session, channel, slot) = follower(Mode::Every, Fallback::State);
    settle(&channel, &log(&[ONE, LAGGED], 4));
    read(&mut session, slot);
    let sub = session.sub(slot).unwrap();
    let page = Loaded::State(StatePage {
        head: log(&[ONE], 5),
        items: Vec::new(),
        more: false,
    });
    let mut message = Message::reusing(Encoding::Json, Vec::new());
    assert!(matches!(
        put(slot, sub, &page, &mut message),
        Paged::OtherLog
    ));
    assert!(message.is_empty());
}
