//! Where a subscription begins: every case of the protocol as a row.

use tidewire_protocol::frame::Recovery;

use super::*;
use crate::channel::{Boundary, LocalHead, Standing};

fn local_head(life: u32, offset: u64) -> LocalHead {
    LocalHead {
        life,
        segment: 0,
        position: position("a", offset),
    }
}

/// The node's head is a/100, the broker's a/101; history holds 41 ..= 100; tombstones up to 60 were dropped.
fn plan_for(position: Option<Position>, fallback: Fallback, mode: Mode) -> Start {
    let request = StartRequest {
        position,
        fallback,
        mode,
    };
    let log = Head::of_one(super::position("a", 101), 41, 60);
    let channel = channel("room:1", 100);
    let standing = request
        .position
        .as_ref()
        .map_or(Standing::Elsewhere, |position| {
            channel.stand(position, &log.position)
        });
    plan(&request, &standing, &local_head(3, 100), Some(&log))
}

#[test]
fn every_case_of_a_start() {
    use Fallback::{Last, Now, State};
    use Mode::{Every, Latest};
    use Recovery::{Fresh, Full, Reset};
    const SNAPSHOT: Phase = Phase::Snapshot { from: 1 };
    const REPLAY: Phase = Phase::Replay;
    let on = |offset| Some(position("a", offset));
    let elsewhere = |offset| Some(position("b", offset));
    let rows = [
        // Without a position: new here.
        (None, Now, Every, Fresh, 100, REPLAY),
        (None, State, Every, Fresh, 100, SNAPSHOT),
        (None, State, Latest, Fresh, 100, SNAPSHOT),
        (None, Last(0), Every, Fresh, 100, REPLAY),
        (None, Last(10), Every, Fresh, 90, REPLAY),
        (None, Last(60), Every, Fresh, 40, REPLAY),
        (None, Last(61), Every, Fresh, 40, REPLAY),
        (None, Last(u32::MAX), Every, Fresh, 40, REPLAY),
        // A position on the log: from right behind it, whatever else was asked for.
        (on(0), Now, Every, Full, 0, REPLAY),
        (on(99), State, Every, Full, 99, REPLAY),
        (on(100), Now, Every, Full, 100, REPLAY),
        (on(100), Last(5), Every, Full, 100, REPLAY),
        // One that history no longer reaches is served too: with a gap in its place.
        (on(12), Last(5), Every, Full, 12, REPLAY),
        // Known to the broker, and on its way to this node.
        (on(101), State, Every, Full, 101, REPLAY),
        // Ahead of the head, or in another epoch: what was joined to it.
        (on(102), Now, Every, Reset, 100, REPLAY),
        (on(102), State, Every, Reset, 100, SNAPSHOT),
        (on(u64::MAX), Last(3), Every, Reset, 97, REPLAY),
        (elsewhere(50), Now, Every, Reset, 100, REPLAY),
        (elsewhere(50), State, Latest, Reset, 100, SNAPSHOT),
        (elsewhere(0), Last(3), Every, Reset, 97, REPLAY),
        // In `latest`, below the highest dropped tombstone a removal would go unseen.
        (on(60), Now, Latest, Full, 60, REPLAY),
        (on(59), Now, Latest, Reset, 100, REPLAY),
        (on(59), State, Latest, Reset, 100, SNAPSHOT),
        (on(59), Now, Every, Full, 59, REPLAY),
    ];
    for (position, fallback, mode, recovery, cursor, phase) in rows {
        let start = plan_for(position.clone(), fallback, mode);
        let expected = Start {
            recovery,
            position: super::position("a", cursor),
            progress: Progress {
                life: 3,
                segment: 0,
                cursor,
                left_out: match (recovery, mode, fallback) {
                    (Full, Latest, _) | (Full, _, State) => 101,
                    _anew => cursor,
                },
                begun: cursor,
                phase,
                replayed: 0,
            },
            rewind: None,
        };
        assert_eq!(start, expected, "{position:?} {fallback:?} {mode:?}");
    }
}

#[test]
fn the_last_of_an_empty_history_is_nothing() {
    let request = StartRequest {
        position: None,
        fallback: Fallback::Last(10),
        mode: Mode::Every,
    };
    for (offset, first) in [(0, 1), (7, 8), (7, 9)] {
        let log = Head {
            first,
            ..head("a", offset)
        };
        let start = plan(
            &request,
            &Standing::Elsewhere,
            &local_head(0, offset),
            Some(&log),
        );
        assert_eq!(start.progress.cursor, offset);
    }
}

#[test]
fn a_position_of_another_generation_begins_where_it_says_and_goes_back_from_there() {
    let boundary = |to| Boundary {
        segment: 7,
        epoch: epoch("b"),
        to,
    };
    let rows = [
        (Standing::In { segment: 2 }, Mode::Every, Some((2, None))),
        (Standing::In { segment: 2 }, Mode::Latest, Some((2, None))),
        (
            Standing::Beside(boundary(65)),
            Mode::Every,
            Some((7, Some(65))),
        ),
        (
            Standing::Beside(boundary(65)),
            Mode::Latest,
            Some((7, Some(65))),
        ),
        // It would go back to below a tombstone that was dropped.
        (Standing::Beside(boundary(59)), Mode::Latest, None),
        (
            Standing::Newer(Some(boundary(59))),
            Mode::Every,
            Some((7, Some(59))),
        ),
        (Standing::Newer(None), Mode::Every, None),
        (Standing::Elsewhere, Mode::Every, None),
    ];
    for (standing, mode, expected) in rows {
        let request = StartRequest {
            position: Some(position("c", 70)),
            fallback: Fallback::Now,
            mode,
        };
        let log = Head::of_one(position("a", 101), 41, 60);
        let start = plan(&request, &standing, &local_head(3, 100), Some(&log));
        if mode == Mode::Latest && start.recovery == Recovery::Full {
            assert_eq!(start.progress.left_out, u64::MAX, "nobody knows");
        }
        let Some((segment, to)) = expected else {
            assert_eq!(start.recovery, Recovery::Reset, "{standing:?}");
            assert_eq!(start.position, position("a", 100));
            continue;
        };
        assert_eq!(start.recovery, Recovery::Full, "{standing:?}");
        assert_eq!(start.position, position("c", 70), "the client's own");
        assert_eq!(
            (start.progress.segment, start.progress.cursor),
            (segment, 70)
        );
        assert_eq!(start.rewind.map(|rewind| rewind.to), to);
    }
}

#[test]
fn a_position_the_nodes_log_serves_needs_no_head_and_may_have_left_out_anything() {
    let joined = local_head(3, 100);
    for (mode, fallback, left_out) in [
        (Mode::Every, Fallback::Now, 70),
        (Mode::Every, Fallback::State, u64::MAX),
        (Mode::Latest, Fallback::Now, u64::MAX),
    ] {
        let request = StartRequest {
            position: Some(position("a", 70)),
            fallback,
            mode,
        };
        let start = plan(&request, &Standing::In { segment: 2 }, &joined, None);
        assert_eq!(start.recovery, Recovery::Full);
        assert_eq!((start.progress.segment, start.progress.cursor), (2, 70));
        assert_eq!(start.progress.left_out, left_out, "{mode:?} {fallback:?}");
    }
}
