//! Writes maps with string keys in either encoding, without knowing what they mean.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{Encoding, Name, Payload, Position, json, msgpack, payload::write_msgpack};

/// A buffer and how to write to it.
pub(super) struct Writer<'a> {
    encoding: Encoding,
    out: &'a mut Vec<u8>,
}

/// A map whose pairs are being written. MessagePack puts their number in front: it is filled in
/// at the end, and a frame's maps have at most 15 pairs so that it takes one byte.
pub(super) struct Map<'w, 'a> {
    writer: &'w mut Writer<'a>,
    head: usize,
    pairs: u8,
}

impl<'a> Writer<'a> {
    pub(super) const fn new(encoding: Encoding, out: &'a mut Vec<u8>) -> Self {
        Self { encoding, out }
    }

    /// Writes a map of at most 15 pairs.
    pub(super) fn map(&mut self, pairs: impl FnOnce(&mut Map<'_, 'a>)) {
        let head = self.out.len();
        self.out.push(b'{');
        let mut map = Map {
            writer: self,
            head,
            pairs: 0,
        };
        pairs(&mut map);
        map.finish();
    }

    /// Writes a map of any number of pairs, all of one kind.
    pub(super) fn dictionary<T>(&mut self, pairs: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.list(pairs, (b'{', b'}'), msgpack::write_map, &mut write);
    }

    /// Writes an array.
    pub(super) fn array<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.list(items, (b'[', b']'), msgpack::write_array, &mut write);
    }

    fn list<T>(
        &mut self,
        items: &[T],
        (open, close): (u8, u8),
        head: fn(usize, &mut Vec<u8>),
        write: &mut impl FnMut(&mut Self, &T),
    ) {
        match self.encoding {
            Encoding::Json => self.out.push(open),
            Encoding::MessagePack => head(items.len(), self.out),
        }
        for (index, item) in items.iter().enumerate() {
            if index > 0 && self.encoding == Encoding::Json {
                self.out.push(b',');
            }
            write(self, item);
        }
        if self.encoding == Encoding::Json {
            self.out.push(close);
        }
    }

    /// The key of a dictionary's pair.
    pub(super) fn key(&mut self, key: &str) {
        self.text(key);
        if self.encoding == Encoding::Json {
            self.out.push(b':');
        }
    }

    pub(super) fn text(&mut self, text: &str) {
        match self.encoding {
            Encoding::Json => json::write_string(text, self.out),
            Encoding::MessagePack => msgpack::write_text(text, self.out),
        }
    }

    pub(super) fn integer(&mut self, value: u64) {
        match self.encoding {
            Encoding::Json => {
                let mut digits = itoa::Buffer::new();
                self.out.extend_from_slice(digits.format(value).as_bytes());
            }
            Encoding::MessagePack => msgpack::write_unsigned(value, self.out),
        }
    }

    /// A position as `[e, o]`.
    pub(super) fn pair(&mut self, position: &Position) {
        match self.encoding {
            Encoding::Json => self.out.push(b'['),
            Encoding::MessagePack => msgpack::write_array(2, self.out),
        }
        self.text(position.epoch.as_str());
        if self.encoding == Encoding::Json {
            self.out.push(b',');
        }
        self.integer(position.offset);
        if self.encoding == Encoding::Json {
            self.out.push(b']');
        }
    }

    fn boolean(&mut self, value: bool) {
        match self.encoding {
            Encoding::Json => self
                .out
                .extend_from_slice(if value { b"true" } else { b"false" }),
            Encoding::MessagePack => msgpack::write_bool(value, self.out),
        }
    }

    /// A JSON text that was validated.
    fn json(&mut self, text: &[u8]) {
        match self.encoding {
            Encoding::Json => self.out.extend_from_slice(text),
            Encoding::MessagePack => write_msgpack(text, self.out),
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        match self.encoding {
            Encoding::Json => write_base64(bytes, self.out),
            Encoding::MessagePack => msgpack::write_blob(bytes, self.out),
        }
    }
}

impl<'a> Map<'_, 'a> {
    /// Writes a key and hands over the writer for its value.
    pub(super) fn value(&mut self, key: &'static str) -> &mut Writer<'a> {
        match self.writer.encoding {
            Encoding::Json => {
                if self.pairs > 0 {
                    self.writer.out.push(b',');
                }
                self.writer.out.push(b'"');
                self.writer.out.extend_from_slice(key.as_bytes());
                self.writer.out.extend_from_slice(b"\":");
            }
            Encoding::MessagePack => msgpack::write_text(key, self.writer.out),
        }
        self.pairs += 1;
        self.writer
    }

    pub(super) fn text(&mut self, key: &'static str, text: &str) {
        self.value(key).text(text);
    }

    pub(super) fn text_if(&mut self, key: &'static str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(key, text);
        }
    }

    pub(super) fn integer(&mut self, key: &'static str, value: u64) {
        self.value(key).integer(value);
    }

    pub(super) fn integer_if(&mut self, key: &'static str, value: Option<u64>) {
        if let Some(value) = value {
            self.integer(key, value);
        }
    }

    pub(super) fn boolean(&mut self, key: &'static str, value: bool) {
        self.value(key).boolean(value);
    }

    /// Writes a flag whose absence means false.
    pub(super) fn flag(&mut self, key: &'static str, value: bool) {
        if value {
            self.boolean(key, true);
        }
    }

    pub(super) fn name_if(&mut self, key: &'static str, name: Option<&Name>) {
        self.text_if(key, name.map(Name::as_str));
    }

    pub(super) fn json(&mut self, key: &'static str, text: &[u8]) {
        self.value(key).json(text);
    }

    pub(super) fn position(&mut self, position: &Position) {
        self.text("e", position.epoch.as_str());
        self.integer("o", position.offset);
    }

    pub(super) fn payload(&mut self, payload: Option<&Payload>) {
        match payload {
            Some(Payload::Json(text)) => self.json("d", text),
            Some(Payload::Bytes(bytes)) => self.value("b").bytes(bytes),
            None => {}
        }
    }

    fn finish(self) {
        match self.writer.encoding {
            Encoding::Json => self.writer.out.push(b'}'),
            Encoding::MessagePack => {
                debug_assert!(self.pairs <= 15, "one byte holds the number of pairs");
                self.writer.out[self.head] = 0x80 | self.pairs;
            }
        }
    }
}

fn write_base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = STANDARD
        .encode_slice(bytes, &mut out[start..])
        .unwrap_or_default();
    out.truncate(start + written);
    out.push(b'"');
}
