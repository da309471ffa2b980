//! What is bounded, and what becomes of what waits.
//!
//! Beside `rules`, whose worlds it uses.

use serde_json::json;
use tidewire_protocol::{
    CloseCode, Command, Name, Payload,
    command::{Fallback, Pub},
};

use super::{
    rules::{wish, world},
    world::{Seen, World},
};
use crate::{
    Error, Status,
    core::{ReaderId, SocketEnd, Ticket, outbox::OUTBOX_COUNT_MAX, requests::READS_MAX},
    requests::History,
};

fn publication(number: u64) -> Pub {
    Pub {
        i: None,
        channel: tidewire_protocol::ChannelName::new("chat:1").unwrap(),
        payload: Some(Payload::from_json_text(number.to_string().as_bytes()).unwrap()),
        key: None,
        event: None,
        id: None,
        delete: false,
        ttl_ms: None,
        guard: None,
        trace: None,
    }
}

#[test]
fn the_outbox_is_bounded_and_tells_what_became_of_what_it_gives_up() {
    let mut world = world();
    world.welcome();
    let publish = |world: &mut World, number: u64| {
        let now = world.moment();
        world
            .engine
            .publish(Ticket(number), publication(number), Some(60_000), now);
        world.settle();
    };
    publish(&mut world, 1);
    world.end(0, SocketEnd::Broken);
    for number in 2..=u64::try_from(OUTBOX_COUNT_MAX).unwrap() + 1 {
        publish(&mut world, number);
    }
    let full = world.seen.pop_front();
    assert!(
        matches!(full, Some(Seen::Published(_, Err(Error::OutboxFull)))),
        "{full:?}"
    );
    // Nothing answers any more: the first was sent, the others never were.
    world.advance(60_000);
    let first = world.seen.pop_front();
    assert!(
        matches!(
            first,
            Some(Seen::Published(Ticket(1), Err(Error::OutcomeUnknown)))
        ),
        "{first:?}"
    );
    let second = world.seen.pop_front();
    assert!(
        matches!(
            second,
            Some(Seen::Published(Ticket(2), Err(Error::Expired)))
        ),
        "{second:?}"
    );
    assert_eq!(world.seen.len(), OUTBOX_COUNT_MAX - 2);
}

#[test]
fn a_publication_gets_an_id_of_its_own_and_one_too_large_is_refused_here() {
    let mut world = world();
    world.welcome();
    for number in 1..=2 {
        let now = world.moment();
        world
            .engine
            .publish(Ticket(number), publication(number), None, now);
    }
    world.settle();
    let mut ids = Vec::new();
    while let Some(Command::Pub(publication)) = world.sent(0) {
        ids.push(
            publication
                .id
                .as_ref()
                .map(Name::as_str)
                .unwrap()
                .to_owned(),
        );
    }
    assert_eq!(ids, ["test:1", "test:2"]);
    let mut large = publication(3);
    large.payload = Some(Payload::bytes(vec![0; 49_153].into()));
    let now = world.moment();
    world.engine.publish(Ticket(3), large, None, now);
    world.settle();
    let refused = world.seen.pop_front();
    assert!(matches!(
        refused,
        Some(Seen::Published(
            _,
            Err(Error::TooLarge {
                bytes: 49_153,
                max: 49_152
            })
        ))
    ));
}

#[test]
fn reads_are_bounded_in_number_and_time_and_asked_for_on_each_connection() {
    let mut world = world();
    world.welcome();
    for number in 0..=u64::try_from(READS_MAX).unwrap() {
        let channel = tidewire_protocol::ChannelName::new("chat:1").unwrap();
        let now = world.moment();
        world
            .engine
            .read(Ticket(number), History::newest().read(channel), now);
    }
    world.settle();
    assert!(matches!(
        world.seen.pop_front(),
        Some(Seen::Page(_, Err(Error::Busy)))
    ));
    assert_eq!(world.sockets[0].sent.len(), READS_MAX);
    world.end(0, SocketEnd::Broken);
    world.advance(250);
    world.welcome();
    assert_eq!(world.sockets[1].sent.len(), READS_MAX);
    world.advance(30_000);
    assert_eq!(world.seen.len(), READS_MAX);
    assert!(matches!(
        world.seen.pop_front(),
        Some(Seen::Page(_, Err(Error::Timeout)))
    ));
}

#[test]
fn everything_waiting_is_answered_when_the_node_refuses_for_good() {
    let mut world = world();
    world.subscribe("chat:1", wish(Fallback::Now));
    let now = world.moment();
    world.engine.publish(Ticket(1), publication(1), None, now);
    world.settle();
    world.open(0);
    world.push(0, &[json!({"t": "bye", "code": 4403, "name": "forbidden"})]);
    assert_eq!(world.status, Status::Blocked(CloseCode::Forbidden));
    let told = world.seen.pop_front();
    assert!(matches!(
        told,
        Some(Seen::Published(
            _,
            Err(Error::Blocked(CloseCode::Forbidden))
        ))
    ));
    assert_eq!(world.engine.poll_deadline(), None);
    let again = wish(Fallback::Now);
    let channel = tidewire_protocol::ChannelName::new("chat:2").unwrap();
    let refused = world.engine.subscribe(ReaderId(99), channel, again);
    assert_eq!(refused, Err(Error::Blocked(CloseCode::Forbidden)));
}

#[test]
fn a_session_has_one_reader_for_each_channel_and_at_most_256_channels() {
    let mut world = world();
    for number in 0..256 {
        world.subscribe(&format!("chat:{number}"), wish(Fallback::Now));
    }
    for (name, error) in [
        ("chat:7", Error::Subscribed),
        ("chat:256", Error::TooManySubscriptions(256)),
    ] {
        let channel = tidewire_protocol::ChannelName::new(name).unwrap();
        let refused = world
            .engine
            .subscribe(ReaderId(1_000), channel, wish(Fallback::Now));
        assert_eq!(refused, Err(error));
    }
}
