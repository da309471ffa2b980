//! What must hold for any bytes: one function for each fuzz target.
//!
//! Run by libFuzzer through `fuzz_targets/`, and on every machine over the committed corpus and
//! its mutations by `protocol/tests/corpus.rs`. A broken promise panics.

use tidewire_protocol::{
    Command, Encoding, Frame, Payload, PayloadError, decode, payload::write_msgpack,
};

/// Commands in JSON.
pub fn commands_json(data: &[u8]) {
    commands(Encoding::Json, data);
}

/// Commands in MessagePack.
pub fn commands_msgpack(data: &[u8]) {
    commands(Encoding::MessagePack, data);
}

/// Frames in JSON.
pub fn frames_json(data: &[u8]) {
    frames(Encoding::Json, data);
}

/// Frames in MessagePack.
pub fn frames_msgpack(data: &[u8]) {
    frames(Encoding::MessagePack, data);
}

/// What was understood is understood again when it is said again.
fn commands(encoding: Encoding, data: &[u8]) {
    let Ok(commands) = decode::commands(encoding, data) else {
        return;
    };
    assert!(
        !commands.is_empty(),
        "a message holds a frame or is refused"
    );
    for command in commands {
        if matches!(command, Command::Unknown { .. } | Command::Invalid { .. }) {
            continue;
        }
        let mut wire = Vec::new();
        command.encode(encoding, &mut wire);
        assert_eq!(decode::commands(encoding, &wire), Ok(vec![command]));
    }
}

fn frames(encoding: Encoding, data: &[u8]) {
    let Ok(frames) = decode::frames(encoding, data) else {
        return;
    };
    for frame in frames {
        let mut wire = Vec::new();
        frame.encode(encoding, &mut wire);
        assert_eq!(decode::frames(encoding, &wire), Ok(vec![frame.clone()]));
        if let Frame::Msg {
            channel,
            publication,
        } = &frame
        {
            let mut direct = Vec::new();
            tidewire_protocol::encode::msg(encoding, channel, publication, &mut direct);
            assert_eq!(wire, direct);
        }
    }
}

/// The same bytes as JSON text and as MessagePack: either way the data that is accepted says the
/// same in both forms, and an independent parser agrees on what is JSON.
pub fn payload(data: &[u8]) {
    let parsed = serde_json::from_slice::<serde_json::Value>(data);
    match Payload::from_json_text(data) {
        Ok(payload) => {
            let value = parsed.expect("what is accepted is JSON");
            transcoding_agrees(&payload, &value);
        }
        Err(PayloadError::Syntax { .. } | PayloadError::Utf8) => {
            assert!(parsed.is_err(), "what is JSON is not called broken");
        }
        Err(_) => {}
    }
    if let Ok(payload) = Payload::from_msgpack(data) {
        let text = text(&payload);
        assert_eq!(
            Payload::from_json_text(text).as_ref(),
            Ok(&payload),
            "already one line of JSON"
        );
        let value = serde_json::from_slice(text).expect("what is written is JSON");
        transcoding_agrees(&payload, &value);
    }
}

fn text(payload: &Payload) -> &[u8] {
    match payload {
        Payload::Json(text) => text,
        Payload::Bytes(_) => panic!("data is JSON"),
    }
}

fn transcoding_agrees(payload: &Payload, value: &serde_json::Value) {
    let mut wire = Vec::new();
    write_msgpack(text(payload), &mut wire);
    assert!(
        wire.len() <= 3 * payload.len() + 3,
        "MessagePack is at most three times as long, and 3"
    );
    let back = Payload::from_msgpack(&wire).expect("what is written is accepted");
    let read: serde_json::Value =
        serde_json::from_slice(text(&back)).expect("what is written is JSON");
    assert!(same(&read, value), "{read} is not {value}");
    let mut again = Vec::new();
    write_msgpack(text(&back), &mut again);
    assert_eq!(wire, again, "the second trip changes nothing");
}

/// Numbers are doubles.
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
