//! The envelope of a frame: its values by key, found in one pass and read only when wanted.
//!
//! Knows every key of the protocol and nothing of what they mean.

use super::{DecodeError, value::Value};
use crate::{
    Encoding, json,
    msgpack::{self, Head},
};

macro_rules! keys {
    ($($name:ident $text:literal)*) => {
        /// A key this version knows.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Key { $($name),* }

        const KEYS: usize = [$(Key::$name),*].len();

        impl Key {
            fn find(text: &str) -> Option<Self> {
                match text {
                    $($text => Some(Self::$name),)*
                    _ => None,
                }
            }

            const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text),*
                }
            }
        }
    };
}

keys! {
    Ack "ack" After "after" Attempt "attempt" Before "before" Bytes "b" By "by" Channel "ch" Code "code"
    Cursors "c" Data "d" DataMax "data" Deleted "del" Duplicate "dup" Epoch "e" Event "ev"
    Expires "exp" FrameMax "frame" From "from" Guard "if" Heartbeat "hb"
    Hz "hz" I "i" Id "id" In "in" Items "items" Entry "k" Last "last" Lost "lost" Max "max" Me "me"
    Mode "mode" More "more" N "n" Name "name" Node "node" Offset "o" Reason "reason" Rec "rec"
    Resumed "resumed" Retry "retry" Sdk "sdk" Session "session" Signature "key" Since "since"
    State "state" Subs "subs" Text "text" To "to" Token "token" TraceParent "tp" Ts "ts" Ttl "ttl" Type "t"
    User "user"
}

/// The values of one map by key; keys this version does not know are left out.
pub(super) struct Fields<'a> {
    values: [Option<Value<'a>>; KEYS],
}

impl<'a> Fields<'a> {
    const fn new() -> Self {
        Self {
            values: [None; KEYS],
        }
    }

    /// The map inside a frame that `value` is; none when it is no map or repeats a key.
    pub(super) fn of(value: Value<'a>) -> Option<Self> {
        let mut fields = Self::new();
        value.each_pair(|key, value| fields.put(key, value).ok())?;
        Some(fields)
    }

    fn put(&mut self, key: &str, value: Value<'a>) -> Result<(), DecodeError> {
        let Some(key) = Key::find(key) else {
            return Ok(());
        };
        match self.values[key as usize].replace(value) {
            None => Ok(()),
            Some(_) => Err(DecodeError::DuplicateKey { key: key.text() }),
        }
    }

    pub(super) const fn get(&self, key: Key) -> Option<Value<'a>> {
        self.values[key as usize]
    }

    pub(super) const fn has(&self, key: Key) -> bool {
        self.values[key as usize].is_some()
    }
}

/// Hands over the fields of each frame of a message, in order.
pub(super) fn each<'a>(
    encoding: Encoding,
    message: &'a [u8],
    read: impl FnMut(&Fields<'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    match encoding {
        Encoding::Json => each_json(message, read),
        Encoding::MessagePack => each_msgpack(message, read),
    }
}

fn each_json<'a>(
    message: &'a [u8],
    mut read: impl FnMut(&Fields<'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let text = std::str::from_utf8(message).or(Err(DecodeError::Utf8))?;
    let mut scanner = json::Scanner::new(text);
    scanner.space();
    if scanner.peek().is_none() {
        return Err(DecodeError::Empty);
    }
    loop {
        let mut fields = Fields::new();
        json_fields(&mut scanner, &mut fields)?;
        read(&fields)?;
        let end = scanner.at();
        scanner.space();
        if scanner.peek().is_none() {
            return Ok(());
        }
        if !scanner.since(end).contains('\n') {
            return Err(DecodeError::Separator { at: scanner.at() });
        }
    }
}

/// Fills `fields`, which is too large to be moved for each frame.
fn json_fields<'a>(
    scanner: &mut json::Scanner<'a>,
    fields: &mut Fields<'a>,
) -> Result<(), DecodeError> {
    let start = scanner.at();
    if scanner.peek() != Some(b'{') {
        scanner.value()?;
        return Err(DecodeError::NotAMap { at: start });
    }
    let mut more = scanner.open(b'{', b'}')?;
    while more {
        let key = scanner.key()?;
        let value = Value::Json(scanner.value()?);
        if let Some(key) = key.decode() {
            fields.put(&key, value)?;
        }
        more = scanner.more(b'}')?;
    }
    Ok(())
}

fn each_msgpack<'a>(
    message: &'a [u8],
    mut read: impl FnMut(&Fields<'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let mut scanner = msgpack::Scanner::new(message);
    if scanner.at_end() {
        return Err(DecodeError::Empty);
    }
    while !scanner.at_end() {
        let mut fields = Fields::new();
        msgpack_fields(&mut scanner, &mut fields)?;
        read(&fields)?;
    }
    Ok(())
}

fn msgpack_fields<'a>(
    scanner: &mut msgpack::Scanner<'a>,
    fields: &mut Fields<'a>,
) -> Result<(), DecodeError> {
    let start = scanner.at();
    let Head::Map(length) = scanner.head()? else {
        return Err(DecodeError::NotAMap { at: start });
    };
    for _ in 0..length {
        let Head::Text(key) = scanner.head()? else {
            return Err(DecodeError::Key { at: start });
        };
        fields.put(key, Value::MessagePack(scanner.value()?))?;
    }
    Ok(())
}

impl From<json::Broken> for DecodeError {
    fn from(broken: json::Broken) -> Self {
        Self::Syntax { at: broken.at }
    }
}

impl From<msgpack::Broken> for DecodeError {
    fn from(broken: msgpack::Broken) -> Self {
        match broken {
            msgpack::Broken::Syntax { at } => Self::Syntax { at },
            msgpack::Broken::Utf8 => Self::Utf8,
        }
    }
}
