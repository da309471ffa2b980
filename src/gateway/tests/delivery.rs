//! Delivery over a real socket of a real node: what a full socket costs, and what it never costs.

use std::{collections::BTreeMap, sync::Arc};

use tidewire_protocol::{
    CloseCode, Encoding, Frame,
    command::{Fallback, Mode},
    frame::{GapReason, Publication, Recovery},
};

use super::client::{Client, Lab, PATIENCE, channel, last, offsets, sub, sub_from, unsub};
use crate::gateway::{
    connection::{Connection, LANE_BYTES_MAX},
    read,
};

const KIB: usize = 1024;

/// Bytes that wait for the client, which never hold more than a turn and one frame.
fn check_bounds(connection: &Connection, frame_bytes: usize) {
    let out = connection.lock();
    let rest = out.rest.len() - out.rest_at;
    assert!(rest <= 64 * KIB + frame_bytes + KIB, "{rest} bytes wait");
    assert!(out.lane(connection.encoding).len() < LANE_BYTES_MAX);
    assert!(
        out.rest.is_empty() || out.blocked,
        "somebody waits for the socket"
    );
}

fn is_blocked(connection: &Connection) -> bool {
    connection.lock().blocked
}

/// Publishes until the socket stays full, and answers how many it took: the kernel's buffers grow
/// at first.
async fn fill(lab: &Lab, connection: &Connection, name: &str, size: usize) -> u64 {
    let (mut newest, mut refused) = (0, 0);
    while refused < 100 {
        newest = lab.publish(&channel(name), None, size).await;
        refused = if is_blocked(connection) {
            refused + 1
        } else {
            0
        };
    }
    newest
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_costs_one_turn_and_loses_nothing() {
    let lab = Lab::start().await;
    for encoding in [Encoding::Json, Encoding::MessagePack] {
        let name = format!("full-{}", encoding.subprotocol());
        let (connection, mut client) = lab.connect(encoding).await;
        sub(&connection, &name, Mode::Every).await;
        let mut newest = fill(&lab, &connection, &name, 4 * KIB).await;
        for _ in 0..1_000 {
            newest = lab.publish(&channel(&name), None, 4 * KIB).await;
            check_bounds(&connection, 6 * KIB);
        }
        client
            .read_until(|frames| last(frames, &name) == newest)
            .await;
        assert_eq!(client.offsets(&name), (1..=newest).collect::<Vec<_>>());
        assert!(matches!(client.frames[0], Frame::Subscribed { .. }));
        assert!(matches!(client.frames[1], Frame::Live { .. }));
        let gaps = client
            .frames
            .iter()
            .any(|frame| matches!(frame, Frame::Gap { .. }));
        assert!(!gaps);
        lab.publish(&channel(&name), None, 1).await;
        client
            .read_until(|frames| last(frames, &name) == newest + 1)
            .await;
        assert!(!is_blocked(&connection));
    }
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_of_the_newest_ends_on_the_newest_of_every_key() {
    let lab = Lab::start().await;
    let (connection, mut client) = lab.connect(Encoding::MessagePack).await;
    sub(&connection, "keys", Mode::Latest).await;
    sub(&connection, "filler", Mode::Every).await;
    let filled = fill(&lab, &connection, "filler", 16 * KIB).await;
    let mut newest = BTreeMap::new();
    for round in 0..3_000_u64 {
        let key = u8::try_from(round * round % 50).unwrap();
        newest.insert(key, lab.publish(&channel("keys"), Some(key), 500).await);
        check_bounds(&connection, 24 * KIB);
    }
    client
        .read_until(|frames| last(frames, "keys") == 3_000 && last(frames, "filler") == filled)
        .await;
    assert!(client.offsets("keys").is_sorted_by(|one, next| one < next));
    assert!(client.offsets("keys").len() < 1_000, "conflated");
    let mut shown = BTreeMap::new();
    for frame in &client.frames {
        if let Frame::Msg {
            channel,
            publication,
        } = frame
            && channel.as_str() == "keys"
        {
            shown.insert(key_of(publication), publication.offset);
        }
    }
    assert_eq!(shown, newest);
    lab.stop().await;
}

fn key_of(publication: &Publication) -> u8 {
    publication.key.as_ref().unwrap().as_str()[1..]
        .parse()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_history_dropped_is_a_gap_in_its_place() {
    let lab = Lab::start().await;
    let (connection, mut client) = lab.connect(Encoding::Json).await;
    sub(&connection, "few:1", Mode::Every).await;
    fill(&lab, &connection, "few:1", 16 * KIB).await;
    let mut newest = 0;
    for _ in 0..200 {
        newest = lab.publish(&channel("few:1"), None, 16 * KIB).await;
    }
    client
        .read_until(|frames| last(frames, "few:1") == newest)
        .await;
    let mut next = 1;
    for frame in &client.frames {
        match frame {
            Frame::Gap {
                from, to, reason, ..
            } => {
                assert_eq!((*from, *reason), (next, GapReason::Expired));
                next = to + 1;
            }
            Frame::Msg { publication, .. } => {
                assert_eq!(publication.offset, next);
                next += 1;
            }
            _other => {}
        }
    }
    assert_eq!(next, newest + 1);
    assert!(client.offsets("few:1").len() < usize::try_from(newest).unwrap());
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_frame_is_not_kept_out_by_a_busy_channel() {
    let lab = Lab::start().await;
    let (connection, mut client) = lab.connect(Encoding::MessagePack).await;
    sub(&connection, "busy", Mode::Every).await;
    sub(&connection, "large", Mode::Every).await;
    fill(&lab, &connection, "busy", 4 * KIB).await;
    lab.publish(&channel("large"), None, 40 * KIB).await;
    let mut newest = 0;
    for _ in 0..100 {
        newest = lab.publish(&channel("busy"), None, 4 * KIB).await;
    }
    client.read_until(|frames| last(frames, "large") == 1).await;
    let busy = last(&client.frames, "busy");
    assert!(newest - busy > 80, "it came after {busy} of {newest}");
    client
        .read_until(|frames| last(frames, "busy") == newest)
        .await;
    assert_eq!(client.offsets("busy"), (1..=newest).collect::<Vec<_>>());
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_socket_still_gets_whole_frames_the_reason_and_the_close() {
    let lab = Lab::start().await;
    let (connection, reader, mut client) = lab.accept(Encoding::Json).await;
    sub(&connection, "closing", Mode::Every).await;
    fill(&lab, &connection, "closing", 4 * KIB).await;
    let reading = read::run(Arc::clone(&connection), reader, Vec::new());
    lab.gateway().tasks.spawn(reading);
    connection.close(CloseCode::Draining, Some(5), None);
    lab.publish(&channel("closing"), None, 1).await;
    while client.read(64 * KIB).await {}
    let seen = client.offsets("closing");
    assert_eq!(seen, (1..=seen.len() as u64).collect::<Vec<_>>());
    assert!(matches!(
        client.frames.last(),
        Some(Frame::Bye {
            code: CloseCode::Draining,
            retry_ms: Some(5),
            ..
        })
    ));
    assert_eq!(client.closed, Some(CloseCode::Draining.number()));
    drop(client);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_follows_an_unsub() {
    let lab = Lab::start().await;
    let (connection, mut client) = lab.connect(Encoding::Json).await;
    sub(&connection, "gone", Mode::Every).await;
    lab.publish(&channel("gone"), None, 1).await;
    unsub(&connection, "gone").await;
    lab.publish(&channel("gone"), None, 1).await;
    sub(&connection, "next", Mode::Every).await;
    lab.publish(&channel("next"), None, 1).await;
    client.read_until(|frames| last(frames, "next") == 1).await;
    assert_eq!(client.offsets("gone"), [1]);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_deleted_under_a_slow_reader_starts_over_with_its_last_publications() {
    let lab = Lab::start().await;
    let (connection, mut client) = lab.connect(Encoding::Json).await;
    sub_from(&connection, "deleted", Mode::Every, Fallback::Last(2)).await;
    fill(&lab, &connection, "deleted", 4 * KIB).await;
    let broker = lab.gateway().feed.broker_handle();
    let head = broker.delete(&channel("deleted")).await.unwrap();
    for _ in 0..5 {
        lab.publish(&channel("deleted"), None, 10).await;
    }
    let is_reset = |frame: &Frame| {
        matches!(
            frame,
            Frame::Subscribed {
                recovery: Recovery::Reset,
                ..
            }
        )
    };
    client
        .read_until(|frames| frames.iter().any(is_reset) && last(frames, "deleted") == 5)
        .await;
    let at = client.frames.iter().position(is_reset).unwrap();
    let before = offsets(&client.frames[..at], "deleted");
    assert_eq!(before, (1..=before.len() as u64).collect::<Vec<_>>());
    let Frame::Subscribed { position, .. } = &client.frames[at] else {
        panic!("not a subscription");
    };
    assert_eq!(
        (&position.epoch, position.offset),
        (&head.position.epoch, 3)
    );
    assert_eq!(offsets(&client.frames[at..], "deleted"), [4, 5]);
    let floor = connection.with_session(|session| session.subs().next().unwrap().1.floor);
    assert_eq!(floor, Some(3), "nothing of this life is acknowledged");
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_mode_changes_neither_the_cursor_nor_what_was_acknowledged() {
    let lab = Lab::start().await;
    let (connection, mut client) = lab.connect(Encoding::Json).await;
    sub(&connection, "modes", Mode::Every).await;
    for _ in 0..3 {
        lab.publish(&channel("modes"), Some(1), 10).await;
    }
    client.read_until(|frames| last(frames, "modes") == 3).await;
    sub(&connection, "modes", Mode::Latest).await;
    let progress = connection.with_session(|session| {
        let (_, sub) = session.subs().next().unwrap();
        (sub.floor, sub.progress.cursor)
    });
    assert_eq!(progress, Some((0, 3)));
    lab.publish(&channel("modes"), Some(1), 10).await;
    client.read_until(|frames| last(frames, "modes") == 4).await;
    assert_eq!(client.offsets("modes"), [1, 2, 3, 4]);
    lab.stop().await;
}

const CHANNELS: usize = 6;
const ROUNDS: u64 = 400;

fn named(number: usize) -> String {
    format!("storm-{number}")
}

/// Publishes to every channel, small and large, from several tasks at once.
async fn storm(lab: &Arc<Lab>) {
    let mut publishers = Vec::new();
    for number in 0..CHANNELS {
        let lab = Arc::clone(lab);
        publishers.push(tokio::spawn(async move {
            for round in 0..ROUNDS {
                let size = if round % 97 == 0 { 30 * KIB } else { 700 };
                lab.publish(&channel(&named(number)), None, size).await;
                tokio::task::yield_now().await;
            }
        }));
    }
    for publisher in publishers {
        publisher.await.unwrap();
    }
}

fn is_complete(frames: &[Frame]) -> bool {
    (0..CHANNELS).all(|number| last(frames, &named(number)) == ROUNDS)
}

async fn read_all(mut client: Client, bytes_max: usize) -> Vec<Frame> {
    while !is_complete(&client.frames) {
        assert!(client.read(bytes_max).await);
    }
    client.frames
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_publishers_and_readers_of_every_speed_miss_and_repeat_nothing() {
    let lab = Arc::new(Lab::start().await);
    let (mut readers, mut connections) = (Vec::new(), Vec::new());
    for number in 0..12_usize {
        let encoding = [Encoding::Json, Encoding::MessagePack][number % 2];
        let (connection, client) = lab.connect(encoding).await;
        for number in 0..CHANNELS {
            sub(&connection, &named(number), Mode::Every).await;
        }
        connections.push(connection);
        let bytes_max = [1_500, 9 * KIB, 64 * KIB][number % 3];
        readers.push(tokio::spawn(read_all(client, bytes_max)));
    }
    storm(&lab).await;
    for reader in readers {
        let frames = tokio::time::timeout(PATIENCE, reader)
            .await
            .unwrap()
            .unwrap();
        for number in 0..CHANNELS {
            let seen = offsets(&frames, &named(number));
            assert_eq!(seen, (1..=ROUNDS).collect::<Vec<_>>());
        }
    }
    for connection in connections {
        check_bounds(&connection, 64 * KIB);
    }
    Arc::into_inner(lab).unwrap().stop().await;
}
