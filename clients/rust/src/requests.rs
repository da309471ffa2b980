//! What an application publishes, and the pages it reads.
//!
//! Plain data, made into commands here; the core sends them.

use std::{sync::Arc, time::Duration};

use tidewire_protocol::{
    ChannelName, Epoch, Name, Payload, Position, Publication, TraceParent,
    command::{Guard, Pub, Range},
};

use crate::{
    Error,
    core::{RawItems, RawPage, Read},
};

/// A publication to be made.
#[derive(Debug, Clone)]
#[must_use]
pub struct Publish {
    payload: Result<Option<Payload>, Error>,
    key: Option<String>,
    event: Option<String>,
    id: Option<String>,
    delete: bool,
    ttl: Option<Duration>,
    guard: Option<Guard>,
    trace: Option<TraceParent>,
    queue_for: Option<Duration>,
}

impl Publish {
    /// Data as JSON. What cannot be written as JSON is told by [`Client::publish`](crate::Client::publish).
    pub fn json<T: serde::Serialize + ?Sized>(data: &T) -> Self {
        let text = serde_json::to_vec(data).map_err(|error| Error::Json(error.to_string()));
        Self::with(text.and_then(|text| Ok(Some(Payload::from_json_text(&text)?))))
    }

    /// Data as JSON text.
    pub fn json_text(text: &str) -> Self {
        let payload = Payload::from_json_text(text.as_bytes());
        Self::with(payload.map(Some).map_err(Error::from))
    }

    /// Data as bytes.
    pub fn bytes(data: impl Into<bytes::Bytes>) -> Self {
        Self::with(Ok(Some(Payload::bytes(data.into()))))
    }

    /// Removes this key from the channel's state.
    pub fn remove(key: impl Into<String>) -> Self {
        let mut publish = Self::with(Ok(None)).key(key);
        publish.delete = true;
        publish
    }

    const fn with(payload: Result<Option<Payload>, Error>) -> Self {
        Self {
            payload,
            key: None,
            event: None,
            id: None,
            delete: false,
            ttl: None,
            guard: None,
            trace: None,
            queue_for: None,
        }
    }

    /// Which entry of the channel's state it sets; at most 128 bytes.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The application's event name; at most 128 bytes.
    pub fn event(mut self, event: impl Into<String>) -> Self {
        self.event = Some(event.into());
        self
    }

    /// An id of your own, for publishing once however often you ask; the client makes one
    /// otherwise.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// How long it is valid, from when the broker accepts it.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Only if that very publication is still the last of the key, without a key of the channel.
    pub fn only_after(mut self, position: Position) -> Self {
        self.guard = Some(Guard::At(position));
        self
    }

    /// Only if there is none yet.
    pub fn only_first(mut self) -> Self {
        self.guard = Some(Guard::Absent);
        self
    }

    /// The trace it belongs to, as `traceparent` of W3C's Trace Context: a node that traces goes on
    /// with it. A text that is none is ignored.
    pub fn traceparent(mut self, text: &str) -> Self {
        self.trace = TraceParent::parse(text);
        self
    }

    /// How long it may wait for its acknowledgement; 60 s unless said otherwise. Once sent it is
    /// given up within 2 minutes, before a node could forget its id.
    pub const fn queue_for(mut self, time: Duration) -> Self {
        self.queue_for = Some(time);
        self
    }

    pub(crate) fn into_command(self, channel: &str) -> Result<(Pub, Option<u64>), Error> {
        let name = |text: Option<String>| text.map(|text| Name::new(&text)).transpose();
        let publication = Pub {
            i: None,
            channel: ChannelName::new(channel)?,
            payload: self.payload?,
            key: name(self.key)?,
            event: name(self.event)?,
            id: name(self.id)?,
            delete: self.delete,
            ttl_ms: self.ttl.map(millis),
            guard: self.guard,
            trace: self.trace.map(Box::new),
        };
        Ok((publication, self.queue_for.map(millis)))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Which page of history is read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct History {
    epoch: Option<Epoch>,
    range: Range,
    limit: u32,
}

impl History {
    /// Most publications of a page unless said otherwise.
    const LIMIT: u32 = 50;

    const fn new(epoch: Option<Epoch>, range: Range) -> Self {
        Self {
            epoch,
            range,
            limit: Self::LIMIT,
        }
    }

    /// The newest publications.
    pub const fn newest() -> Self {
        Self::new(None, Range::Before(None))
    }

    /// The publications right before this position.
    pub fn before(position: Position) -> Self {
        Self::new(Some(position.epoch), Range::Before(Some(position.offset)))
    }

    /// The publications right before this offset, whatever the epoch.
    pub const fn before_offset(offset: u64) -> Self {
        Self::new(None, Range::Before(Some(offset)))
    }

    /// The publications after this position.
    pub fn after(position: Position) -> Self {
        Self::new(Some(position.epoch), Range::After(position.offset))
    }

    /// The publications after this offset, whatever the epoch; 0: the oldest kept.
    pub const fn after_offset(offset: u64) -> Self {
        Self::new(None, Range::After(offset))
    }

    /// At most so many publications; the node's own page may be smaller.
    pub const fn limit(mut self, limit: u32) -> Self {
        self.limit = limit;
        self
    }

    pub(crate) fn read(&self, channel: ChannelName) -> Read {
        Read::History {
            channel,
            epoch: self.epoch.clone(),
            range: self.range,
            limit: self.limit,
        }
    }
}

/// One page of history.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryPage {
    /// The head at which it was read; the items are of its epoch.
    pub head: Position,
    /// In rising offset order.
    pub items: Vec<Arc<Publication>>,
    /// The next page in the direction asked, where there is one.
    pub next: Option<History>,
}

impl HistoryPage {
    pub(crate) fn new(asked: &History, page: RawPage) -> Self {
        let items = match page.items {
            RawItems::History(items) => items,
            RawItems::State(_) => Vec::new(),
        };
        let range = match asked.range {
            Range::Before(_) => items.first().map(|item| Range::Before(Some(item.offset))),
            Range::After(_) => items.last().map(|item| Range::After(item.offset)),
        };
        let next = range.filter(|_| page.more).map(|range| History {
            epoch: Some(page.head.epoch.clone()),
            range,
            limit: asked.limit,
        });
        Self {
            head: page.head,
            items,
            next,
        }
    }
}
