//! Rules of the core that no dialogue of the vectors speaks of.

use serde_json::{Value, json};
use tidewire_protocol::{
    Command, ErrorCode, Position,
    command::{Fallback, Hello, Mode, Sub},
};

use super::world::{World, welcome};
use crate::{
    Event, Loss, Status,
    core::{ReaderId, SocketEnd, Wish},
};

pub(super) fn world() -> World {
    World::new(vec!["token-1".to_owned(), "token-2".to_owned()])
}

pub(super) fn wish(fallback: Fallback) -> Wish {
    Wish {
        after: None,
        fallback,
        mode: Mode::Every,
        hz: None,
        me: None,
    }
}

fn begun(offset: u64, rec: &str) -> Value {
    json!({"t": "ok", "ch": "chat:1", "e": "e1", "o": offset, "rec": rec})
}

fn live(offset: u64) -> Value {
    json!({"t": "live", "ch": "chat:1", "o": offset, "n": 0})
}

fn msg(offset: u64) -> Value {
    json!({"t": "msg", "ch": "chat:1", "o": offset, "d": offset, "ts": 1})
}

fn item(offset: u64) -> Value {
    json!({"e": "e1", "o": offset, "d": offset, "k": format!("k{offset}"), "ts": 1})
}

fn at(offset: u64) -> Position {
    Position {
        epoch: tidewire_protocol::Epoch::new("e1").unwrap(),
        offset,
    }
}

/// A world whose one channel is live at offset 4 on its first connection.
fn following(fallback: Fallback) -> (World, ReaderId) {
    let mut world = world();
    let reader = world.subscribe("chat:1", wish(fallback));
    world.welcome();
    let mut frames = vec![begun(4, "fresh")];
    if fallback == Fallback::State {
        frames.push(json!({"t": "state", "ch": "chat:1", "items": [item(2)], "more": false}));
    }
    frames.push(live(4));
    world.push(0, &frames);
    while !matches!(world.event(), Some(Event::Live { .. })) {}
    (world, reader)
}

/// Loses the newest connection, waits, and answers the next hello.
fn reconnect(world: &mut World) -> Hello {
    world.end(world.sockets.len() - 1, SocketEnd::Broken);
    world.advance(20_000);
    let Command::Hello(hello) = world.welcome() else {
        panic!("not a hello");
    };
    hello
}

fn offsets(world: &mut World) -> Vec<u64> {
    let mut offsets = Vec::new();
    while let Some(event) = world.event() {
        if let Event::Message(message) = event {
            offsets.push(message.publication.offset);
        }
    }
    offsets
}

#[test]
fn another_address_is_tried_when_one_fails_and_the_same_when_it_takes_the_session() {
    let mut world = World::with_endpoints(vec!["token".to_owned()], 3);
    world.settle();
    for _ in 0..4 {
        world.end(world.sockets.len() - 1, SocketEnd::Broken);
        world.advance(20_000);
    }
    let tried: Vec<usize> = world.sockets.iter().map(|socket| socket.endpoint).collect();
    assert_eq!(tried, [0, 1, 2, 0, 1]);
    world.welcome();
    world.push(4, &[json!({"t": "move", "in": 10, "by": 30_000})]);
    world.advance(10);
    assert_eq!(world.sockets[5].endpoint, 2);
}

#[test]
fn a_snapshot_that_broke_off_is_read_to_its_end_and_no_publication_is_lost() {
    let mut world = world();
    world.subscribe("chat:1", wish(Fallback::State));
    world.welcome();
    let page = json!({"t": "state", "ch": "chat:1", "items": [item(2)], "more": true});
    world.push(0, &[begun(4, "fresh"), page]);
    let hello = reconnect(&mut world);
    assert_eq!(hello.subs.unwrap()[0].position, Some(at(4)));
    world.push(1, &[begun(4, "full"), msg(5), live(5)]);
    let Some(Command::State { i, from: 0, .. }) = world.sent(1) else {
        panic!("the rest of the state is not asked for");
    };
    // Until it is whole, no position says where the reader stands: nothing is acknowledged.
    world.advance(5_000);
    assert_eq!(world.sent(1), None);
    let answer = |i, offset, more| json!({"t": "ok", "i": i, "e": "e1", "o": 5, "items": [item(offset)], "more": more});
    world.push(1, &[answer(i, 2, true)]);
    let Some(Command::State { i, from: 3, .. }) = world.sent(1) else {
        panic!("the next page is not asked for");
    };
    world.push(1, &[answer(i, 3, false), msg(6)]);
    world.advance(1_000);
    let chat = tidewire_protocol::ChannelName::new("chat:1").unwrap();
    assert_eq!(world.sent(1), Some(Command::Ack(vec![(chat, at(6))])));
    assert_eq!(offsets(&mut world), [5, 6]);
}

/// A world whose snapshot broke off, live at offset 4 on its second connection, and the request
/// for the state.
fn broken_off() -> (World, Option<u64>) {
    let mut world = world();
    world.subscribe("chat:1", wish(Fallback::State));
    world.welcome();
    let page = json!({"t": "state", "ch": "chat:1", "items": [item(2)], "more": true});
    world.push(0, &[begun(4, "fresh"), page]);
    reconnect(&mut world);
    world.push(1, &[begun(4, "full"), live(4)]);
    let i = asked_for_state(&mut world);
    (world, i)
}

/// The number of the request for the state from its beginning.
fn asked_for_state(world: &mut World) -> Option<u64> {
    match world.sent(1) {
        Some(Command::State { i, from: 0, .. }) => i,
        other => panic!("the state is not asked for: {other:?}"),
    }
}

fn state_page(i: Option<u64>, head: u64, items: &[u64]) -> Value {
    let items: Vec<Value> = items.iter().map(|offset| item(*offset)).collect();
    json!({"t": "ok", "i": i, "e": "e1", "o": head, "items": items, "more": false})
}

/// The offsets in the pages that the reader was given.
fn paged(world: &mut World) -> Vec<u64> {
    let mut offsets = Vec::new();
    while let Some(event) = world.event() {
        if let Event::State { items, .. } = event {
            offsets.extend(items.iter().map(|item| item.publication.offset));
        }
    }
    offsets
}

#[test]
fn a_state_that_could_not_be_read_is_asked_for_again() {
    let (mut world, i) = broken_off();
    let busy =
        json!({"t": "error", "i": i, "code": 503, "name": "unavailable", "text": "", "retry": 100});
    world.push(1, &[busy]);
    world.advance(500);
    let i = asked_for_state(&mut world);
    let rewind = json!({"t": "rewind", "ch": "chat:1", "e": "e2", "to": 4, "lost": 0});
    // The answer is of the generation before.
    world.push(1, &[rewind, state_page(i, 4, &[2])]);
    asked_for_state(&mut world);
    world.advance(5_000);
    asked_for_state(&mut world);
    assert_eq!(paged(&mut world), [2]);
}

#[test]
fn a_state_read_beside_the_log_holds_nothing_above_the_cursor() {
    let (mut world, i) = broken_off();
    world.push(1, &[state_page(i, 6, &[2, 5])]);
    assert_eq!(paged(&mut world), [2, 2]);
    // What was left out for the value at 5 is missing if that never comes.
    let rewind = json!({"t": "rewind", "ch": "chat:1", "e": "e2", "to": 4, "lost": 0});
    world.push(1, &[rewind]);
    asked_for_state(&mut world);
}

#[test]
fn a_state_that_publications_overtook_is_read_again() {
    let (mut world, i) = broken_off();
    world.push(1, &[msg(5), state_page(i, 4, &[2])]);
    let i = asked_for_state(&mut world);
    world.push(1, &[state_page(i, 5, &[2, 5])]);
    assert_eq!(paged(&mut world), [2, 2, 5]);
}

#[test]
fn the_state_that_follows_a_gap_a_rewind_or_a_reset_is_not_asked_for() {
    let page = || json!({"t": "state", "ch": "chat:1", "items": [item(3)], "more": false});
    let marks = [
        json!({"t": "gap", "ch": "chat:1", "from": 5, "to": 7, "reason": "not_kept"}),
        json!({"t": "rewind", "ch": "chat:1", "e": "e2", "to": 3, "lost": 1}),
        json!({"t": "rewind", "ch": "chat:1", "e": "e2", "to": 4, "lost": 0}),
        json!({"t": "ok", "ch": "chat:1", "e": "e2", "o": 4, "rec": "reset"}),
    ];
    for mark in marks {
        let (mut world, _) = following(Fallback::State);
        world.push(0, &[mark, page()]);
        assert_eq!(paged(&mut world), [3]);
        assert_eq!(world.sent(0), None);
    }
}

#[test]
fn a_parked_channel_is_left_and_goes_on_from_its_cursor() {
    let (mut world, reader) = following(Fallback::Now);
    world.push(0, &[msg(5)]);
    world.engine.park(reader);
    world.settle();
    assert!(matches!(world.sent(0), Some(Command::Unsub { .. })));
    world.push(0, &[msg(6), json!({"t": "ok", "i": 1})]);
    assert_eq!(reconnect(&mut world).subs, Some(Vec::new()));
    world.engine.unpark(reader);
    world.settle();
    let Some(Command::Sub(Sub { position, .. })) = world.sent(1) else {
        panic!("it is not asked for again");
    };
    assert_eq!(position, Some(at(5)));
    world.push(
        1,
        &[
            json!({"t": "ok", "i": 2, "ch": "chat:1", "e": "e1", "o": 5, "rec": "full"}),
            msg(6),
            live(6),
        ],
    );
    assert_eq!(offsets(&mut world), [5, 6]);
}

#[test]
fn a_parked_member_stays_in_the_presence_and_drops_what_comes() {
    let mut world = world();
    let mut member = wish(Fallback::Now);
    member.me = Some("{}".into());
    let reader = world.subscribe("chat:1", member);
    world.welcome();
    world.push(0, &[begun(4, "fresh"), live(4)]);
    world.engine.park(reader);
    world.settle();
    assert_eq!(world.sent(0), None);
    world.push(0, &[msg(5)]);
    let hello = reconnect(&mut world);
    assert_eq!(hello.subs.unwrap()[0].position, Some(at(4)));
    world.push(1, &[begun(4, "full"), msg(5), live(5)]);
    assert_eq!(offsets(&mut world), [0; 0]);
    world.engine.unpark(reader);
    world.settle();
    assert!(matches!(
        world.sent(1),
        Some(Command::Sub(Sub {
            position: Some(_),
            ..
        }))
    ));
}

#[test]
fn a_refusal_that_passes_is_asked_again_and_another_with_the_next_token() {
    let (mut world, _) = following(Fallback::Now);
    world.push(
        0,
        &[json!({"t": "unsub", "ch": "chat:1", "code": 503, "name": "unavailable"})],
    );
    assert_eq!(world.sent(0), None);
    world.advance(250);
    assert!(matches!(world.sent(0), Some(Command::Sub(_))));
    world.push(
        0,
        &[json!({"t": "error", "i": 1, "code": 403, "name": "forbidden", "text": "no"})],
    );
    let refused = Event::Refused {
        code: ErrorCode::Forbidden,
        text: "no".to_owned(),
    };
    assert_eq!(world.event(), Some(refused));
    world.advance(5_000);
    assert_eq!(world.sent(0), None);
    world.push(0, &[json!({"t": "auth", "exp": 4_102_444_900_000_u64})]);
    assert_eq!(
        world.sent(0),
        Some(Command::Auth {
            i: Some(2),
            token: "token-2".to_owned()
        })
    );
    world.push(0, &[json!({"t": "ok", "i": 2})]);
    assert!(matches!(world.sent(0), Some(Command::Sub(_))));
}

#[test]
fn a_node_that_never_welcomes_is_given_up_and_silence_is_told() {
    let mut world = world();
    world.settle();
    world.open(0);
    world.advance(20_000);
    assert!(matches!(
        world.status,
        Status::Offline {
            why: Loss::Silent,
            ..
        }
    ));
    world.advance(250);
    assert_eq!(world.sockets.len(), 2);
}

#[test]
fn nothing_of_an_older_connection_counts_after_the_newer_ones_welcome() {
    let (mut world, _) = following(Fallback::Now);
    world.push(0, &[json!({"t": "move", "in": 0, "by": 30_000})]);
    world.advance(0);
    world.open(1);
    world.push(1, &[welcome("s1", "k1", world.now), begun(4, "full")]);
    world.push(
        0,
        &[
            msg(5),
            json!({"t": "bye", "code": 4403, "name": "forbidden"}),
        ],
    );
    world.end(0, SocketEnd::Closed(4403));
    assert!(matches!(world.status, Status::Online(_)));
    assert_eq!(offsets(&mut world), [0; 0]);
    world.push(1, &[msg(5)]);
    assert_eq!(offsets(&mut world), [5]);
}

#[test]
fn a_hole_inside_a_message_is_asked_about_once_and_filled() {
    let (mut world, _) = following(Fallback::Now);
    world.push(0, &[msg(6), msg(7), msg(8)]);
    assert!(matches!(
        world.sent(0),
        Some(Command::Sub(Sub {
            position: Some(_),
            ..
        }))
    ));
    assert_eq!(world.sent(0), None);
    let again = json!({"t": "ok", "i": 1, "ch": "chat:1", "e": "e1", "o": 4, "rec": "full"});
    world.push(0, &[again, msg(5), msg(6), msg(7), msg(8), live(8)]);
    assert_eq!(offsets(&mut world), [5, 6, 7, 8]);
}

#[test]
fn a_reader_that_takes_a_channel_over_gets_its_own_beginning_also_while_the_session_moves() {
    let (mut world, reader) = following(Fallback::Now);
    world.push(0, &[json!({"t": "move", "in": 0, "by": 30_000})]);
    world.advance(0);
    world.open(1);
    let now = world.moment();
    world.engine.unsubscribe(reader, now);
    world.subscribe("chat:1", wish(Fallback::Last(2)));
    assert!(matches!(world.sent(0), Some(Command::Sub(_))));
    world.push(1, &[welcome("s1", "k1", world.now)]);
    assert!(matches!(world.sent(1), Some(Command::Hello(_))));
    let Some(Command::Sub(sub)) = world.sent(1) else {
        panic!("its own beginning is not asked for");
    };
    assert_eq!((sub.position, sub.fallback), (None, Fallback::Last(2)));
    // What the hello asked is answered first, and is not what this reader gets.
    let own = json!({"t": "ok", "i": 2, "ch": "chat:1", "e": "e1", "o": 7, "rec": "fresh"});
    world.push(1, &[begun(4, "full"), msg(5), live(5), own, msg(8)]);
    assert_eq!(offsets(&mut world), [8]);
}

#[test]
fn staleness_is_told_once_and_to_a_parked_reader_when_it_reads_again() {
    let (mut world, reader) = following(Fallback::Now);
    let stale = |since: u64| json!({"t": "stale", "since": since});
    world.push(0, &[stale(7), stale(7)]);
    assert_eq!(world.event(), Some(Event::Stale(Some(7))));
    assert_eq!(world.event(), None);
    world.engine.park(reader);
    world.push(0, &[stale(0), stale(9)]);
    assert_eq!(world.event(), None);
    world.engine.unpark(reader);
    world.settle();
    assert_eq!(world.event(), Some(Event::Stale(Some(9))));
    reconnect(&mut world);
    assert_eq!(world.event(), Some(Event::Stale(None)));
}
