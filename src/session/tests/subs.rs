//! Slots, acknowledgements, and what is owed to the store.

use super::*;

fn acknowledge(session: &mut Session, channel: &Channel, epoch: &str, offset: u64) {
    session.acknowledge(&[(channel.name().clone(), position(epoch, offset))]);
}

#[test]
fn a_floor_rises_to_what_was_handled_and_never_falls() {
    let channel = channel("room:1", 100);
    let mut session = session();
    let slot = subscribe(&mut session, &channel, wishes(), 10).unwrap();
    session.sub_mut(slot).unwrap().progress.cursor = 50;
    session.checkpoint();
    let rows = [
        ("a", 9, 10, Unwritten::None),
        ("a", 10, 10, Unwritten::None),
        ("b", 40, 10, Unwritten::None),
        ("a", 30, 30, Unwritten::Floors),
        ("a", 20, 30, Unwritten::None),
        ("a", 51, 50, Unwritten::Floors),
        ("a", u64::MAX, 50, Unwritten::None),
    ];
    for (epoch, offset, floor, unwritten) in rows {
        acknowledge(&mut session, &channel, epoch, offset);
        assert_eq!(session.sub(slot).unwrap().floor, floor, "{epoch}/{offset}");
        assert_eq!(session.unwritten(), unwritten, "{epoch}/{offset}");
        session.checkpoint();
    }
    session.acknowledge(&[(ChannelName::new("other").unwrap(), position("a", 60))]);
    assert_eq!(session.unwritten(), Unwritten::None);
}

#[test]
fn where_a_delivery_begins_counts_as_acknowledged() {
    let channel = channel("room:1", 100);
    let mut session = session();
    subscribe(&mut session, &channel, wishes(), 10).unwrap();
    let stored = decode_checkpoint(&session.checkpoint()).unwrap();
    assert_eq!(stored.subs[0].floor, position("a", 10));
}

#[test]
fn another_life_begins_with_nothing_acknowledged() {
    let channel = channel("room:1", 500);
    let mut session = session();
    let slot = subscribe(&mut session, &channel, wishes(), 500).unwrap();
    channel.reset(&head("b", 3));
    acknowledge(&mut session, &channel, "b", 3);
    assert_eq!(session.sub(slot).unwrap().floor, 500, "not its life yet");
    let next = Progress {
        life: 1,
        segment: 0,
        cursor: 6,
        left_out: 3,
        begun: 3,
        phase: Phase::Replay,
        replayed: 0,
    };
    session.sub_mut(slot).unwrap().move_to(next);
    assert_eq!(session.sub(slot).unwrap().floor, 3);
    let stored = decode_checkpoint(&session.checkpoint()).unwrap();
    assert_eq!(stored.subs[0].floor, position("b", 3));
    assert!(stored.subs[0].is_unheard);
    session
        .sub_mut(slot)
        .unwrap()
        .move_to(Progress { cursor: 9, ..next });
    acknowledge(&mut session, &channel, "b", 7);
    assert_eq!(session.sub(slot).unwrap().floor, 7);
    let stored = decode_checkpoint(&session.checkpoint()).unwrap();
    assert_eq!(stored.subs[0].floor, position("b", 7));
    assert!(!stored.subs[0].is_unheard);
}

#[test]
fn a_session_holds_as_many_subscriptions_as_there_are_slots() {
    let mut session = session();
    for number in 0..SUBSCRIPTIONS_MAX {
        let channel = channel(&format!("room:{number}"), 0);
        let slot = subscribe(&mut session, &channel, wishes(), 0);
        assert_eq!(slot.map(usize::from), Some(number));
    }
    assert_eq!(session.free_slot(), None);
    assert_eq!(session.len(), SUBSCRIPTIONS_MAX);
    let gone = ChannelName::new("room:77").unwrap();
    assert_eq!(session.slot_of(&gone), Some(77));
    assert!(
        session
            .remove(77)
            .is_some_and(|sub| *sub.channel.name() == gone)
    );
    assert!(session.remove(77).is_none());
    assert_eq!(session.slot_of(&gone), None);
    assert_eq!(session.free_slot(), Some(77));
    let numbers: Vec<_> = session.subs().map(|(_, sub)| sub.number).collect();
    assert!(numbers.is_sorted_by(|one, next| one < next));
    assert_eq!(session.subs().count(), SUBSCRIPTIONS_MAX - 1);
    let again = channel("room:77", 0);
    assert_eq!(subscribe(&mut session, &again, wishes(), 0), Some(77));
    let number = session.sub(77).unwrap().number;
    assert!(
        !numbers.contains(&number),
        "a slot's next tenant is another"
    );
    assert_eq!(session.remove_all().len(), SUBSCRIPTIONS_MAX);
    assert_eq!((session.len(), session.free_slot()), (0, Some(0)));
}

#[test]
fn what_was_not_written_is_owed_again() {
    let channel = channel("room:1", 10);
    let mut session = session();
    assert_eq!(session.unwritten(), Unwritten::None);
    let slot = subscribe(&mut session, &channel, wishes(), 5).unwrap();
    assert_eq!(session.unwritten(), Unwritten::Subscriptions);
    session.sub_mut(slot).unwrap().progress.cursor = 9;
    acknowledge(&mut session, &channel, "a", 8);
    assert_eq!(
        session.unwritten(),
        Unwritten::Subscriptions,
        "the larger debt stays"
    );
    session.checkpoint();
    assert_eq!(session.unwritten(), Unwritten::None);
    session.write_failed();
    assert_eq!(session.unwritten(), Unwritten::Subscriptions);
    session.checkpoint();
    session.remove(slot);
    assert_eq!(session.unwritten(), Unwritten::Subscriptions);
}

#[test]
fn a_session_that_goes_on_as_it_was_stored_owes_its_floors_alone() {
    let channel = channel("room:1", 10);
    let begun = || {
        let mut session = session();
        subscribe(&mut session, &channel, wishes(), 5).unwrap();
        session
    };
    let stored = decode_checkpoint(&begun().checkpoint()).unwrap().subs;
    let owes = |stored: &[StoredSub]| {
        let mut session = begun();
        session.went_on_from(stored);
        session.unwritten()
    };
    assert_eq!(owes(&stored), Unwritten::Floors);
    assert_eq!(owes(&[]), Unwritten::Subscriptions, "it has one more");
    let twice = [stored.clone(), stored.clone()].concat();
    assert_eq!(owes(&twice), Unwritten::Subscriptions, "it has one less");
    let mut other = stored.clone();
    other[0].hz = Some(5);
    assert_eq!(owes(&other), Unwritten::Subscriptions);
    let mut nowhere = stored;
    nowhere[0].floor.epoch = Epoch::unknown();
    assert_eq!(owes(&nowhere), Unwritten::Subscriptions);
}
