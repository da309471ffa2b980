//! One channel: the cut, what is appended, lives, readers that come and go, and what is let go of.

use tidewire_protocol::frame::GapReason;

use super::*;

fn join(channel: &Channel, slot: u8, view: View) -> (Arc<Recorder>, Joined) {
    let recorder = Arc::new(Recorder::default());
    let joined = channel
        .join(Arc::clone(&recorder) as _, slot, view)
        .unwrap();
    (recorder, joined)
}

fn read(channel: &Channel, encoding: Encoding, life: u32, cursor: u64) -> (Read, Message) {
    let mut message = empty(encoding);
    let read = channel.read(Mode::Every, at(life, cursor), &mut message, 1 << 20);
    (read, message)
}

const JSON: View = view(Encoding::Json, Mode::Every);

#[test]
fn what_was_announced_before_the_head_counts_into_it() {
    for (announced, expected) in [(0, 5), (4, 5), (5, 5), (6, 6), (5_000, 5_000)] {
        let channel = Channel::new(name(), options(true, 1 << 20));
        for offset in 1..=announced {
            let appended = channel.append(&epoch(0), &publication(offset, None, 1));
            assert_eq!(appended, Appended::Dropped);
        }
        assert!(channel.cut(&head(0, 5)));
        assert_eq!(channel.head().position, head(0, expected).position);
        let appended = channel.append(&epoch(0), &publication(expected + 1, None, 1));
        assert_eq!(appended, OWED);
        assert_eq!(channel.head().position.offset, expected + 1);
    }
}

#[test]
fn a_head_of_another_life_than_what_was_announced_is_asked_for_again() {
    let channel = Channel::new(name(), options(true, 1 << 20));
    channel.append(&epoch(0), &publication(11, None, 1));
    assert_eq!(channel.reset(&head(1, 0)), (Settled::Same, false));
    channel.append(&epoch(1), &publication(1, None, 1));
    assert!(!channel.cut(&head(0, 10)));
    channel.append(&epoch(1), &publication(2, None, 1));
    assert!(channel.cut(&head(1, 1)));
    assert_eq!(channel.head().position, head(1, 2).position);
    assert_eq!(channel.append(&epoch(1), &publication(3, None, 1)), OWED);
}

#[test]
fn a_second_cut_changes_nothing() {
    let channel = live(options(true, 1 << 20), 3);
    channel.append(&epoch(0), &publication(4, None, 1));
    assert!(channel.cut(&head(0, 9)));
    assert_eq!(channel.head().position.offset, 4);
}

#[test]
fn old_publications_and_those_of_another_epoch_are_ignored() {
    let channel = live(options(true, 1 << 20), 3);
    let (_, joined) = join(&channel, 0, JSON);
    let known = channel.append(&epoch(0), &publication(3, None, 1));
    assert_eq!(known, Appended::Dropped);
    let other = channel.append(&epoch(7), &publication(4, None, 1));
    assert_eq!(other, Appended::Doubted);
    assert_eq!(
        read(&channel, Encoding::Json, joined.head.life, 3).0,
        Read::AtHead
    );
    assert_eq!(channel.append(&epoch(0), &publication(4, None, 1)), OWED);
    let again = channel.append(&epoch(0), &publication(4, None, 1));
    assert_eq!(again, Appended::Dropped);
    assert_eq!(channel.head().position.offset, 4);
}

#[test]
fn both_encodings_say_the_same() {
    let channel = live(options(true, 1 << 20), 0);
    join(&channel, 0, view(Encoding::Json, Mode::Every));
    join(&channel, 1, view(Encoding::MessagePack, Mode::Every));
    let made: Vec<_> = (1..=3)
        .map(|offset| publication(offset, Some(1), 9))
        .collect();
    for publication in &made {
        channel.append(&epoch(0), publication);
    }
    for encoding in ENCODINGS {
        let (outcome, message) = read(&channel, encoding, 0, 0);
        assert_eq!(
            outcome,
            Read::Copied {
                cursor: 3,
                count: 3,
                at_head: true,
                left_out: 0
            }
        );
        assert_eq!(publications_in(message), made);
    }
}

#[test]
fn a_hole_moves_the_beginning_of_the_tail_behind_it() {
    for keeps_history in [true, false] {
        let channel = live(options(keeps_history, 1 << 20), 0);
        join(&channel, 0, JSON);
        channel.append(&epoch(0), &publication(1, None, 1));
        channel.append(&epoch(0), &publication(5, None, 1));
        let missing = if keeps_history {
            Read::Behind
        } else {
            Read::Gap {
                to: 4,
                reason: GapReason::NotKept,
            }
        };
        assert_eq!(read(&channel, Encoding::Json, 0, 1).0, missing);
        let (outcome, message) = read(&channel, Encoding::Json, 0, 4);
        assert!(matches!(outcome, Read::Copied { cursor: 5, .. }));
        assert_eq!(publications_in(message).len(), 1);
    }
}

#[test]
fn another_life_voids_cursors_and_frames() {
    let channel = live(options(true, 1 << 20), 8);
    join(&channel, 0, JSON);
    channel.append(&epoch(0), &publication(9, None, 1));
    let version = channel.version().0;
    assert_eq!(channel.reset(&head(0, 9)), (Settled::Same, false));
    channel.reset(&head(1, 0));
    assert_ne!(channel.version().0, version);
    channel.append(&epoch(1), &publication(1, None, 1));
    assert_eq!(
        read(&channel, Encoding::Json, 0, 9).0,
        Read::NewLife(channel.head())
    );
    assert!(matches!(
        read(&channel, Encoding::Json, 1, 0).0,
        Read::Copied { cursor: 1, .. }
    ));
}

#[test]
fn a_blanked_entry_is_read_again_from_what_is_stored() {
    let channel = live(options(true, 1 << 20), 0);
    join(&channel, 0, view(Encoding::Json, Mode::Latest));
    for offset in 1..=4 {
        channel.append(&epoch(0), &publication(offset, Some(1), 1));
    }
    let version = channel.version().0;
    channel.blank(2);
    assert_ne!(channel.version().0, version);
    assert_eq!(read(&channel, Encoding::Json, 0, 1).0, Read::Behind);
    assert!(matches!(
        read(&channel, Encoding::Json, 0, 2).0,
        Read::Copied { cursor: 4, .. }
    ));
    let mut message = empty(Encoding::Json);
    let behind = channel.read(Mode::Latest, at(0, 1), &mut message, 1 << 20);
    assert_eq!(behind, Read::Behind);
}

#[test]
fn marking_marks_each_reader_once_and_answers_the_idle() {
    let channel = live(options(true, 1 << 20), 0);
    let (one, _) = join(&channel, 3, JSON);
    channel.join(Arc::clone(&one) as _, 4, JSON).unwrap();
    let (two, _) = join(&channel, 5, JSON);
    assert_eq!(channel.append(&epoch(0), &publication(1, None, 1)), OWED);
    let while_dirty = channel.append(&epoch(0), &publication(2, None, 1));
    assert_eq!(while_dirty, ADDED);
    let mut idle = Vec::new();
    assert_eq!(channel.mark_readers(&mut idle), 3);
    assert_eq!(*one.marks.lock(), [3, 4]);
    assert_eq!(*two.marks.lock(), [5]);
    assert_eq!(idle.len(), 2, "each reader is pulled once");
    let clean_again = channel.append(&epoch(0), &publication(3, None, 1));
    assert_eq!(clean_again, OWED);
}

#[test]
fn a_closed_channel_takes_no_reader() {
    let channel = live(options(true, 1 << 20), 0);
    let (_, joined) = join(&channel, 0, JSON);
    assert!(!channel.close_if_unread());
    channel.leave(joined.key, JSON);
    assert!(channel.close_if_unread());
    let late = Arc::new(Recorder::default());
    assert!(channel.join(late, 0, JSON).is_none());
}

#[test]
fn of_a_join_and_a_close_at_once_exactly_one_wins() {
    for _ in 0..500 {
        let channel = live(options(true, 1 << 20), 0);
        let barrier = std::sync::Barrier::new(2);
        let (joined, closed) = std::thread::scope(|scope| {
            let joins = scope.spawn(|| {
                barrier.wait();
                channel
                    .join(Arc::new(Recorder::default()), 0, JSON)
                    .is_some()
            });
            barrier.wait();
            let closed = channel.close_if_unread();
            (joins.join().unwrap(), closed)
        });
        assert_ne!(joined, closed);
    }
}

#[test]
fn eviction_drops_every_frame_and_sends_readers_to_what_is_stored() {
    let latest = view(Encoding::Json, Mode::Latest);
    let kept = live(options(true, 1 << 20), 0);
    let (_, joined) = join(&kept, 0, latest);
    kept.append(&epoch(0), &publication(1, Some(1), 100));
    assert!(kept.frame_bytes() > 200 && !kept.is_only_copy());
    kept.evict();
    assert_eq!(kept.frame_bytes(), 0);
    assert_eq!(read(&kept, Encoding::Json, 0, 0).0, Read::Behind);
    let mut message = empty(Encoding::Json);
    assert_eq!(
        kept.read(Mode::Latest, at(0, 0), &mut message, 1 << 20),
        Read::Behind
    );
    kept.append(&epoch(0), &publication(2, Some(1), 100));
    assert!(matches!(
        read(&kept, Encoding::Json, 0, 1).0,
        Read::Copied { cursor: 2, .. }
    ));
    kept.leave(joined.key, latest);
    assert!(kept.log.lock().compacted[0].is_none());

    let only = live(options(false, 1 << 20), 0);
    join(&only, 0, JSON);
    only.append(&epoch(0), &publication(1, None, 100));
    assert!(only.is_only_copy());
    only.evict();
    assert_eq!(
        read(&only, Encoding::Json, 0, 0).0,
        Read::Gap {
            to: 1,
            reason: GapReason::NotKept
        }
    );
}

#[test]
fn a_large_frame_waits_for_a_message_of_its_own() {
    let channel = live(options(true, 1 << 20), 0);
    join(&channel, 0, view(Encoding::Json, Mode::Latest));
    channel.append(&epoch(0), &publication(1, None, 5_000));
    for mode in [Mode::Every, Mode::Latest] {
        let mut message = empty(Encoding::Json);
        message.push_encoded(b"{}");
        let before = message.len();
        let outcome = channel.read(mode, at(0, 0), &mut message, 1_000);
        assert_eq!((outcome, message.len()), (Read::Full, before));
        let mut message = empty(Encoding::Json);
        let outcome = channel.read(mode, at(0, 0), &mut message, 1_000);
        assert!(matches!(outcome, Read::Copied { cursor: 1, .. }));
    }
}
