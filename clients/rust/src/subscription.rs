//! What an application subscribes with, and the stream it gets.
//!
//! Events come from the driver through a bounded queue; reading them is what moves the session on.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{Stream, future::poll_fn};
use tidewire_protocol::{
    ChannelName, Payload, Position,
    command::{Fallback, Mode},
    limits::{HZ_MAX, MEMBER_BYTES_MAX},
};

use crate::{
    Client, Error, Event,
    core::{ReaderId, Wish},
    driver::{Call, EventQueue},
};

/// Where a subscription begins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Start {
    /// With what is published from now on.
    #[default]
    Now,
    /// With a snapshot of the keyed state, which also heals gaps.
    State,
    /// With the last publications, as far as history and the node's page reach.
    Last(u32),
    /// After a position; what is gone of it comes as a gap.
    After(Position),
    /// After a position; where it cannot be served whole, the keyed state heals it.
    AfterOrState(Position),
}

/// How a channel is read.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where it begins.
    pub start: Start,
    /// Every publication, or the newest of each key.
    pub mode: Mode,
    /// At most so many deliveries a second, 1 to 1,000.
    pub hz: Option<u32>,
    /// Be a member of the channel's presence while subscribed, saying this of oneself; at most
    /// 1 KiB of JSON.
    pub me: Option<serde_json::Value>,
}

impl Options {
    /// From this start on, every publication.
    #[must_use]
    pub fn from(start: Start) -> Self {
        Self {
            start,
            ..Self::default()
        }
    }

    pub(crate) fn wish(self) -> Result<Wish, Error> {
        let (after, fallback) = match self.start {
            Start::Now => (None, Fallback::Now),
            Start::State => (None, Fallback::State),
            Start::Last(count) => (None, Fallback::Last(count)),
            Start::After(position) => (Some(position), Fallback::Now),
            Start::AfterOrState(position) => (Some(position), Fallback::State),
        };
        Ok(Wish {
            after,
            fallback,
            mode: self.mode,
            hz: self.hz.map(|hz| hz.clamp(1, HZ_MAX)),
            me: self.me.map(|me| member(&me)).transpose()?,
        })
    }
}

fn member(me: &serde_json::Value) -> Result<bytes::Bytes, Error> {
    match Payload::from_json_text(me.to_string().as_bytes())? {
        Payload::Json(text) | Payload::Bytes(text) if text.len() <= MEMBER_BYTES_MAX => Ok(text),
        Payload::Json(text) | Payload::Bytes(text) => Err(Error::TooLarge {
            bytes: text.len(),
            max: MEMBER_BYTES_MAX,
        }),
    }
}

/// One channel as a stream of [`Event`]s, across every loss of the connection; it ends with the
/// client. Dropping it unsubscribes.
///
/// Asking for the next event says that the one before was handled: that position is acknowledged
/// to the node. A reader may be 256 events or 1 MiB behind; then the client stops reading the
/// socket, and the node serves it from its log at the pace it can take. A reader that takes
/// nothing for 2 s while its queue is full is unsubscribed until it reads again, and goes on from
/// where it was: it never holds up other subscriptions or answers to requests.
#[must_use = "dropping it unsubscribes"]
pub struct Subscription {
    client: Client,
    channel: ChannelName,
    id: ReaderId,
    queue: Arc<EventQueue>,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription")
            .field("channel", &self.channel)
            .finish_non_exhaustive()
    }
}

impl Subscription {
    pub(crate) const fn new(
        client: Client,
        channel: ChannelName,
        id: ReaderId,
        queue: Arc<EventQueue>,
    ) -> Self {
        Self {
            client,
            channel,
            id,
            queue,
        }
    }

    /// The channel.
    #[must_use]
    pub const fn channel(&self) -> &ChannelName {
        &self.channel
    }

    /// The next event. None: the client is closed or blocked. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|context| self.queue.poll(context)).await
    }

    /// Up to where the application has handled this channel; none before the first position.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.queue.handled()
    }

    /// Another way of delivery, from where the subscription is.
    ///
    /// # Errors
    /// The client is closed or blocked.
    pub async fn change(&mut self, mode: Mode, hz: Option<u32>) -> Result<(), Error> {
        let hz = hz.map(|hz| hz.clamp(1, HZ_MAX));
        self.client.call(Call::Change(self.id, mode, hz)).await
    }
}

impl Stream for Subscription {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.queue.poll(context)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.queue.abandon();
    }
}
