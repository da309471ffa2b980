//! `Slots` against a set.

use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::gateway::connection::Slots;

#[derive(Debug, Clone)]
enum Step {
    Insert(u8),
    Remove(u8),
    InsertAll(Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<u8>().prop_map(Step::Insert),
        3 => any::<u8>().prop_map(Step::Remove),
        1 => proptest::collection::vec(any::<u8>(), 0..8).prop_map(Step::InsertAll),
    ]
}

fn slots(members: &[u8]) -> Slots {
    let mut slots = Slots::default();
    for member in members {
        slots.insert(*member);
    }
    slots
}

proptest! {
    #[test]
    fn slots_are_a_set_that_goes_round(steps in proptest::collection::vec(step(), 1..60)) {
        let (mut slots_found, mut model) = (Slots::default(), BTreeSet::new());
        for step in steps {
            match step {
                Step::Insert(slot) => {
                    slots_found.insert(slot);
                    model.insert(slot);
                }
                Step::Remove(slot) => {
                    slots_found.remove(slot);
                    model.remove(&slot);
                }
                Step::InsertAll(more) => {
                    slots_found.insert_all(slots(&more));
                    model.extend(more);
                }
            }
            prop_assert_eq!(slots_found.is_empty(), model.is_empty());
            for from in 0..=u8::MAX {
                let next = model.range(from..).next().or_else(|| model.first()).copied();
                prop_assert_eq!(slots_found.next(from), next);
            }
        }
    }
}
