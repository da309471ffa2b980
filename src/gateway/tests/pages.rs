//! Which requests for history are about the log that survived.

use tidewire_protocol::{Epoch, Position, command::Range};

use crate::{
    broker::{
        Head,
        lineage::{Lineage, Segment},
    },
    gateway::pages::is_on_log,
};

const ONE: &str = "life.00000001test.1.";
const TWO: &str = "life.00000002test.4.00000001test";

#[test]
fn a_position_is_served_only_if_all_up_to_it_survived() {
    use Range::{After, Before};
    let epoch = |text: &str| Epoch::new(text).unwrap();
    let segment = |text, start| Segment {
        epoch: epoch(text),
        start,
    };
    let lineage = Lineage::new(vec![segment(ONE, 1), segment(TWO, 4)]).unwrap();
    let head = Head {
        position: Position {
            epoch: epoch(TWO),
            offset: 9,
        },
        first: 1,
        state_floor: 0,
        lineage,
    };
    let rows = [
        (None, After(9), true),
        (None, After(10), false),
        (None, Before(Some(100)), true),
        (Some(TWO), After(9), true),
        (Some(TWO), After(10), false),
        (Some(TWO), Before(None), true),
        (Some(TWO), Before(Some(100)), true),
        // Generation 1 minted up to 5; 4 and 5 were lost.
        (Some(ONE), After(3), true),
        (Some(ONE), After(4), false),
        (Some(ONE), Before(Some(4)), true),
        (Some(ONE), Before(Some(5)), false),
        (Some(ONE), Before(None), false),
        (Some("other"), After(1), false),
    ];
    for (asked, range, expected) in rows {
        let found = is_on_log(asked.map(epoch), range, &head);
        assert_eq!(found, expected, "{asked:?} {range:?}");
    }
}
