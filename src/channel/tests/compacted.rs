//! `Compacted` against all that was ever pushed.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{super::compacted::Compacted, *};

#[derive(Debug, Clone)]
enum Step {
    Push(Option<u8>, usize),
    DropThrough(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        9 => (proptest::option::weighted(0.8, 0..6_u8), 0..200_usize)
            .prop_map(|(key, size)| Step::Push(key, size)),
        1 => (0..60_u64).prop_map(Step::DropThrough),
    ]
}

/// What a reader is owed: each key's newest above the cursor, in rising offset order.
fn owed(pushed: &[(u64, Option<u8>, Vec<u8>)], cursor: u64) -> Vec<(u64, Vec<u8>)> {
    let newest: BTreeMap<_, _> = pushed
        .iter()
        .map(|(offset, key, frame)| (*key, (*offset, frame.clone())))
        .collect();
    let mut above: Vec<_> = newest
        .into_values()
        .filter(|(offset, _)| *offset > cursor)
        .collect();
    above.sort();
    above
}

proptest! {
    #![proptest_config(cases(64))]
    #[test]
    fn a_cursor_it_is_complete_for_finds_the_newest_of_every_key(
        steps in proptest::collection::vec(step(), 1..60),
        head in 0..20_u64,
        bytes_max in 1..1_500_usize,
    ) {
        let mut compacted = Compacted::new(head);
        let (mut pushed, mut next) = (Vec::new(), head + 1);
        for step in steps {
            let above = compacted.complete_above();
            match step {
                Step::Push(key, size) => {
                    let publication = publication(next, key, size);
                    let frame = encoded(Encoding::Json, &publication);
                    compacted.push(next, publication.key.as_ref(), &frame, bytes_max);
                    pushed.push((next, key, frame));
                    next += 1;
                    prop_assert!(compacted.complete_above() < next - 1);
                }
                Step::DropThrough(offset) => {
                    let offset = offset.min(next - 1);
                    compacted.drop_through(offset);
                    prop_assert!(compacted.complete_above() >= offset);
                }
            }
            prop_assert!(compacted.complete_above() >= above);
            let held: Vec<_> = compacted.after(0).collect();
            prop_assert_eq!(held.iter().map(|(_, frame)| frame.len()).sum::<usize>(), compacted.bytes());
            prop_assert!(compacted.bytes() <= bytes_max || held.len() <= 1);
            for cursor in compacted.complete_above()..next {
                let found: Vec<_> = compacted
                    .after(cursor)
                    .map(|(offset, frame)| (offset, frame.to_vec()))
                    .collect();
                prop_assert_eq!(found, owed(&pushed, cursor));
            }
        }
    }
}

#[test]
fn dropping_the_oldest_raises_what_it_is_complete_above() {
    let mut compacted = Compacted::new(4);
    let frame = [0; 100];
    compacted.push(5, Some(&Name::new("a").unwrap()), &frame, 250);
    compacted.push(6, Some(&Name::new("b").unwrap()), &frame, 250);
    assert_eq!(compacted.complete_above(), 4);
    compacted.push(7, Some(&Name::new("c").unwrap()), &frame, 250);
    assert_eq!(compacted.complete_above(), 5);
    compacted.push(8, Some(&Name::new("b").unwrap()), &frame, 250);
    assert_eq!(compacted.complete_above(), 5);
    let held: Vec<_> = compacted.after(5).map(|(offset, _)| offset).collect();
    assert_eq!(held, [7, 8]);
}
