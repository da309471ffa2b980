//! For each class a history that violates it, and a close one that does not.

use super::*;

const CLIENT: Client = Client(1);
const CHANNEL: Channel = Channel(7);

/// A history under construction: body `n` is published at offset `n` unless a test says else.
#[derive(Default)]
struct History {
    events: Vec<Event>,
    log: SurvivingLog,
    may_lose_tails: bool,
}

fn at(epoch: &str, offset: u64) -> Position {
    Position::new(epoch, offset)
}

impl History {
    /// Generation `a` minted 1…`head`, and body `n` is at offset `n`.
    fn of(head: u64) -> Self {
        let log = SurvivingLog {
            lineage: vec![(Arc::from("a"), 1)],
            head,
            first: 1,
            entries: (1..=head).map(|offset| (offset, Some(offset))).collect(),
            state: None,
        };
        let history = Self {
            log,
            ..Self::default()
        };
        history.published(1..=head)
    }

    fn with(mut self, event: Event) -> Self {
        self.events.push(event);
        self
    }

    fn published(mut self, bodies: impl IntoIterator<Item = Body>) -> Self {
        let attempt = |body| Event::Attempted {
            body,
            channel: CHANNEL,
        };
        self.events.extend(bodies.into_iter().map(attempt));
        self
    }

    fn acknowledged(self, body: Body, position: Position) -> Self {
        self.with(Event::Acknowledged { body, position })
    }

    fn asked(self, mode: Mode, state: bool) -> Self {
        self.with(Event::Asked {
            client: CLIENT,
            channel: CHANNEL,
            mode,
            state,
        })
    }

    /// Reads every publication from the beginning of epoch `a`.
    fn reads(self) -> Self {
        self.asked(Mode::Every, false)
            .began(at("a", 0), Recovery::Fresh)
    }

    fn began(self, position: Position, recovery: Recovery) -> Self {
        self.with(Event::Began {
            client: CLIENT,
            channel: CHANNEL,
            position,
            recovery,
        })
    }

    fn message(self, position: Position, body: Body) -> Self {
        self.keyed(position, body, None)
    }

    fn keyed(self, position: Position, body: Body, key: Option<Key>) -> Self {
        self.with(Event::Message {
            client: CLIENT,
            channel: CHANNEL,
            position,
            body: Some(body),
            key,
        })
    }

    /// Messages of epoch `a` with the bodies that belong there.
    fn messages(self, offsets: impl IntoIterator<Item = u64>) -> Self {
        let message = |history: Self, offset| history.message(at("a", offset), offset);
        offsets.into_iter().fold(self, message)
    }

    fn gap(self, from: u64, to: u64) -> Self {
        self.with(Event::Gap {
            client: CLIENT,
            channel: CHANNEL,
            from,
            to,
        })
    }

    fn rewind(self, epoch: &str, to: u64, lost: u64) -> Self {
        self.with(Event::Rewind {
            client: CLIENT,
            channel: CHANNEL,
            epoch: Arc::from(epoch),
            to,
            lost,
        })
    }

    fn page(self, items: &[(u64, u32)], more: bool) -> Self {
        let items = items.iter().map(|(offset, key)| Item {
            position: at("a", *offset),
            key: Key(*key),
            body: Some(*offset),
        });
        self.with(Event::Page {
            client: CLIENT,
            channel: CHANNEL,
            items: items.collect(),
            more,
        })
    }

    fn wrote(self, attempt: u64, nonce: u64) -> Self {
        self.with(Event::Wrote {
            session: Session(1),
            attempt,
            nonce,
        })
    }

    /// Generation `b` follows after `shared` and mints up to `head`, bodies 100 + offset; what
    /// was there before is lost.
    fn fails_over(mut self, shared: u64, head: u64) -> Self {
        self.may_lose_tails = true;
        self.log.lineage.push((Arc::from("b"), shared + 1));
        self.log.head = head;
        self.log.entries.retain(|offset, _| *offset <= shared);
        let minted = shared + 1..=head;
        self.log
            .entries
            .extend(minted.clone().map(|offset| (offset, Some(100 + offset))));
        self.published(minted.map(|offset| 100 + offset))
    }

    fn report(&self) -> Report {
        let mut checker = Checker::new(Rules {
            may_lose_tails: self.may_lose_tails,
        });
        for event in &self.events {
            checker.feed(event);
        }
        checker.end(&BTreeMap::from([(CHANNEL, self.log.clone())]))
    }

    #[track_caller]
    fn is_clean(&self) {
        let report = self.report();
        assert!(report.is_clean(), "{report}");
    }

    #[track_caller]
    fn violates(&self, class: Class) {
        let report = self.report();
        assert!(report.has(class), "no {class:?} found: {report}");
    }
}

#[test]
fn all_of_a_log_in_order_is_clean() {
    let history = History::of(3).acknowledged(1, at("a", 1));
    history.reads().messages(1..=3).is_clean();
}

#[test]
fn refused_and_read() {
    let refused = |history: History| history.with(Event::Refused { body: 2 });
    refused(History::of(2)).violates(Class::RefusedButRead);
    let history = refused(History::of(1).published([2]));
    history.reads().messages(1..=1).is_clean();
    let read = refused(History::of(1).published([2]))
        .reads()
        .messages(1..=2);
    read.violates(Class::RefusedButRead);
}

#[test]
fn two_payloads_at_one_position() {
    let history = History::of(2).published([9]).acknowledged(9, at("a", 2));
    history.violates(Class::TwoPayloads);
    History::of(2).acknowledged(2, at("a", 2)).is_clean();
}

#[test]
fn an_acknowledged_publication_is_lost() {
    let lost = |history: History| history.published([9]).acknowledged(9, at("a", 3));
    lost(History::of(2)).violates(Class::LostAcknowledged);
    // The same where a lagging failover is known to have happened.
    lost(History::of(2).fails_over(2, 3)).is_clean();
    // The generation that minted it still holds its offset: nothing explains the hole.
    let mut history = History::of(3).acknowledged(3, at("a", 3));
    history.log.entries.remove(&3);
    history.violates(Class::LostAcknowledged);
    history.log.entries.insert(3, None);
    history.is_clean();
}

#[test]
fn a_publication_is_skipped() {
    let history = History::of(3).reads().messages([1]);
    history.messages([3]).violates(Class::Skip);
    let mut history = History::of(3).reads().messages([1]).gap(2, 2).messages([3]);
    history.violates(Class::WrongGap);
    history.log.first = 3;
    history.is_clean();
}

#[test]
fn live_comes_before_its_publications() {
    let live = |offset| Event::Live {
        client: CLIENT,
        channel: CHANNEL,
        offset,
    };
    let history = History::of(2).reads().messages([1]).with(live(2));
    history.messages([2]).violates(Class::Skip);
    History::of(2)
        .reads()
        .messages([1, 2])
        .with(live(2))
        .is_clean();
}

#[test]
fn an_earlier_publication_comes_late() {
    let history = History::of(3).reads().messages([1]).gap(2, 2).messages([3]);
    history.message(at("a", 2), 2).violates(Class::Inversion);
}

#[test]
fn the_application_is_given_one_twice() {
    let history = History::of(2).reads().messages([1, 2]);
    history.messages([2]).violates(Class::Repeat);
    // Taken back in between, it may come again at its new place.
    let mut history = History::of(2).reads().messages([1, 2]).rewind("b", 1, 1);
    history = history.message(at("b", 2), 2);
    history.log.lineage.push((Arc::from("b"), 2));
    history.is_clean();
}

#[test]
fn what_is_held_is_not_in_the_log() {
    let seen = || History::of(3).reads().messages(1..=3).fails_over(1, 3);
    let silent = seen().with(Event::Live {
        client: CLIENT,
        channel: CHANNEL,
        offset: 3,
    });
    silent.violates(Class::Phantom);
    let told = seen().rewind("b", 1, 2);
    let told = told.message(at("b", 2), 102).message(at("b", 3), 103);
    told.is_clean();
    // Nothing is held after a reset.
    seen().began(at("b", 3), Recovery::Reset).is_clean();
}

#[test]
fn the_right_publication_under_the_wrong_epoch() {
    let history = History::of(1).fails_over(1, 2).reads().messages([1]);
    let late = history.message(at("a", 2), 102).rewind("b", 2, 0);
    late.violates(Class::Phantom);
    let history = History::of(1).fails_over(1, 2).reads().messages([1]);
    history
        .rewind("b", 1, 0)
        .message(at("b", 2), 102)
        .is_clean();
}

#[test]
fn a_delivery_begins_elsewhere() {
    let held = || History::of(3).reads().messages(1..=2);
    held()
        .began(at("a", 1), Recovery::Full)
        .violates(Class::PositionBack);
    held()
        .began(at("a", 3), Recovery::Full)
        .violates(Class::Skip);
    held()
        .began(at("b", 2), Recovery::Full)
        .violates(Class::PositionBack);
    held().message(at("b", 3), 3).violates(Class::PositionBack);
    held()
        .began(at("a", 2), Recovery::Full)
        .messages([3])
        .is_clean();
}

#[test]
fn a_delivery_goes_on_above_what_was_handled() {
    let forgot = |handled| {
        let history = History::of(3).reads().messages(1..=2);
        history.with(Event::Forgot {
            client: CLIENT,
            channel: CHANNEL,
            acknowledged: Some(at("a", handled)),
        })
    };
    let above = forgot(1).began(at("a", 2), Recovery::Full).messages([3]);
    above.violates(Class::Skip);
    let below = forgot(1).began(at("a", 0), Recovery::Full);
    below.messages(1..=3).is_clean();
    let unheard = History::of(3).asked(Mode::Every, false);
    let unheard = unheard.with(Event::Forgot {
        client: CLIENT,
        channel: CHANNEL,
        acknowledged: None,
    });
    unheard
        .began(at("a", 1), Recovery::Full)
        .messages([2, 3])
        .is_clean();
}

#[test]
fn a_publication_is_in_the_log_twice() {
    let mut history = History::of(2);
    history.log.entries.insert(2, Some(1));
    history.violates(Class::TwiceInLog);
}

#[test]
fn a_rewind_says_something_wrong() {
    let held = || History::of(3).reads().messages(1..=3).fails_over(1, 1);
    held().rewind("b", 1, 1).violates(Class::WrongRewind);
    held().rewind("a", 3, 0).violates(Class::WrongRewind);
    // One too far: the publication at 1 survived.
    let too_far = held().rewind("b", 0, 3).message(at("b", 1), 1);
    too_far.violates(Class::WrongRewind);
    held().rewind("b", 1, 2).is_clean();
}

#[test]
fn a_gap_says_something_wrong() {
    let mut history = History::of(4).reads().messages([1]).gap(3, 3).messages([4]);
    history.log.first = 4;
    history.violates(Class::WrongGap);
}

#[test]
fn a_reset_where_the_position_was_on_the_log() {
    let held = || History::of(3).reads().messages(1..=3);
    held()
        .began(at("a", 3), Recovery::Reset)
        .violates(Class::NeedlessReset);
    let mut deleted = held().began(at("x", 0), Recovery::Reset);
    deleted.log = SurvivingLog {
        lineage: vec![(Arc::from("x"), 1)],
        first: 1,
        ..SurvivingLog::default()
    };
    deleted.is_clean();
}

fn with_state(mut history: History, state: &[(u32, u64)]) -> History {
    let entry = |(key, offset): &(u32, u64)| (Key(*key), (*offset, *offset));
    history.log.state = Some(state.iter().map(entry).collect());
    history
}

#[test]
fn values_are_not_those_of_the_state() {
    let held = || {
        let history = with_state(History::of(3), &[(0, 3), (1, 2)]);
        history
            .asked(Mode::Latest, true)
            .began(at("a", 2), Recovery::Fresh)
    };
    let stale = held().page(&[(1, 0), (2, 1)], false);
    stale
        .keyed(at("a", 3), 3, Some(Key(2)))
        .violates(Class::WrongState);
    let fresh = held().page(&[(1, 0), (2, 1)], false);
    fresh.keyed(at("a", 3), 3, Some(Key(0))).is_clean();
    let removed = held().page(&[(1, 0), (2, 1)], true).page(&[], false);
    let removed = removed.keyed(at("a", 3), 3, Some(Key(0)));
    with_state(removed, &[(0, 3)]).violates(Class::WrongState);
    // What was taken back hid an older value: it is owed again.
    let lost = held().page(&[(2, 0)], false).fails_over(1, 1);
    let lost = with_state(lost, &[(0, 1)]).rewind("b", 1, 1);
    lost.violates(Class::WrongState);
}

#[test]
fn an_owner_that_was_replaced_writes() {
    History::of(0)
        .wrote(5, 1)
        .wrote(6, 2)
        .wrote(5, 1)
        .violates(Class::StaleOwner);
    History::of(0)
        .wrote(5, 1)
        .wrote(5, 2)
        .violates(Class::StaleOwner);
    let forgotten = History::of(0).wrote(6, 2).with(Event::StoreLost);
    forgotten.wrote(5, 1).wrote(6, 2).is_clean();
}

#[test]
fn a_client_is_not_at_the_head() {
    History::of(2)
        .reads()
        .messages([1])
        .violates(Class::NotLive);
    // The head is there, but not its generation.
    let history = History::of(2).fails_over(2, 2).reads().messages(1..=2);
    history.violates(Class::NotLive);
    let gone = History::of(2).reads().messages([1]).with(Event::Left {
        client: CLIENT,
        channel: CHANNEL,
    });
    gone.is_clean();
}

#[test]
fn a_message_of_a_foreign_channel() {
    History::of(1)
        .message(at("a", 1), 1)
        .violates(Class::Foreign);
    let invented = History::of(1).reads().messages([1, 2]);
    invented.violates(Class::Foreign);
    let mut elsewhere = History::of(0);
    elsewhere.events.push(Event::Attempted {
        body: 1,
        channel: Channel(8),
    });
    elsewhere.reads().messages([1]).violates(Class::Foreign);
}
