//! Records: what a frame's body says, in fixed little-endian fields. Called by the indexes, which
//! write and replay them; never decides what a record means for what is kept.

use bytes::Bytes;
use tidewire_protocol::Payload;

use super::frame;
use crate::broker::Retention;

/// An entry of the dedup window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dedup {
    /// Hash of publisher and id.
    pub id: [u8; 16],
    /// Hash of what the publication said.
    pub body: [u8; 16],
    /// When it is forgotten, Unix ms.
    pub until: u64,
}

/// The data of a publication where it stands in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Data<'a> {
    Json(&'a [u8]),
    Bytes(&'a [u8]),
}

impl Data<'_> {
    pub(crate) fn to_payload(self) -> Payload {
        match self {
            Self::Json(data) => Payload::Json(Bytes::copy_from_slice(data)),
            Self::Bytes(data) => Payload::Bytes(Bytes::copy_from_slice(data)),
        }
    }
}

impl<'a> From<&'a Payload> for Data<'a> {
    fn from(payload: &'a Payload) -> Self {
        match payload {
            Payload::Json(data) => Self::Json(data),
            Payload::Bytes(data) => Self::Bytes(data),
        }
    }
}

/// One publication of one life of a channel. With neither `history` nor `state` it only counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PublicationRecord<'a> {
    /// The life of the channel.
    pub life: u64,
    pub offset: u64,
    pub ts: u64,
    /// History holds it.
    pub history: bool,
    /// The state holds it, as its key's newest or as the newest without a key.
    pub state: bool,
    pub deleted: bool,
    /// It was blanked: history shows no key, which stands here for the state alone.
    pub blank: bool,
    pub expires: Option<u64>,
    pub key: Option<&'a str>,
    pub event: Option<&'a str>,
    pub id: Option<&'a str>,
    pub by: Option<&'a str>,
    pub data: Option<Data<'a>>,
    pub dedup: Option<Dedup>,
}

/// One life of a channel as it stands at this moment; a later one of the same name ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChannelRecord<'a> {
    pub life: u64,
    pub name: &'a str,
    pub epoch: &'a str,
    pub head: u64,
    pub last_ts: u64,
    pub first: u64,
    pub state_floor: u64,
    pub kept: Retention,
}

/// One record. Later records win over earlier ones; a copy made by compaction says the same as
/// the index said when it was made, so that log order is always the order of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    Publication(PublicationRecord<'a>),
    Channel(ChannelRecord<'a>),
    /// A dedup entry whose publication is kept for nothing else.
    Dedup {
        life: u64,
        offset: u64,
        dedup: Dedup,
    },
    /// The life ended with nothing after it.
    Ended {
        life: u64,
    },
    /// A session as it stands at this moment.
    Session {
        id: &'a str,
        attempt: u64,
        nonce: u64,
        expires: u64,
        body: &'a [u8],
    },
    /// The session changed hands and keeps its body.
    Claim {
        id: &'a str,
        attempt: u64,
        nonce: u64,
        expires: u64,
    },
    /// The session lives longer.
    Extend {
        id: &'a str,
        expires: u64,
    },
    /// The session is forgotten.
    Removed {
        id: &'a str,
    },
    /// What the epochs of channels without a life are made from.
    Secret([u8; SECRET_BYTES]),
    /// Everything before this place had reached the disk when the mark was written.
    Mark {
        segment: u32,
        at: u32,
    },
}

/// Bytes of the secret epochs are made from.
pub(crate) const SECRET_BYTES: usize = 32;
pub(super) const MARK_KIND: u8 = 9;
pub(super) const MARK_BODY: usize = 8;

impl Record<'_> {
    /// Writes the record as one frame at the end of `buf`; its whole length.
    pub(super) fn write(&self, buf: &mut Vec<u8>, salt: u32) -> u32 {
        let start = frame::open(buf, self.kind());
        match *self {
            Self::Publication(ref publication) => publication.write(buf),
            Self::Channel(ref channel) => channel.write(buf),
            Self::Dedup {
                life,
                offset,
                ref dedup,
            } => {
                put(buf, &[life, offset]);
                dedup.write(buf);
            }
            Self::Ended { life } => put(buf, &[life]),
            Self::Session {
                id,
                attempt,
                nonce,
                expires,
                body,
            } => {
                put(buf, &[attempt, nonce, expires]);
                put_text(buf, id);
                buf.extend_from_slice(body);
            }
            Self::Claim {
                id,
                attempt,
                nonce,
                expires,
            } => {
                put(buf, &[attempt, nonce, expires]);
                put_text(buf, id);
            }
            Self::Extend { id, expires } => {
                put(buf, &[expires]);
                put_text(buf, id);
            }
            Self::Removed { id } => put_text(buf, id),
            Self::Secret(ref secret) => buf.extend_from_slice(secret),
            Self::Mark { segment, at } => {
                buf.extend_from_slice(&segment.to_le_bytes());
                buf.extend_from_slice(&at.to_le_bytes());
            }
        }
        frame::close(buf, start, salt)
    }

    const fn kind(&self) -> u8 {
        match self {
            Self::Publication(_) => 1,
            Self::Channel(_) => 2,
            Self::Dedup { .. } => 3,
            Self::Ended { .. } => 4,
            Self::Session { .. } => 5,
            Self::Claim { .. } => 6,
            Self::Extend { .. } => 7,
            Self::Removed { .. } => 8,
            Self::Mark { .. } => MARK_KIND,
            Self::Secret(_) => 10,
        }
    }
}

impl<'a> Record<'a> {
    /// Reads a frame's body; none: this version wrote no such record.
    pub(crate) fn read(kind: u8, body: &'a [u8]) -> Option<Self> {
        let mut from = Reader(body);
        let record = match kind {
            1 => return PublicationRecord::read(from).map(Self::Publication),
            2 => Self::Channel(ChannelRecord::read(&mut from)?),
            3 => Self::Dedup {
                life: from.u64()?,
                offset: from.u64()?,
                dedup: Dedup::read(&mut from)?,
            },
            4 => Self::Ended { life: from.u64()? },
            5 => {
                let (attempt, nonce, expires) = (from.u64()?, from.u64()?, from.u64()?);
                return Some(Self::Session {
                    id: from.text()?,
                    attempt,
                    nonce,
                    expires,
                    body: from.0,
                });
            }
            6 => {
                let (attempt, nonce, expires) = (from.u64()?, from.u64()?, from.u64()?);
                Self::Claim {
                    id: from.text()?,
                    attempt,
                    nonce,
                    expires,
                }
            }
            7 => {
                let expires = from.u64()?;
                Self::Extend {
                    id: from.text()?,
                    expires,
                }
            }
            8 => Self::Removed { id: from.text()? },
            MARK_KIND => Self::Mark {
                segment: u32::from_le_bytes(from.take()?),
                at: u32::from_le_bytes(from.take()?),
            },
            10 => Self::Secret(from.take()?),
            _ => return None,
        };
        from.0.is_empty().then_some(record)
    }
}

pub(super) fn put(buf: &mut Vec<u8>, numbers: &[u64]) {
    for number in numbers {
        buf.extend_from_slice(&number.to_le_bytes());
    }
}

/// Texts are names of at most a few hundred bytes.
pub(super) fn put_text(buf: &mut Vec<u8>, text: &str) {
    let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
    buf.extend_from_slice(&len.to_le_bytes());
    buf.extend_from_slice(&text.as_bytes()[..usize::from(len)]);
}

pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        let len = usize::from(u16::from_le_bytes(self.take()?));
        let (text, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }
}
