//! Sessions written down and read back, by this version and its neighbours.

use bytes::Bytes;
use proptest::prelude::*;
use serde::Serialize;

use super::*;

fn fallback() -> impl Strategy<Value = Fallback> {
    prop_oneof![
        Just(Fallback::Now),
        Just(Fallback::State),
        any::<u32>().prop_map(Fallback::Last),
    ]
}

fn member() -> impl Strategy<Value = Box<Member>> {
    ("[a-zA-Z0-9ü/]{1,60}", "[ -~é]{0,80}").prop_map(|(key, me)| {
        Box::new(Member {
            key: Name::new(&key).unwrap(),
            me: Bytes::from(me),
        })
    })
}

fn any_wishes() -> impl Strategy<Value = Wishes> {
    let hz = proptest::option::of(1..1_000_u32);
    (
        any::<bool>(),
        fallback(),
        hz,
        proptest::option::of(member()),
    )
        .prop_map(|(is_latest, fallback, hz, member)| Wishes {
            mode: if is_latest { Mode::Latest } else { Mode::Every },
            fallback,
            hz,
            member,
        })
}

proptest! {
    #[test]
    fn a_session_comes_back_as_it_was(
        subs in proptest::collection::vec((any_wishes(), 0..1_u64 << 53), 0..12),
        removed in proptest::collection::vec(0..12_u8, 0..4),
    ) {
        let mut session = session();
        for (number, (wishes, offset)) in subs.iter().enumerate() {
            let channel = channel(&format!("room:{number} ü"), *offset);
            subscribe(&mut session, &channel, wishes.clone(), *offset);
        }
        for slot in removed {
            session.remove(slot);
        }
        let happened = [
            What::Began,
            What::Closed { code: None },
            What::Resumed(Recoveries { full: 2, reset: 1, fresh: 0 }),
            What::Closed { code: Some(4512) },
        ];
        for what in happened {
            session.events.push(Event { at: 7, node: Box::from("n-1"), what });
        }
        let events = session.events.as_slice().to_vec();
        let expected: Vec<_> = session
            .subs()
            .map(|(_, sub)| StoredSub {
                channel: sub.channel.name().clone(),
                floor: position("a", sub.floor),
                is_unheard: false,
                mode: sub.wishes.mode,
                fallback: sub.wishes.fallback,
                hz: sub.wishes.hz,
                member: sub.wishes.member.clone(),
            })
            .collect();
        let stored = decode_checkpoint(&session.checkpoint());
        prop_assert_eq!(stored, Some(Stored { subs: expected, events }));
    }

    #[test]
    fn bytes_that_are_no_checkpoint_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let decoded = decode_checkpoint(&bytes);
        prop_assert!(bytes.is_empty() || decoded.is_none_or(|stored| stored.subs.is_empty()));
    }

    #[test]
    fn a_damaged_checkpoint_never_panics(at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>()) {
        let mut session = session();
        for number in 0..3 {
            let channel = channel(&format!("room:{number}"), 9);
            subscribe(&mut session, &channel, wishes(), 9);
        }
        let mut bytes = session.checkpoint().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.truncate(cut.index(bytes.len()) + 1);
        decode_checkpoint(&bytes);
    }
}

#[test]
fn a_session_just_claimed_has_an_empty_checkpoint() {
    assert_eq!(decode_checkpoint(b""), Some(Stored::default()));
}

#[derive(Serialize)]
struct Newer {
    colour: &'static str,
    subs: Vec<NewerEntry>,
}

#[derive(Serialize)]
struct NewerEntry {
    ch: &'static str,
    shape: Vec<u32>,
    e: &'static str,
    o: u64,
}

#[test]
fn fields_of_a_newer_version_are_ignored_and_missing_ones_have_defaults() {
    let entry = |ch| NewerEntry {
        ch,
        shape: vec![1, 2],
        e: "a",
        o: 7,
    };
    let body = Newer {
        colour: "blue",
        subs: vec![entry("room:1"), entry("not a\u{0}name")],
    };
    let stored = decode_checkpoint(&rmp_serde::to_vec_named(&body).unwrap()).unwrap();
    let expected = StoredSub {
        channel: ChannelName::new("room:1").unwrap(),
        floor: position("a", 7),
        is_unheard: false,
        mode: Mode::Every,
        fallback: Fallback::Now,
        hz: None,
        member: None,
    };
    assert_eq!(stored.subs, [expected], "what is no name is left out");
}

#[test]
fn a_cursor_that_means_nothing_is_not_written_down() {
    let mut session = session();
    let ended = channel("ended:1", 40);
    subscribe(&mut session, &ended, wishes(), 40);
    ended.reset(&head("b", 3));
    let shown = channel("shown:1", 40);
    let slot = subscribe(&mut session, &shown, wishes(), 40).unwrap();
    session.sub_mut(slot).unwrap().progress.phase = Phase::Snapshot { from: 12 };
    for stored in decode_checkpoint(&session.checkpoint()).unwrap().subs {
        assert_eq!(stored.floor.epoch, Epoch::unknown(), "{}", stored.channel);
    }
}

#[test]
fn a_reset_is_told_again_until_its_beginning_is_acknowledged() {
    let mut session = session();
    let room = channel("room:1", 16);
    let slot = subscribe(&mut session, &room, wishes(), 3).unwrap();
    let over = Progress {
        begun: 16,
        ..start_at(16, Phase::Live).progress
    };
    session.sub_mut(slot).unwrap().move_to(over);
    let written = |session: &mut Session| {
        let stored = decode_checkpoint(&session.checkpoint()).unwrap().subs;
        (stored[0].floor.clone(), stored[0].is_unheard)
    };
    assert_eq!(written(&mut session), (position("a", 16), true));
    session.acknowledge(&[(room.name().clone(), position("a", 3))]);
    assert!(written(&mut session).1, "what was handled lay before it");
    session.acknowledge(&[(room.name().clone(), position("a", 16))]);
    assert_eq!(written(&mut session), (position("a", 16), false));
    let sub = session.sub_mut(slot).unwrap();
    sub.wishes.fallback = Fallback::State;
    sub.is_unheard = true;
    let (floor, _) = written(&mut session);
    assert_eq!(floor.epoch, Epoch::unknown(), "its snapshot is owed again");
}
