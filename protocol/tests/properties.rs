//! What holds for every command, frame and payload, in both encodings.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod strategy;

use proptest::prelude::*;
use tidewire_protocol::{
    Command, Encoding, Frame, Payload, decode, encode, payload::write_msgpack,
};

const ENCODINGS: [Encoding; 2] = [Encoding::Json, Encoding::MessagePack];

/// Numbers that a double cannot tell apart are the same number.
fn same(one: &serde_json::Value, other: &serde_json::Value) -> bool {
    use serde_json::Value;
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|(key, one)| other.get(key).is_some_and(|other| same(one, other)))
        }
        _ => one == other,
    }
}

fn value(text: &[u8]) -> serde_json::Value {
    serde_json::from_slice(text).unwrap()
}

/// The MessagePack form of a JSON text.
fn msgpack(text: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    write_msgpack(text, &mut wire);
    wire
}

fn text(payload: &Payload) -> &[u8] {
    match payload {
        Payload::Json(text) => text,
        Payload::Bytes(_) => panic!("not a JSON text"),
    }
}

fn command_value(command: &Command) -> serde_json::Value {
    let mut wire = Vec::new();
    command.encode(Encoding::Json, &mut wire);
    value(&wire)
}

fn frame_value(frame: &Frame) -> serde_json::Value {
    let mut wire = Vec::new();
    frame.encode(Encoding::Json, &mut wire);
    value(&wire)
}

/// Encodes each of `items` with `write` into one message.
fn message<T>(
    encoding: Encoding,
    items: &[T],
    write: impl Fn(&T, Encoding, &mut Vec<u8>),
) -> Vec<u8> {
    let mut message = Vec::new();
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            message.extend_from_slice(encode::separator(encoding));
        }
        write(item, encoding, &mut message);
    }
    message
}

proptest! {
    #[test]
    fn commands_round_trip(commands in proptest::collection::vec(strategy::command(), 1..6)) {
        for encoding in ENCODINGS {
            let message = message(encoding, &commands, Command::encode);
            let decoded = decode::commands(encoding, &message).unwrap();
            prop_assert_eq!(decoded.len(), commands.len());
            for (decoded, command) in decoded.iter().zip(&commands) {
                prop_assert!(encoding == Encoding::MessagePack || decoded == command);
                prop_assert!(same(&command_value(decoded), &command_value(command)));
            }
        }
    }

    #[test]
    fn frames_round_trip(frames in proptest::collection::vec(strategy::frame(), 1..6)) {
        for encoding in ENCODINGS {
            let message = message(encoding, &frames, Frame::encode);
            let decoded = decode::frames(encoding, &message).unwrap();
            prop_assert_eq!(decoded.len(), frames.len());
            for (decoded, frame) in decoded.iter().zip(&frames) {
                prop_assert!(encoding == Encoding::MessagePack || decoded == frame);
                prop_assert!(same(&frame_value(decoded), &frame_value(frame)));
            }
        }
    }

    #[test]
    fn data_says_the_same_in_both_encodings(data in strategy::json()) {
        let payload = Payload::from_json_text(data.to_string().as_bytes()).unwrap();
        let wire = msgpack(text(&payload));
        prop_assert!(wire.len() <= 3 * payload.len() + 3);
        let back = Payload::from_msgpack(&wire).unwrap();
        prop_assert!(same(&value(text(&payload)), &value(text(&back))), "{payload:?} {back:?}");
        let again = Payload::from_msgpack(&msgpack(text(&back))).unwrap();
        prop_assert_eq!(again, back, "the second trip changes nothing");
    }

    #[test]
    fn json_white_space_and_escapes_say_the_same(data in strategy::json()) {
        let plain = Payload::from_json_text(data.to_string().as_bytes()).unwrap();
        let pretty = serde_json::to_string_pretty(&data).unwrap().replace('\n', "\r\n");
        let pretty = Payload::from_json_text(pretty.as_bytes()).unwrap();
        prop_assert!(!text(&pretty).iter().any(|byte| matches!(byte, b'\r' | b'\n')));
        prop_assert_eq!(msgpack(text(&plain)), msgpack(text(&pretty)));
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        for encoding in ENCODINGS {
            drop(decode::commands(encoding, &bytes));
            drop(decode::frames(encoding, &bytes));
        }
        drop(Payload::from_json_text(&bytes));
        drop(Payload::from_msgpack(&bytes));
    }
}
