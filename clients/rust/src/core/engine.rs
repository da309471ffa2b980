//! The whole of the core: what comes in, and the effects that go out.
//!
//! Owned by the driver. Its parts add to it where they are at home: `link` the connections,
//! `channels` the subscriptions, `publishing` the outbox. It never waits and never reads a clock.

use std::collections::VecDeque;

use tidewire_protocol::{CloseCode, Command, Frame};

use super::{
    ConnectionId, Effect, Now, Received, SocketEnd, Ticket,
    answers::Refusal,
    backoff::Timer,
    channels::Channels,
    link::Link,
    outbox::Outbox,
    requests::{Read, Requests},
};
use crate::{Error, Loss, Status};

/// Positions are acknowledged at most so often, ms.
const ACK_MS: u64 = 1_000;

/// What the core is told once.
pub(crate) struct Settings {
    /// How many addresses there are.
    pub(crate) endpoints: usize,
    /// Name and version of the program, for the operator's eyes.
    pub(crate) sdk: String,
    /// Publication ids begin with it: no other client's do.
    pub(crate) id_prefix: String,
    /// Numbers from 0 up to, not including, 1.
    pub(crate) random: Box<dyn FnMut() -> f64 + Send>,
}

/// One client without IO.
pub(crate) struct Engine {
    pub(super) settings: Settings,
    pub(super) link: Link,
    pub(super) channels: Channels,
    pub(super) requests: Requests,
    pub(super) outbox: Outbox,
    /// Nothing is published before it fires: the node asked for time.
    pub(super) pause: Timer,
    pub(super) published: u64,
    beat: Timer,
    /// Why nothing will be done any more.
    pub(super) over: Option<Error>,
    effects: VecDeque<Effect>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// A client that begins to connect at once.
    pub(crate) fn new(settings: Settings, now: Now) -> Self {
        let mut engine = Self {
            settings,
            link: Link::new(),
            channels: Channels::default(),
            requests: Requests::default(),
            outbox: Outbox::default(),
            pause: Timer::default(),
            published: 0,
            beat: Timer::default(),
            over: None,
            effects: VecDeque::new(),
        };
        engine.open(now);
        engine
    }

    /// What the driver has to do next.
    pub(crate) fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When `handle_time` is due, ms of the driver's clock.
    pub(crate) fn poll_deadline(&self) -> Option<u64> {
        let timers = [self.pause.due, self.beat.due];
        let lists = [self.outbox.next_expiry(), self.requests.next_expiry()];
        let parts = [self.link.deadline(), self.channels.deadline()];
        let all = timers.into_iter().chain(lists).chain(parts);
        all.flatten().min()
    }

    /// Time has passed.
    pub(crate) fn handle_time(&mut self, now: Now) {
        self.link_time(now);
        self.channels_time(now);
        while let Some(ticket) = self.requests.expire(now.ms) {
            self.effect(Effect::Page(ticket, Err(Error::Timeout)));
        }
        let expired = self.outbox.expire(now.ms);
        for (ticket, error) in expired {
            self.effect(Effect::Published(ticket, Err(error)));
        }
        if self.pause.fires(now.ms) {
            self.publish_due(now);
        }
        if self.beat.fires(now.ms) {
            self.acknowledge();
            if self.channels.behind() {
                self.beat(now);
            }
        }
        self.ask_due();
    }

    /// The socket of this connection can be written to.
    pub(crate) fn handle_opened(&mut self, id: ConnectionId, now: Now) {
        self.opened(id, now);
        self.ask_due();
    }

    /// One message came; an empty one is a sign of life.
    pub(crate) fn handle_received(&mut self, id: ConnectionId, received: Received, now: Now) {
        match received {
            Ok(frames) => {
                self.link.heard(id, now);
                for frame in frames {
                    self.take(id, frame, now);
                }
            }
            Err(_malformed) => {
                self.drop_connection(id, CloseCode::BadRequest.number(), Loss::Malformed, now)
            }
        }
        self.ask_due();
    }

    /// The socket of this connection is gone.
    pub(crate) fn handle_ended(&mut self, id: ConnectionId, end: SocketEnd, now: Now) {
        let (code, loss) = match end {
            SocketEnd::Closed(number) => {
                let code = super::told(number.into());
                (code, code.map_or(Loss::Broken, Loss::Told))
            }
            SocketEnd::Broken => (None, Loss::Broken),
            SocketEnd::Unreachable => (None, Loss::Unreachable),
            SocketEnd::Http(status) => (None, Loss::Http(status)),
        };
        self.ended(id, code, super::ending::Bye::default(), loss, now);
        self.ask_due();
    }

    /// Asks for a page, on each connection until it is answered.
    pub(crate) fn read(&mut self, ticket: Ticket, read: Read, now: Now) {
        let asked = match &self.over {
            Some(error) => Err(error.clone()),
            None => self.requests.lasting(ticket, read, now.ms),
        };
        match asked {
            Ok(command) => self.send(command),
            Err(error) => self.effect(Effect::Page(ticket, Err(error))),
        }
    }

    pub(super) fn effect(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }

    pub(super) fn random(&mut self) -> f64 {
        (self.settings.random)()
    }

    /// Something moved: it is acknowledged within a second.
    pub(super) fn beat(&mut self, now: Now) {
        if !self.beat.running() && self.over.is_none() {
            self.beat.start(now.ms + ACK_MS);
        }
    }

    pub(super) fn acknowledge(&mut self) {
        if !self.link.online() {
            return;
        }
        let acks = self.channels.acks();
        if !acks.is_empty() {
            self.send(Command::Ack(acks));
        }
    }

    /// What may be sent as soon as a connection can be written to.
    pub(super) fn pipeline(&mut self, now: Now) {
        for command in self.requests.unanswered() {
            self.send(command);
        }
        self.publish_due(now);
    }

    /// What was sent on the last connection will not be answered.
    pub(super) fn down(&mut self) {
        self.requests.lost();
        self.outbox.unsend();
        self.pause.stop();
        self.channels.down();
    }

    /// Nothing more will be done or answered.
    pub(super) fn finish(&mut self, error: Error, status: Status) {
        self.beat.stop();
        self.channels.stop();
        for ticket in self.requests.clear() {
            self.effect(Effect::Page(ticket, Err(error.clone())));
        }
        for ticket in self.outbox.clear() {
            self.effect(Effect::Published(ticket, Err(error.clone())));
        }
        self.over = Some(error);
        self.effect(Effect::Status(status));
    }

    /// A frame of the living connection that is not about the connection.
    pub(super) fn frame(&mut self, frame: Frame, now: Now) {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "answer names every other frame"
        )]
        match frame {
            Frame::Subscribed {
                i,
                channel,
                position,
                recovery,
            } => {
                self.begun(&channel, position, recovery, now);
                i.and_then(|i| self.requests.take(i));
            }
            Frame::Msg {
                channel,
                publication,
            } => self.message(&channel, publication, now),
            Frame::State {
                channel,
                items,
                more,
            } => self.snapshot(&channel, items, more),
            Frame::Live {
                channel, offset, ..
            } => self.live(&channel, offset, now),
            Frame::Gap {
                channel,
                from,
                to,
                reason,
            } => self.gap(&channel, from, to, reason.into(), now),
            Frame::Rewind {
                channel,
                epoch,
                to,
                lost,
            } => self.rewind(&channel, &epoch, to, lost, now),
            Frame::Stale { channel, since } => self.stale(channel.as_ref(), since),
            Frame::Unsubscribed { channel, code } => {
                self.refused(&channel, Refusal::of(code), now);
            }
            other => self.answer(other, now),
        }
    }
}
