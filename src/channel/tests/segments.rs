//! One log through failovers: what a reader at each place meets, and what is taken for true.

use super::*;
use crate::broker::{
    Head,
    lineage::{Lineage, Parts, Segment},
};

const EVERY: View = view(Encoding::Json, Mode::Every);

/// The epoch of a generation that began at `start` after another (0: it was the first).
fn minted(generation: u32, start: u64, previous: u32) -> Epoch {
    let text = |generation: u32| format!("{generation:08}test");
    let previous = if previous > 0 {
        text(previous)
    } else {
        String::new()
    };
    let parts = Parts {
        life: "life",
        generation: &text(generation),
        start,
        previous: &previous,
    };
    parts.epoch().unwrap()
}

/// The head of a log of these generations, each with its start.
fn survivor(generations: &[(u32, u64)], offset: u64) -> Head {
    let mut previous = 0;
    let segments = generations.iter().map(|(generation, start)| {
        let epoch = minted(*generation, *start, previous);
        previous = *generation;
        Segment {
            epoch,
            start: *start,
        }
    });
    let lineage = Lineage::new(segments.collect()).unwrap();
    let position = Position {
        epoch: lineage.epoch().clone(),
        offset,
    };
    Head {
        position,
        first: 1,
        state_floor: 0,
        lineage,
    }
}

/// A channel in generation 1 with a reader, whose tail holds 1 to `head`.
fn first(head: u64) -> (Channel, LocalHead) {
    let channel = Channel::new(name(), options(true, 1 << 20));
    assert!(channel.cut(&survivor(&[(1, 1)], 0)));
    let joined = channel
        .join(Arc::new(Recorder::default()), 0, EVERY)
        .unwrap();
    for offset in 1..=head {
        channel.append(&minted(1, 1, 0), &publication(offset, None, 1));
    }
    (channel, joined.head)
}

/// Reads on from a cursor in the segment of a head.
fn read(channel: &Channel, at: &LocalHead, cursor: u64) -> Read {
    let place = Place {
        life: at.life,
        segment: at.segment,
        cursor,
    };
    channel.read(Mode::Every, place, &mut empty(Encoding::Json), 1 << 20)
}

fn boundary(channel: &Channel, to: u64) -> Read {
    let head = channel.head();
    Read::Boundary(Boundary {
        segment: head.segment,
        epoch: head.position.epoch,
        to,
    })
}

fn settle(channel: &Channel, head: &Head) -> Settled {
    channel.settle(head, channel.version().0).0
}

const fn copied(cursor: u64, count: u64, at_head: bool) -> Read {
    Read::Copied {
        cursor,
        count,
        at_head,
        left_out: 0,
    }
}

#[test]
fn the_first_of_the_next_generation_continues_the_log_behind_a_boundary() {
    let (channel, one) = first(5);
    let version = channel.version().0;
    let next = channel.append(&minted(2, 6, 1), &publication(6, None, 1));
    assert_eq!(next, ADDED);
    assert_ne!(channel.version().0, version);
    assert_eq!(
        read(&channel, &one, 0),
        copied(5, 5, false),
        "up to its end"
    );
    assert_eq!(read(&channel, &one, 5), boundary(&channel, 5));
    assert_eq!(read(&channel, &channel.head(), 5), copied(6, 1, true));
}

#[test]
fn a_failover_that_lost_nothing_keeps_the_frames() {
    let (channel, one) = first(5);
    let found = settle(&channel, &survivor(&[(1, 1), (2, 6)], 5));
    assert_eq!(found, Settled::Forked { is_whole: true });
    assert_eq!(read(&channel, &one, 2), copied(5, 3, false));
    assert_eq!(read(&channel, &one, 5), boundary(&channel, 5));
    assert_eq!(read(&channel, &channel.head(), 5), Read::AtHead);
    let next = channel.append(&minted(2, 6, 1), &publication(6, None, 1));
    assert_eq!(next, ADDED);
}

#[test]
fn a_failover_that_lagged_ends_the_segment_where_the_logs_part() {
    let (channel, one) = first(5);
    let found = settle(&channel, &survivor(&[(1, 1), (2, 4)], 6));
    assert_eq!(found, Settled::Forked { is_whole: false });
    assert_eq!(channel.head().position.offset, 6);
    assert_eq!(read(&channel, &one, 2), Read::Behind, "below: from history");
    for cursor in [3, 4, 5] {
        assert_eq!(read(&channel, &one, cursor), boundary(&channel, 3));
    }
    assert_eq!(read(&channel, &channel.head(), 3), Read::Behind);
}

#[test]
fn a_log_that_lost_its_end_is_met_though_its_head_is_below_the_reader() {
    let (channel, one) = first(5);
    settle(&channel, &survivor(&[(1, 1), (2, 3)], 2));
    assert_eq!(read(&channel, &one, 5), boundary(&channel, 2));
    assert_eq!(read(&channel, &channel.head(), 2), Read::AtHead);
}

#[test]
fn a_reader_that_slept_through_failovers_meets_one_boundary_where_nothing_was_minted_between() {
    let (channel, one) = first(5);
    settle(&channel, &survivor(&[(1, 1), (2, 6)], 5));
    let two = channel.head();
    // Generation 2 minted nothing, and left no trace.
    settle(&channel, &survivor(&[(1, 1), (3, 6)], 5));
    assert_eq!(read(&channel, &one, 5), boundary(&channel, 5));
    assert_eq!(read(&channel, &two, 5), boundary(&channel, 5));
    // Generation 4 lagged behind what 1 had minted.
    settle(&channel, &survivor(&[(1, 1), (4, 4)], 8));
    for (at, cursor) in [(&one, 5), (&two, 5)] {
        assert_eq!(read(&channel, at, cursor), boundary(&channel, 3));
    }
    // Generation 5 goes on with all of it: 4 keeps its number, and is passed through.
    let four = channel.head();
    settle(&channel, &survivor(&[(1, 1), (4, 4), (5, 9)], 9));
    let to_four = Boundary {
        segment: four.segment,
        epoch: four.position.epoch.clone(),
        to: 3,
    };
    assert_eq!(read(&channel, &one, 5), Read::Boundary(to_four));
    assert_eq!(read(&channel, &four, 8), boundary(&channel, 8));
}

#[test]
fn a_channel_nobody_published_to_goes_on_too() {
    let (channel, one) = first(0);
    let found = settle(&channel, &survivor(&[(2, 1)], 0));
    assert_eq!(found, Settled::Forked { is_whole: true });
    assert_eq!(read(&channel, &one, 0), boundary(&channel, 0));
}

#[test]
fn what_a_primary_that_was_left_announces_is_dropped_and_what_does_not_follow_is_doubted() {
    let (channel, _) = first(5);
    let rows = [
        // Continues generation 2, of which the first was not heard.
        (minted(2, 6, 1), 7, Appended::Doubted),
        // Begins where ours has more.
        (minted(2, 5, 1), 5, Appended::Doubted),
        // Followed a generation that was not heard of.
        (minted(3, 6, 2), 6, Appended::Doubted),
        (
            Epoch::new("other.00000002test.6.00000001test").unwrap(),
            6,
            Appended::Doubted,
        ),
        (minted(2, 6, 1), 6, ADDED),
        (minted(1, 1, 0), 6, Appended::Dropped),
        (minted(1, 1, 0), 7, Appended::Dropped),
    ];
    for (epoch, offset, expected) in rows {
        let appended = channel.append(&epoch, &publication(offset, None, 1));
        assert_eq!(appended, expected, "{epoch}/{offset}");
    }
    let hole = channel.append(&minted(2, 6, 1), &publication(9, None, 1));
    let expected = Appended::Added {
        owes_mark: false,
        hole: true,
    };
    assert_eq!(hole, expected);
}

#[test]
fn an_answer_that_is_older_than_the_log_changes_nothing() {
    let (channel, _) = first(5);
    assert_eq!(settle(&channel, &survivor(&[(1, 1)], 4)), Settled::Same);
    assert_eq!(settle(&channel, &survivor(&[(1, 1)], 5)), Settled::Same);
    let two = survivor(&[(1, 1), (2, 6)], 7);
    assert_eq!(settle(&channel, &two), Settled::Forked { is_whole: true });
    let before = channel.head();
    assert_eq!(settle(&channel, &survivor(&[(1, 1)], 9)), Settled::Unsure);
    assert_eq!(channel.head(), before);
    // Nothing newer is left, after all: what generation 2 minted is gone.
    let adopted = channel.adopt(&survivor(&[(1, 1)], 9)).0;
    assert_eq!(adopted, Settled::Forked { is_whole: false });
    assert_eq!(read(&channel, &before, 7), boundary(&channel, 5));
}

#[test]
fn of_two_lives_the_one_begun_since_the_question_stays() {
    let channel = live(options(true, 1 << 20), 3);
    let asked = channel.version().0;
    channel.reset(&head(1, 2));
    assert_eq!(channel.settle(&head(0, 3), asked).0, Settled::Unsure);
    assert_eq!(channel.head().position, head(1, 2).position);
    let asked = channel.version().0;
    assert_eq!(channel.settle(&head(2, 0), asked).0, Settled::Replaced);
}

#[test]
fn a_head_that_is_ahead_is_the_head_and_the_rest_is_behind() {
    let (channel, one) = first(5);
    assert!(channel.is_short_of(&survivor(&[(1, 1)], 6).position));
    assert_eq!(settle(&channel, &survivor(&[(1, 1)], 9)), Settled::Moved);
    assert!(!channel.is_short_of(&survivor(&[(1, 1)], 9).position));
    assert_eq!(read(&channel, &one, 5), Read::Behind);
    let late = channel.append(&minted(1, 1, 0), &publication(9, None, 1));
    assert_eq!(late, Appended::Dropped);
}

#[test]
fn positions_are_judged_by_the_segments_there_are() {
    let (channel, one) = first(5);
    settle(&channel, &survivor(&[(1, 1), (3, 4)], 8));
    let three = channel.head();
    let stand = |epoch: &Epoch, offset| {
        let position = Position {
            epoch: epoch.clone(),
            offset,
        };
        channel.stand(&position, &survivor(&[(1, 1), (3, 4)], 9).position)
    };
    let at = |segment| Standing::In { segment };
    assert_eq!(
        stand(&three.position.epoch, 9),
        at(three.segment),
        "on its way"
    );
    assert_eq!(stand(&three.position.epoch, 10), Standing::Elsewhere);
    assert_eq!(stand(&one.position.epoch, 5), at(one.segment));
    let back = |to| Boundary {
        segment: three.segment,
        epoch: three.position.epoch.clone(),
        to,
    };
    // Generation 2 left no trace: it had followed 1 at 5, or at 3.
    assert_eq!(stand(&minted(2, 6, 1), 7), Standing::Beside(back(3)));
    assert_eq!(stand(&minted(2, 4, 1), 7), Standing::Beside(back(3)));
    let in_one = Boundary {
        segment: one.segment,
        epoch: one.position.epoch.clone(),
        to: 2,
    };
    assert_eq!(stand(&minted(2, 4, 1), 2), Standing::Beside(in_one));
    let newer = Standing::Newer(Some(back(8)));
    assert_eq!(stand(&minted(4, 9, 3), 12), newer);
    assert_eq!(stand(&minted(5, 9, 4), 12), Standing::Newer(None));
    assert_eq!(stand(&epoch(0), 1), Standing::Elsewhere);
    // Of another life only the generation tells, and only that it is a later one.
    let other_life = |minted: Epoch| Epoch::new(&format!("x{minted}")).unwrap();
    assert_eq!(
        stand(&other_life(minted(5, 9, 4)), 1),
        Standing::Newer(None)
    );
    assert_eq!(stand(&other_life(minted(2, 6, 1)), 1), Standing::Elsewhere);
}

#[test]
fn segments_are_forgotten_oldest_first() {
    let (channel, one) = first(5);
    let mut generations = vec![(1, 1)];
    for generation in 2..=18 {
        generations.push((generation, u64::from(generation) + 4));
        settle(&channel, &survivor(&generations, u64::from(generation) + 4));
    }
    assert_eq!(read(&channel, &one, 5), Read::NewLife(channel.head()));
    assert_eq!(
        channel.epoch_at(Place {
            life: 0,
            segment: one.segment,
            cursor: 5
        }),
        None
    );
    let joined = channel
        .join(Arc::new(Recorder::default()), 1, EVERY)
        .unwrap();
    for lost in 19..=40 {
        settle(&channel, &survivor(&[(1, 1), (lost, 6)], 6));
    }
    assert_eq!(
        read(&channel, &joined.head, 22),
        Read::NewLife(channel.head())
    );
}

#[test]
fn the_newest_of_each_key_does_not_cross_a_boundary() {
    let channel = Channel::new(name(), options(true, 1 << 20));
    assert!(channel.cut(&survivor(&[(1, 1)], 0)));
    let latest = view(Encoding::Json, Mode::Latest);
    let joined = channel
        .join(Arc::new(Recorder::default()), 0, latest)
        .unwrap();
    for (offset, key) in [(1, 1), (2, 2), (3, 3)] {
        channel.append(&minted(1, 1, 0), &publication(offset, Some(key), 1));
    }
    channel.append(&minted(2, 4, 1), &publication(4, Some(1), 1));
    let latest = |at: &LocalHead, cursor| {
        let mut message = empty(Encoding::Json);
        let place = Place {
            life: at.life,
            segment: at.segment,
            cursor,
        };
        let found = channel.read(Mode::Latest, place, &mut message, 1 << 20);
        (found, message)
    };
    let (found, message) = latest(&joined.head, 0);
    let expected = Read::Copied {
        cursor: 3,
        count: 2,
        at_head: false,
        left_out: 4,
    };
    assert_eq!(found, expected);
    let offsets: Vec<_> = (publications_in(message).iter())
        .map(|publication| publication.offset)
        .collect();
    assert_eq!(offsets, [2, 3]);
    assert_eq!(latest(&joined.head, 3).0, boundary(&channel, 3));
    let found = latest(&channel.head(), 3).0;
    assert!(matches!(
        found,
        Read::Copied {
            cursor: 4,
            count: 1,
            at_head: true,
            ..
        }
    ));
}

#[test]
fn a_log_serves_the_positions_it_holds_and_latest_only_from_where_its_view_begins() {
    let (channel, _) = first(5);
    let at = |generation, start, previous, offset| Position {
        epoch: minted(generation, start, previous),
        offset,
    };
    let serves = |position: &Position, mode| channel.serves(position, mode, Encoding::Json);
    assert!(serves(&at(1, 1, 0, 0), Mode::Every) && serves(&at(1, 1, 0, 5), Mode::Every));
    let unknown = [at(1, 1, 0, 6), at(2, 6, 1, 5), at(3, 1, 0, 2)];
    assert!(!unknown.iter().any(|position| serves(position, Mode::Every)));
    assert!(
        !serves(&at(1, 1, 0, 5), Mode::Latest),
        "nobody keeps a view"
    );
    let latest = view(Encoding::Json, Mode::Latest);
    channel.join(Arc::new(Recorder::default()), 1, latest);
    channel.append(&minted(1, 1, 0), &publication(6, None, 1));
    assert!(
        serves(&at(1, 1, 0, 5), Mode::Latest),
        "the view begins there"
    );
    assert!(!serves(&at(1, 1, 0, 4), Mode::Latest));
    assert!(!channel.serves(&at(1, 1, 0, 5), Mode::Latest, Encoding::MessagePack));
    // After a failover the log goes on behind a boundary, and its past is served too.
    settle(&channel, &survivor(&[(1, 1), (2, 5)], 4));
    assert!(serves(&at(1, 1, 0, 6), Mode::Every));
    assert!(serves(&at(2, 5, 1, 4), Mode::Every) && !serves(&at(2, 5, 1, 5), Mode::Every));
}
