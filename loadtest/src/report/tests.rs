//! A run whose readers were given something wrong fails, and says what.

use std::sync::Arc;

use super::Report;
use crate::{hub::Hub, judge::Rule, message::Stamp, sampler::Record, stage::Stage};

/// The report of a run of one reader that was given these numbers of three published ones.
fn report(numbers: &[u64]) -> Report {
    let stage = Stage::new(Hub::given(Vec::new(), None), 1, "test".to_owned());
    let seat = stage.seat(0, Rule::Every);
    seat.owe(0, 1);
    for _ in 0..3 {
        stage.ledger.next(0);
        stage.ledger.acknowledge(0);
    }
    for number in numbers {
        let (stream, number) = (0, *number);
        seat.heard(&[Stamp {
            stream,
            number,
            at_us: 0,
        }]);
    }
    let record = Record::new(true);
    Report::of(&Arc::clone(&stage), record, "test", String::new())
}

#[test]
fn everything_once_and_in_order_passes() {
    let report = report(&[1, 2, 3]);
    assert!(report.passed, "{:?}", report.failures);
}

#[test]
fn a_record_with_something_lost_repeated_or_disordered_fails_by_name() {
    let cases = [
        (vec![1, 3], "lost: 1 of 3"),
        (vec![1, 2], "lost: 1 of 3"),
        (vec![], "lost: 3 of 3"),
        (vec![1, 2, 2, 3], "repeated: 1 "),
        (vec![1, 3, 2], "disordered: 1 "),
    ];
    for (numbers, name) in cases {
        let report = report(&numbers);
        assert!(!report.passed, "{numbers:?} must fail");
        assert!(
            report.failures[0].starts_with(name),
            "{numbers:?}: {:?}",
            report.failures
        );
        assert!(report.summary().contains("FAILED"));
    }
}

#[test]
fn a_publication_without_an_answer_fails() {
    let stage = Stage::new(Hub::given(Vec::new(), None), 1, "test".to_owned());
    let seat = stage.seat(0, Rule::Every);
    seat.owe(0, 1);
    let number = stage.ledger.next(0);
    seat.heard(&[Stamp {
        stream: 0,
        number,
        at_us: 0,
    }]);
    let report = Report::of(&stage, Record::new(true), "test", String::new());
    assert!(
        report.failures[0].starts_with("unacknowledged: "),
        "{:?}",
        report.failures
    );
}

#[test]
fn a_run_in_which_nobody_was_owed_anything_shows_nothing() {
    let stage = Stage::new(Hub::given(Vec::new(), None), 1, "test".to_owned());
    let report = Report::of(&stage, Record::new(true), "test", String::new());
    assert!(!report.passed);
}
