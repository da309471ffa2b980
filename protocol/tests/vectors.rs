//! Runs the vectors of `protocol/vectors/codec` and keeps their derived parts right.
//!
//! A vector is written by hand: its name, direction, one wire form and what to expect. The other
//! form, the model and the error follow from these; `TIDEWIRE_WRITE_VECTORS=1` writes them down,
//! and without it a file that differs fails. `vectors/codec/README.md` explains the format.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(clippy::disallowed_methods, reason = "a test reads its own switch")]

use std::{fs, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidewire_protocol::{
    CloseCode, Command, Encoding, ErrorCode, Payload, decode, payload::write_msgpack,
};

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Direction {
    Command,
    Push,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Expect {
    Ok,
    Ignore,
    Reject,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    name: String,
    dir: Direction,
    #[serde(skip_serializing_if = "Option::is_none")]
    json: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    json_hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    msgpack_hex: Option<String>,
    expect: Expect,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    models: Option<Vec<Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    close: Option<u16>,
}

/// What a decoder made of a message.
#[derive(Debug, PartialEq)]
struct Outcome {
    expect: Expect,
    models: Vec<Value>,
    error: Option<Value>,
    close: Option<u16>,
}

impl Outcome {
    fn refused(dir: Direction) -> Self {
        let close = (dir == Direction::Command).then(|| CloseCode::BadRequest.number());
        Self {
            expect: Expect::Reject,
            models: Vec::new(),
            error: None,
            close,
        }
    }

    fn error(expect: Expect, i: Option<u64>, code: ErrorCode) -> Self {
        let error =
            i.map(|i| serde_json::json!({"i": i, "code": code.number(), "name": code.name()}));
        let close =
            (i.is_none() && expect == Expect::Reject).then(|| CloseCode::BadRequest.number());
        Self {
            expect,
            models: Vec::new(),
            error,
            close,
        }
    }

    fn ok(models: Vec<Value>) -> Self {
        Self {
            expect: Expect::Ok,
            models,
            error: None,
            close: None,
        }
    }
}

fn run(dir: Direction, encoding: Encoding, message: &[u8]) -> Outcome {
    match dir {
        Direction::Command => decode::commands(encoding, message).map_or_else(
            |_| Outcome::refused(dir),
            |commands| command_outcome(&commands),
        ),
        Direction::Push => match decode::frames(encoding, message) {
            Err(_) => Outcome::refused(dir),
            Ok(frames) if frames.is_empty() => {
                Outcome::error(Expect::Ignore, None, ErrorCode::UnknownType)
            }
            Ok(frames) => Outcome::ok(
                frames
                    .iter()
                    .map(|frame| model(|out| frame.encode(Encoding::Json, out)))
                    .collect(),
            ),
        },
    }
}

fn command_outcome(commands: &[Command]) -> Outcome {
    for command in commands {
        if let Command::Invalid { i, code, .. } = command {
            return Outcome::error(Expect::Reject, *i, *code);
        }
        if let Command::Unknown { i } = command {
            return Outcome::error(Expect::Ignore, *i, ErrorCode::UnknownType);
        }
    }
    let models = commands
        .iter()
        .map(|command| model(|out| command.encode(Encoding::Json, out)));
    Outcome::ok(models.collect())
}

fn model(write: impl FnOnce(&mut Vec<u8>)) -> Value {
    let mut text = Vec::new();
    write(&mut text);
    serde_json::from_slice(&text).unwrap()
}

fn unhex(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2), "{hex}");
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The MessagePack form of one JSON value, or of one a line.
fn value_by_value(text: &str) -> Option<String> {
    let mut out = Vec::new();
    let whole = Payload::from_json_text(text.as_bytes()).is_ok();
    let values = if whole {
        vec![text]
    } else {
        text.lines().collect()
    };
    for value in values {
        let Payload::Json(value) = Payload::from_json_text(value.as_bytes()).ok()? else {
            return None;
        };
        write_msgpack(&value, &mut out);
    }
    Some(hex(&out))
}

impl Vector {
    fn json_message(&self) -> Option<Vec<u8>> {
        let text = self.json.as_ref().map(|text| text.clone().into_bytes());
        text.or_else(|| self.json_hex.as_deref().map(unhex))
    }

    /// The MessagePack form of the JSON message, if JSON says everything of it: value by value
    /// where that can be (unknown keys stay), else as this crate encodes what it decoded.
    fn transcoded(&self) -> Option<String> {
        let text = self.json.as_deref()?;
        if let Some(hex) = (!text.contains("\"b\":"))
            .then(|| value_by_value(text))
            .flatten()
        {
            return Some(hex);
        }
        (self.expect == Expect::Ok).then(|| self.encoded(text.as_bytes()))
    }

    fn encoded(&self, message: &[u8]) -> String {
        let mut out = Vec::new();
        match self.dir {
            Direction::Command => {
                for command in decode::commands(Encoding::Json, message).unwrap() {
                    command.encode(Encoding::MessagePack, &mut out);
                }
            }
            Direction::Push => {
                for frame in decode::frames(Encoding::Json, message).unwrap() {
                    frame.encode(Encoding::MessagePack, &mut out);
                }
            }
        }
        hex(&out)
    }

    /// A model written by hand may also name what its absence would say.
    fn fuller(&self, model: &Value) -> Value {
        let written = self.model.as_ref().filter(|written| within(model, written));
        written.unwrap_or(model).clone()
    }

    /// The vector as its hand-written part says it must be.
    fn derived(&self) -> Self {
        let json = self
            .json_message()
            .map(|text| run(self.dir, Encoding::Json, &text));
        let msgpack_hex = self.msgpack_hex.clone().or_else(|| self.transcoded());
        let msgpack = msgpack_hex
            .as_deref()
            .map(|hex| run(self.dir, Encoding::MessagePack, &unhex(hex)));
        if let (Some(json), Some(msgpack)) = (&json, &msgpack) {
            assert!(same(json, msgpack), "{}: {json:?} {msgpack:?}", self.name);
        }
        let outcome = json.or(msgpack).unwrap();
        assert_eq!(outcome.expect, self.expect, "{}: {outcome:?}", self.name);
        let one = outcome.models.len() == 1;
        Self {
            msgpack_hex,
            model: one.then(|| self.fuller(&outcome.models[0])),
            models: (outcome.models.len() > 1).then_some(outcome.models),
            error: outcome.error,
            close: outcome.close,
            ..self.clone()
        }
    }
}

fn same(one: &Outcome, other: &Outcome) -> bool {
    let models = |outcome: &Outcome| doubles(outcome.models.clone().into());
    models(one) == models(other)
        && (one.expect, &one.error, one.close) == (other.expect, &other.error, other.close)
}

fn doubles(value: Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().into(),
        Value::Array(items) => items.into_iter().map(doubles).collect(),
        Value::Object(pairs) => pairs
            .into_iter()
            .map(|(key, value)| (key, doubles(value)))
            .collect(),
        Value::Null | Value::Bool(_) | Value::String(_) => value,
    }
}

/// Whether every key of the model stands in the frame with that value: nothing is made up.
fn within(model: &Value, frame: &Value) -> bool {
    match (model, frame) {
        (Value::Object(model), Value::Object(frame)) => model
            .iter()
            .all(|(key, value)| frame.get(key).is_some_and(|given| within(value, given))),
        (Value::Array(model), Value::Array(frame)) => {
            model.len() == frame.len()
                && model
                    .iter()
                    .zip(frame)
                    .all(|(model, frame)| within(model, frame))
        }
        _ => doubles(model.clone()) == doubles(frame.clone()),
    }
}

fn files() -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors/codec");
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .collect();
    files.sort();
    files
}

#[test]
fn vectors_hold_and_their_derived_parts_are_written_down() {
    let mut count = 0;
    for path in files() {
        let text = fs::read_to_string(&path).unwrap();
        let vectors: Vec<Vector> = serde_json::from_str(&text).unwrap();
        let derived: Vec<Vector> = vectors.iter().map(Vector::derived).collect();
        count += derived.len();
        for vector in &derived {
            let frame = vector
                .json
                .as_deref()
                .and_then(|text| serde_json::from_str(text).ok());
            if let (Some(model), Some(frame)) = (&vector.model, frame) {
                assert!(within(model, &frame), "{}: {model}", vector.name);
            }
        }
        if std::env::var("TIDEWIRE_WRITE_VECTORS").is_ok_and(|value| value == "1") {
            let text = serde_json::to_string_pretty(&derived).unwrap() + "\n";
            fs::write(&path, text).unwrap();
            continue;
        }
        for (vector, derived) in vectors.iter().zip(&derived) {
            let (given, right) = (serde_json::to_value(vector), serde_json::to_value(derived));
            let name = format!("{}: {}", path.display(), vector.name);
            assert_eq!(
                given.unwrap(),
                right.unwrap(),
                "{name}: TIDEWIRE_WRITE_VECTORS=1 mends it"
            );
        }
    }
    assert!(count >= 60, "only {count} vectors");
}
