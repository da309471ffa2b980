//! Publishing: drives the outbox over whatever connection there is.
//!
//! Part of the engine. It never sends an entry before an older one that is still to be sent.

use tidewire_protocol::{Command, Name, Payload, command::Pub};

use super::{
    Effect, Engine, Now, Ticket, answers::Refusal, outbox::QUEUE_FOR_MS, requests::Purpose,
};
use crate::{Error, Published};

impl Engine {
    /// Publishes as soon as it can, for at most `queue_for_ms`; answered once by
    /// [`Effect::Published`]. Without an id it gets one.
    pub(crate) fn publish(
        &mut self,
        ticket: Ticket,
        mut publication: Pub,
        queue_for_ms: Option<u64>,
        now: Now,
    ) {
        if let Err(error) = self.accept(&mut publication) {
            return self.effect(Effect::Published(ticket, Err(error)));
        }
        let expires = now.ms + queue_for_ms.unwrap_or(QUEUE_FOR_MS);
        match self.outbox.add(ticket, publication, expires) {
            Ok(()) => self.publish_due(now),
            Err(error) => self.effect(Effect::Published(ticket, Err(error))),
        }
    }

    fn accept(&mut self, publication: &mut Pub) -> Result<(), Error> {
        if let Some(error) = &self.over {
            return Err(error.clone());
        }
        let bytes = publication.payload.as_ref().map_or(0, Payload::len);
        let max = self.link.data_max;
        if bytes > max {
            return Err(Error::TooLarge { bytes, max });
        }
        if publication.id.is_none() {
            self.published += 1;
            let id = format!("{}:{}", self.settings.id_prefix, self.published);
            publication.id = Some(Name::new(&id)?);
        }
        Ok(())
    }

    /// Sends what is not sent, unless the node asked for time.
    pub(super) fn publish_due(&mut self, now: Now) {
        if !self.link.writable() || self.pause.running() {
            return;
        }
        while let Some((ticket, mut publication)) = self.outbox.next(now.ms) {
            publication.i = self.requests.once(Purpose::Pub(ticket));
            self.send(Command::Pub(publication));
        }
    }

    pub(super) fn acknowledged(&mut self, i: u64, published: Published) {
        let Some(Purpose::Pub(ticket)) = self.requests.take(i) else {
            return;
        };
        self.pause.failures = 0;
        if self.outbox.settle(ticket) {
            self.effect(Effect::Published(ticket, Ok(published)));
        }
    }

    pub(super) fn publish_failed(&mut self, ticket: Ticket, refusal: Refusal, now: Now) {
        if let Some(retry_ms) = refusal.passes() {
            self.outbox.again(ticket);
            if !self.pause.running() {
                let random = self.random();
                self.pause.again(now.ms, random, retry_ms);
            }
        } else if self.outbox.settle(ticket) {
            self.effect(Effect::Published(ticket, Err(refusal.into_error())));
        }
    }
}
