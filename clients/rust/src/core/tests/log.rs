//! The log of one channel against a model: whatever arrives, and in whatever order connections
//! bring it, the application sees each publication once, in order, and is told of every other.

use proptest::prelude::*;
use tidewire_protocol::{Epoch, Position, command::Mode, frame::Recovery};

use crate::{
    GapReason,
    core::log::{ChannelLog, Phase, Step},
};

fn at(epoch: &str, offset: u64) -> Position {
    let epoch = Epoch::new(epoch).unwrap();
    Position { epoch, offset }
}

/// A log that was begun at `e1`/`offset` and is live.
fn live(mode: Mode, offset: u64) -> ChannelLog {
    let mut log = ChannelLog::new(None);
    log.opening(mode, None);
    log.begun(at("e1", offset), Recovery::Fresh);
    log.live(offset);
    assert_eq!(log.phase, Phase::Live);
    log
}

const DELIVERED: Step = Step::Deliver {
    replayed: false,
    skipped: 0,
};

#[test]
fn an_offset_that_was_seen_is_dropped() {
    let mut log = live(Mode::Every, 4);
    assert_eq!(log.message(5), DELIVERED);
    assert_eq!(log.message(5), Step::Nothing);
    assert_eq!(log.message(4), Step::Nothing);
    assert_eq!(log.cursor, Some(at("e1", 5)));
}

#[test]
fn a_gap_that_overlaps_what_was_seen_is_told_from_the_cursor_on() {
    let mut log = live(Mode::Every, 4);
    let gap = |from, to, reason| Step::Gap { from, to, reason };
    assert_eq!(
        log.gap(2, 7, GapReason::Expired),
        gap(5, 7, GapReason::Expired)
    );
    assert_eq!(log.gap(5, 7, GapReason::Expired), Step::Nothing);
    // One that leaves offsets out is a hole; seen again, it is told as missing before itself.
    assert_eq!(log.gap(10, 12, GapReason::NotKept), Step::Hole);
    log.opening(Mode::Every, Some(Epoch::new("e1").unwrap()));
    log.begun(at("e1", 7), Recovery::Full);
    assert_eq!(
        log.gap(10, 12, GapReason::NotKept),
        gap(8, 9, GapReason::Missing)
    );
    assert_eq!(
        log.gap(10, 12, GapReason::NotKept),
        gap(10, 12, GapReason::NotKept)
    );
}

#[test]
fn live_and_rewind_that_leave_offsets_out_are_holes() {
    let mut log = ChannelLog::new(Some(at("e1", 4)));
    log.opening(Mode::Every, Some(Epoch::new("e1").unwrap()));
    log.begun(at("e1", 4), Recovery::Full);
    assert_eq!(log.live(6), Step::Hole);
    let mut log = live(Mode::Every, 4);
    assert_eq!(log.rewind(&Epoch::new("e2").unwrap(), 6, 0), Step::Hole);
}

#[test]
fn a_rewind_is_taken_once_and_the_same_offsets_come_again() {
    let mut log = live(Mode::Every, 6);
    let e2 = Epoch::new("e2").unwrap();
    assert_eq!(log.rewind(&e2, 4, 2), Step::Rewind);
    assert_eq!(log.message(5), DELIVERED);
    assert_eq!(log.rewind(&e2, 4, 2), Step::Nothing);
    assert_eq!(log.cursor, Some(at("e2", 5)));
}

#[test]
fn a_hole_is_no_gap_before_it_was_asked_about() {
    let mut log = live(Mode::Every, 4);
    assert_eq!(log.message(6), Step::Hole);
    // The rest of the same message.
    assert_eq!(log.message(7), Step::Nothing);
    assert_eq!(log.live(8), Step::Nothing);
    assert_eq!(log.cursor, Some(at("e1", 4)));
}

#[test]
fn a_hole_after_a_rewind_to_the_same_offset_is_another_hole() {
    let mut log = live(Mode::Every, 4);
    let begin = |log: &mut ChannelLog, epoch: &str| {
        log.opening(Mode::Every, Some(Epoch::new(epoch).unwrap()));
        log.begun(at(epoch, 4), Recovery::Full);
    };
    assert_eq!(log.message(6), Step::Hole);
    begin(&mut log, "e1");
    assert_eq!(log.rewind(&Epoch::new("e2").unwrap(), 4, 0), Step::Rewind);
    assert_eq!(log.message(6), Step::Hole);
}

#[test]
fn an_answer_to_a_request_given_up_since_changes_nothing() {
    let mut log = live(Mode::Every, 4);
    log.close(None);
    log.opening(Mode::Every, None);
    log.close(None);
    log.opening(Mode::Every, None);
    assert_eq!(log.begun(at("e1", 9), Recovery::Fresh), Step::Nothing);
    assert_eq!(log.message(10), Step::Nothing);
    let begun = Step::Begun {
        recovery: Recovery::Fresh,
        kept: false,
    };
    assert_eq!(log.begun(at("e1", 11), Recovery::Fresh), begun);
    assert_eq!(
        log.message(12),
        Step::Deliver {
            replayed: true,
            skipped: 0
        }
    );
    assert!(log.refused());
    assert!(!log.refused());
}

/// A log that asked for `e1`/`asked` on a second connection while the first went on.
fn asked_again(log: &mut ChannelLog, epoch: Option<&str>) {
    log.lost();
    log.opening(Mode::Every, epoch.map(|epoch| Epoch::new(epoch).unwrap()));
}

#[test]
fn an_older_connection_that_crossed_a_generation_is_not_followed_by_the_one_before() {
    let mut log = live(Mode::Every, 4);
    let (e2, e3) = (Epoch::new("e2").unwrap(), Epoch::new("e3").unwrap());
    assert_eq!(log.rewind(&e2, 2, 2), Step::Rewind);
    assert_eq!(log.message(3), DELIVERED);
    assert_eq!(log.rewind(&e3, 3, 0), Step::Rewind);
    // The second connection had asked before that.
    asked_again(&mut log, Some("e1"));
    assert_eq!(log.begun(at("e1", 4), Recovery::Full), Step::Hole);
    // In `e1` there may have been more: it is not what `e3` has there.
    assert_eq!(log.message(4), Step::Nothing);
    assert_eq!(log.rewind(&e2, 2, 2), Step::Nothing);
    log.opening(Mode::Every, Some(e3));
    assert_eq!(log.message(4), Step::Nothing);
    let begun = Step::Begun {
        recovery: Recovery::Full,
        kept: true,
    };
    assert_eq!(log.begun(at("e3", 3), Recovery::Full), begun);
    assert_eq!(log.cursor, Some(at("e3", 3)));
}

#[test]
fn a_rewind_that_takes_back_less_than_is_held_is_asked_about_once() {
    let mut log = live(Mode::Every, 4);
    let e2 = Epoch::new("e2").unwrap();
    asked_again(&mut log, Some("e1"));
    log.begun(at("e1", 2), Recovery::Full);
    assert_eq!(log.rewind(&e2, 2, 0), Step::Hole);
    assert_eq!(log.message(5), Step::Nothing);
    log.opening(Mode::Every, Some(Epoch::new("e1").unwrap()));
    log.begun(at("e1", 4), Recovery::Full);
    // A faulty node cannot make us loop.
    assert_eq!(log.rewind(&e2, 2, 0), Step::Rewind);
    assert_eq!(log.cursor, Some(at("e2", 2)));
}

#[test]
fn of_two_beginnings_from_now_the_first_is_gone_on_from() {
    let mut log = live(Mode::Every, 4);
    asked_again(&mut log, None);
    assert_eq!(log.begun(at("e1", 7), Recovery::Fresh), Step::Hole);
    assert_eq!(log.message(8), Step::Nothing);
    assert_eq!(log.cursor, Some(at("e1", 4)));
    // Where that place is gone, the log starts over.
    log.opening(Mode::Every, Some(Epoch::new("e1").unwrap()));
    let begun = Step::Begun {
        recovery: Recovery::Reset,
        kept: false,
    };
    assert_eq!(log.begun(at("x1", 8), Recovery::Reset), begun);
}

#[test]
fn what_comes_between_a_stop_and_the_answer_is_not_taken() {
    let mut log = live(Mode::Every, 4);
    // A parked channel: the log may lose its end meanwhile, and nobody hears of it.
    log.close(Some(at("e1", 4)));
    assert_eq!(log.rewind(&Epoch::new("e2").unwrap(), 3, 1), Step::Nothing);
    log.opening(Mode::Every, Some(Epoch::new("e1").unwrap()));
    assert_eq!(log.message(5), Step::Nothing);
    assert_eq!(log.cursor, Some(at("e1", 4)));
    log.begun(at("e1", 4), Recovery::Full);
    assert_eq!(log.rewind(&Epoch::new("e2").unwrap(), 3, 1), Step::Rewind);
}

#[test]
fn latest_skips_and_says_how_many() {
    let mut log = live(Mode::Latest, 4);
    assert_eq!(
        log.message(9),
        Step::Deliver {
            replayed: false,
            skipped: 4
        }
    );
    assert_eq!(log.message(7), Step::Nothing);
}

/// A node that has `head` publications of one epoch and keeps those above `kept`.
#[derive(Debug)]
struct Node {
    head: u64,
    kept: u64,
    /// Where its delivery to the present connection is.
    served: Option<u64>,
}

/// What may happen to a client and its node.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// The node publishes.
    Publish,
    /// It delivers the next publication.
    Deliver,
    /// It delivers one it has delivered before.
    Repeat(u64),
    /// It leaves some out without a word.
    Skip(u64),
    /// History drops what is older.
    Expire(u64),
    /// The connection breaks, and the next one resumes.
    Reconnect,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => Just(Act::Publish),
        8 => Just(Act::Deliver),
        2 => (0..6_u64).prop_map(Act::Repeat),
        1 => (1..4_u64).prop_map(Act::Skip),
        1 => (0..4_u64).prop_map(Act::Expire),
        1 => Just(Act::Reconnect),
    ];
    proptest::collection::vec(act, 1..120)
}

/// What the application knows: offsets seen, and those it was told are gone.
#[derive(Debug, Default)]
struct Told {
    next: u64,
    missing: u64,
}

struct Journey {
    node: Node,
    log: ChannelLog,
    told: Told,
}

impl Journey {
    fn new() -> Self {
        let mut journey = Self {
            node: Node {
                head: 0,
                kept: 0,
                served: None,
            },
            log: ChannelLog::new(None),
            told: Told {
                next: 1,
                missing: 0,
            },
        };
        journey.subscribe();
        journey
    }

    /// Asks from the cursor, and takes the node's answer.
    fn subscribe(&mut self) {
        let cursor = self.log.cursor.clone();
        self.log.opening(
            Mode::Every,
            cursor.as_ref().map(|cursor| cursor.epoch.clone()),
        );
        let (start, recovery) = match cursor {
            Some(cursor) => (cursor.offset, Recovery::Full),
            None => (self.node.head, Recovery::Fresh),
        };
        assert_eq!(
            self.log.begun(at("e", start), recovery),
            Step::Begun {
                recovery,
                kept: recovery == Recovery::Full
            }
        );
        if recovery == Recovery::Fresh {
            self.told.next = start + 1;
        }
        self.node.served = Some(start);
    }

    fn act(&mut self, act: Act) {
        let served = self.node.served.unwrap();
        match act {
            Act::Publish => self.node.head += 1,
            Act::Deliver if served < self.node.kept => {
                self.node.served = Some(self.node.kept);
                let (from, to) = (served + 1, self.node.kept);
                self.feed(|log| log.gap(from, to, GapReason::Expired), None);
            }
            Act::Deliver if served < self.node.head => {
                self.node.served = Some(served + 1);
                self.feed(|log| log.message(served + 1), Some(served + 1));
            }
            Act::Deliver => {
                self.feed(|log| log.live(served), None);
            }
            Act::Repeat(back) => {
                let offset = served.saturating_sub(back).max(1);
                if offset <= served {
                    self.feed(|log| log.message(offset), Some(offset));
                }
            }
            Act::Skip(count) => self.node.served = Some((served + count).min(self.node.head)),
            Act::Expire(left) => {
                self.node.kept = self.node.kept.max(self.node.head.saturating_sub(left));
            }
            Act::Reconnect => {
                self.log.lost();
                self.subscribe();
            }
        }
    }

    fn feed(&mut self, mut take: impl FnMut(&mut ChannelLog) -> Step, offset: Option<u64>) {
        let step = take(&mut self.log);
        match step {
            Step::Nothing | Step::Live { .. } => {}
            Step::Deliver { skipped, .. } => {
                assert_eq!(
                    (Some(self.told.next), skipped),
                    (offset, 0),
                    "order, and no repetition"
                );
                self.told.next += 1;
            }
            Step::Gap { from, to, reason } => {
                assert_eq!(from, self.told.next, "told from where the application is");
                self.told.next = to + 1;
                if reason == GapReason::Missing {
                    self.told.missing += 1;
                    self.feed(take, offset);
                }
            }
            Step::Hole => self.subscribe(),
            Step::Begun { .. } | Step::Rewind => panic!("{step:?}"),
        }
        let cursor = self.log.cursor.as_ref().unwrap().offset;
        assert_eq!(cursor + 1, self.told.next, "the cursor is what was told");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn whatever_comes_is_seen_once_and_in_order_or_told_as_gone(acts in acts()) {
        let mut journey = Journey::new();
        for act in acts {
            journey.act(act);
        }
        // A node that leaves nothing out any more brings the reader up to the head.
        journey.log.lost();
        journey.subscribe();
        for _ in 0..=journey.node.head {
            journey.act(Act::Deliver);
        }
        prop_assert_eq!(journey.told.next, journey.node.head + 1);
    }
}
