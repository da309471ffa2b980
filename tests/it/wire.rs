//! The two encodings of tests: `serde_json` and `rmp-serde`, neither the node's own codec.
//! Bytes (`b`) are base64 text in a test's frames and `bin` on the MessagePack wire.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, SeqAccess, Visitor},
    ser::{SerializeMap, SerializeSeq},
};
use serde_json::{Map, Number, Value};

/// Frames as one MessagePack message.
pub fn pack(frames: &[Value]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in frames {
        rmp_serde::encode::write_named(&mut bytes, &Packed(frame, false)).unwrap();
    }
    bytes
}

/// The frames of a MessagePack message.
pub fn unpack(mut bytes: &[u8]) -> Vec<Value> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let mut reader = rmp_serde::Deserializer::new(&mut bytes);
        frames.push(Unpacked::deserialize(&mut reader).unwrap().0);
    }
    frames
}

/// The frames of a JSON message.
pub fn parse(text: &str) -> Vec<Value> {
    text.split('\n')
        .map(|frame| serde_json::from_str(frame).unwrap())
        .collect()
}

/// A value to write; `true`: a text that stands for bytes.
struct Packed<'a>(&'a Value, bool);

impl Serialize for Packed<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(map) => {
                let mut out = to.serialize_map(Some(map.len()))?;
                for (key, value) in map {
                    out.serialize_entry(key, &Packed(value, key == "b"))?;
                }
                out.end()
            }
            Value::Array(items) => {
                let mut out = to.serialize_seq(Some(items.len()))?;
                for item in items {
                    out.serialize_element(&Packed(item, false))?;
                }
                out.end()
            }
            Value::String(text) if self.1 => to.serialize_bytes(&STANDARD.decode(text).unwrap()),
            other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
                other.serialize(to)
            }
        }
    }
}

struct Unpacked(Value);

impl<'de> Deserialize<'de> for Unpacked {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Any).map(Self)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Value;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Value, E> {
        Ok(STANDARD.encode(value).into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        while let Some(Unpacked(item)) = items.next_element()? {
            out.push(item);
        }
        Ok(Value::Array(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some((key, Unpacked(value))) = entries.next_entry::<String, Unpacked>()? {
            out.insert(key, value);
        }
        Ok(Value::Object(out))
    }
}
