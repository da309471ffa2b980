//! What a publication carries: a JSON value kept as text, or bytes.
//!
//! Owns the rule that both encodings always say the same: a value that only one of them could
//! carry is refused where it enters. Never keeps a parsed value.

mod check;
mod from_msgpack;
mod to_msgpack;

use bytes::Bytes;

use crate::{json, msgpack};

pub use to_msgpack::write_msgpack;

/// The data of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// `d`: a JSON value as UTF-8 text that was validated at acceptance and holds no CR or LF.
    Json(Bytes),
    /// `b`: raw bytes.
    Bytes(Bytes),
}

/// Why data is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// A text in it is not UTF-8.
    #[error("the data is not UTF-8")]
    Utf8,
    /// It is not one well-formed value.
    #[error("the data is not one well-formed value; byte {at} does not fit")]
    Syntax {
        /// Offset of the byte, from the start of the data.
        at: usize,
    },
    /// A number no double holds, or none at all (NaN, infinity).
    #[error("the data holds a number outside the range of a double")]
    Number,
    /// Half of a surrogate pair.
    #[error("the data holds a lone surrogate")]
    Surrogate,
    /// An object names a key twice.
    #[error("the data holds an object with a key twice")]
    DuplicateKey,
    /// A key that is no string.
    #[error("the data holds a map with a key that is not a string")]
    Key,
    /// More than [`DEPTH_MAX`](crate::limits::DEPTH_MAX) arrays and objects inside each other.
    #[error("the data nests deeper than 32")]
    TooDeep,
    /// A MessagePack extension.
    #[error("the data holds a MessagePack extension")]
    Extension,
    /// Bytes inside `d`.
    #[error("the data holds bytes; send them as `b`")]
    Bytes,
}

impl PayloadError {
    /// The error as the text of an answer to a client.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Utf8 => "`d` is not UTF-8",
            Self::Syntax { .. } => "`d` is not one well-formed value",
            Self::Number => "`d` holds a number outside the range of a double",
            Self::Surrogate => "`d` holds a lone surrogate",
            Self::DuplicateKey => "`d` holds an object with a key twice",
            Self::Key => "`d` holds a map with a key that is not a string",
            Self::TooDeep => "`d` nests deeper than 32",
            Self::Extension => "`d` holds a MessagePack extension",
            Self::Bytes => "`d` holds bytes; send them as `b`",
        }
    }
}

impl From<json::Broken> for PayloadError {
    fn from(broken: json::Broken) -> Self {
        Self::Syntax { at: broken.at }
    }
}

impl From<msgpack::Broken> for PayloadError {
    fn from(broken: msgpack::Broken) -> Self {
        match broken {
            msgpack::Broken::Syntax { at } => Self::Syntax { at },
            msgpack::Broken::Utf8 => Self::Utf8,
        }
    }
}

impl Payload {
    /// Takes one JSON value; white space around it is dropped, CR and LF inside it become spaces.
    ///
    /// # Errors
    /// The text is not one JSON value, or one that MessagePack or a double could not carry.
    pub fn from_json_text(text: &[u8]) -> Result<Self, PayloadError> {
        let Ok(text) = std::str::from_utf8(text) else {
            return Err(PayloadError::Utf8);
        };
        Ok(Self::Json(on_one_line(check::json(text)?)))
    }

    /// Takes one MessagePack value and writes it as JSON text: integers a double holds exactly
    /// as integers, all other numbers as doubles. The text is at most 6 times as long.
    ///
    /// # Errors
    /// The bytes are not one MessagePack value, or one that JSON could not carry.
    pub fn from_msgpack(bytes: &[u8]) -> Result<Self, PayloadError> {
        from_msgpack::json_text(bytes).map(|text| Self::Json(text.into()))
    }

    /// Takes bytes as they are.
    #[must_use]
    pub const fn bytes(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }

    /// Its size in bytes as the publication limit counts it. Its MessagePack form is never larger
    /// than three times that and 3 bytes (a lone `-0`), its base64 form than four thirds and 3.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Json(data) | Self::Bytes(data) => data.len(),
        }
    }

    /// Whether it holds no byte at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// In valid JSON, CR and LF can only be white space between tokens.
fn on_one_line(text: &str) -> Bytes {
    let mut bytes = text.as_bytes().to_vec();
    for byte in &mut bytes {
        *byte = if matches!(byte, b'\r' | b'\n') {
            b' '
        } else {
            *byte
        };
    }
    Bytes::from(bytes)
}
