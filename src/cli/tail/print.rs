//! How publications look in a terminal and as JSON lines.
//!
//! Used by `follower`; publications go to standard output, everything else to standard error.

use std::io::{self, Write};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;
use serde_json::value::RawValue;
use tidewire_protocol::{ChannelName, Epoch, Name, Payload, Publication};

use crate::cli::output;

/// Writes publications.
#[derive(Debug)]
pub(super) struct Printer<'a, W> {
    out: &'a mut W,
    json: bool,
}

/// A publication as `--json` shows it, with the keys of the wire.
#[derive(Serialize)]
struct Line<'a> {
    ch: &'a str,
    e: &'a str,
    o: u64,
    ts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    k: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ev: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    del: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    d: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b: Option<String>,
}

impl<'a, W: Write> Printer<'a, W> {
    pub(super) const fn new(out: &'a mut W, json: bool) -> Self {
        Self { out, json }
    }

    /// Writes one line.
    pub(super) fn publication(
        &mut self,
        channel: &ChannelName,
        epoch: &Epoch,
        publication: &Publication,
    ) -> io::Result<()> {
        if self.json {
            self.as_json(channel, epoch, publication)
        } else {
            self.for_people(channel, publication)
        }
    }

    fn for_people(&mut self, channel: &ChannelName, publication: &Publication) -> io::Result<()> {
        write!(self.out, "{channel} {}", publication.offset)?;
        if let Some(key) = &publication.key {
            write!(self.out, " [{key}]")?;
        }
        if let Some(event) = &publication.event {
            write!(self.out, " {event}")?;
        }
        if let Some(by) = &publication.by {
            write!(self.out, " <{by}>")?;
        }
        match &publication.payload {
            _ if publication.deleted => self.out.write_all(b" removed")?,
            Some(Payload::Json(text)) => {
                self.out.write_all(b" ")?;
                self.out.write_all(text)?;
            }
            Some(Payload::Bytes(bytes)) => write!(self.out, " base64:{}", STANDARD.encode(bytes))?,
            None => {}
        }
        self.out.write_all(b"\n")
    }

    fn as_json(
        &mut self,
        channel: &ChannelName,
        epoch: &Epoch,
        publication: &Publication,
    ) -> io::Result<()> {
        let (d, b) = match &publication.payload {
            Some(Payload::Json(text)) => (Some(serde_json::from_slice::<&RawValue>(text)?), None),
            Some(Payload::Bytes(bytes)) => (None, Some(STANDARD.encode(bytes))),
            None => (None, None),
        };
        let line = Line {
            ch: channel.as_str(),
            e: epoch.as_str(),
            o: publication.offset,
            ts: publication.ts,
            k: publication.key.as_ref().map(Name::as_str),
            ev: publication.event.as_ref().map(Name::as_str),
            id: publication.id.as_ref().map(Name::as_str),
            by: publication.by.as_ref().map(Name::as_str),
            exp: publication.expires,
            del: publication.deleted,
            d,
            b,
        };
        serde_json::to_writer(&mut *self.out, &line)?;
        self.out.write_all(b"\n")
    }

    /// Says something to people.
    pub(super) fn note(&self, text: &str) {
        output::note(text);
    }

    /// Hands what was written to the reader.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
