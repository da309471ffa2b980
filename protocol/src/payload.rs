//! What a publication carries: a JSON value kept as text, or bytes.
//!
//! Owns the rule that both encodings always say the same; never keeps a parsed value.

use bytes::Bytes;

/// The data of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// `d`: a JSON value as UTF-8 text that was validated at acceptance and holds no CR or LF.
    Json(Bytes),
    /// `b`: raw bytes.
    Bytes(Bytes),
}

impl Payload {
    /// Its size in bytes as the publication limit counts it.
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
