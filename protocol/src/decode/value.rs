//! One value of a frame, in either encoding: its bytes, and what they mean when asked.
//!
//! The bytes were passed by a scanner before, so they are one well-formed value. A method
//! returns none when the value is of another type or breaks a rule.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;

use crate::{
    ChannelName, Epoch, Name, Payload, json,
    limits::INTEGER_MAX,
    msgpack::{self, Head},
    payload::PayloadError,
};

/// The bytes of one well-formed value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Json(&'a str),
    MessagePack(&'a [u8]),
}

impl<'a> Value<'a> {
    fn head(self) -> Option<Head<'a>> {
        match self {
            Self::Json(_) => None,
            Self::MessagePack(bytes) => msgpack::Scanner::new(bytes).head().ok(),
        }
    }

    pub(super) fn text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Json(text) => json::Scanner::new(text).string().ok()?.decode(),
            Self::MessagePack(_) => match self.head() {
                Some(Head::Text(text)) => Some(Cow::Borrowed(text)),
                _ => None,
            },
        }
    }

    /// A text of at most `max` bytes.
    pub(super) fn string(self, max: usize) -> Option<String> {
        let text = self.text()?;
        (text.len() <= max).then(|| text.into_owned())
    }

    pub(super) fn channel(self) -> Option<ChannelName> {
        ChannelName::new(&self.text()?).ok()
    }

    pub(super) fn name(self) -> Option<Name> {
        Name::new(&self.text()?).ok()
    }

    pub(super) fn epoch(self) -> Option<Epoch> {
        Epoch::new(&self.text()?).ok()
    }

    /// An integer of 0 to 2^53 - 1. JSON: digits alone; MessagePack: any integer format, or a
    /// double without a fraction, since JavaScript does not tell them apart.
    pub(super) fn integer(self) -> Option<u64> {
        let integer = match self {
            Self::Json(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
            Self::Json(_) => None,
            Self::MessagePack(_) => match self.head() {
                Some(Head::Unsigned(value)) => Some(value),
                Some(Head::Float(value)) => whole(value),
                _ => None,
            },
        };
        integer.filter(|integer| *integer <= INTEGER_MAX)
    }

    /// A wish for at most so many: numbers past `u32` mean its largest.
    pub(super) fn count(self) -> Option<u32> {
        self.integer()
            .map(|count| u32::try_from(count).unwrap_or(u32::MAX))
    }

    pub(super) fn boolean(self) -> Option<bool> {
        match self {
            Self::Json("true") => Some(true),
            Self::Json("false") => Some(false),
            Self::Json(_) => None,
            Self::MessagePack(_) => match self.head() {
                Some(Head::Bool(value)) => Some(value),
                _ => None,
            },
        }
    }

    /// `d`: any value, under the rules of [`Payload`].
    pub(super) fn data(self) -> Result<Payload, PayloadError> {
        match self {
            Self::Json(text) => Payload::from_json_text(text.as_bytes()),
            Self::MessagePack(bytes) => Payload::from_msgpack(bytes),
        }
    }

    /// `b`: bytes in MessagePack, standard base64 with padding in JSON.
    pub(super) fn bytes(self) -> Option<Payload> {
        let bytes = match self {
            Self::Json(_) => STANDARD
                .decode(self.text()?.as_bytes())
                .ok()
                .map(Bytes::from)?,
            Self::MessagePack(_) => match self.head() {
                Some(Head::Bytes(bytes)) => Bytes::copy_from_slice(bytes),
                _ => return None,
            },
        };
        Some(Payload::Bytes(bytes))
    }

    /// Hands over each element of an array of at most `max`.
    pub(super) fn elements<T>(
        self,
        max: usize,
        mut read: impl FnMut(Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let mut elements = Vec::new();
        self.each_element(|value| {
            if elements.len() == max {
                return None;
            }
            elements.push(read(value)?);
            Some(())
        })?;
        Some(elements)
    }

    fn each_element(self, mut read: impl FnMut(Self) -> Option<()>) -> Option<()> {
        match self {
            Self::Json(text) => {
                let mut scanner = json::Scanner::new(text);
                let mut more = scanner.open(b'[', b']').ok()?;
                while more {
                    read(Self::Json(scanner.value().ok()?))?;
                    more = scanner.more(b']').ok()?;
                }
            }
            Self::MessagePack(bytes) => {
                let mut scanner = msgpack::Scanner::new(bytes);
                let Ok(Head::Array(length)) = scanner.head() else {
                    return None;
                };
                for _ in 0..length {
                    read(Self::MessagePack(scanner.value().ok()?))?;
                }
            }
        }
        Some(())
    }

    /// Hands over each pair of a map.
    pub(super) fn each_pair(self, mut read: impl FnMut(&str, Self) -> Option<()>) -> Option<()> {
        match self {
            Self::Json(text) => {
                let mut scanner = json::Scanner::new(text);
                let mut more = scanner.open(b'{', b'}').ok()?;
                while more {
                    let key = scanner.key().ok()?.decode()?;
                    read(&key, Self::Json(scanner.value().ok()?))?;
                    more = scanner.more(b'}').ok()?;
                }
            }
            Self::MessagePack(bytes) => {
                let mut scanner = msgpack::Scanner::new(bytes);
                let Ok(Head::Map(length)) = scanner.head() else {
                    return None;
                };
                for _ in 0..length {
                    let Ok(Head::Text(key)) = scanner.head() else {
                        return None;
                    };
                    read(key, Self::MessagePack(scanner.value().ok()?))?;
                }
            }
        }
        Some(())
    }
}

/// The integer a double stands for, if it stands for one exactly.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "the range was checked"
)]
fn whole(value: f64) -> Option<u64> {
    let fits = (0.0..=INTEGER_MAX as f64).contains(&value) && value.fract() == 0.0;
    fits.then_some(value as u64)
}
