//! Answers to requests: each goes to what it was asked for.
//!
//! Part of the engine. What becomes of an answer is decided where the request was made.

use tidewire_protocol::{ErrorCode, Frame, Position};

use super::{Effect, Engine, Now, RawItems, RawPage, requests::Purpose};
use crate::{Error, Published};

/// A refusal as it came.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: ErrorCode,
    pub(super) text: String,
    pub(super) retry_ms: Option<u64>,
    pub(super) position: Option<Position>,
}

impl Refusal {
    pub(super) const fn of(code: ErrorCode) -> Self {
        Self {
            code,
            text: String::new(),
            retry_ms: None,
            position: None,
        }
    }

    /// The same request may succeed later: after how many ms at least.
    pub(super) fn passes(&self) -> Option<u64> {
        let passes = self.code.temporary() || self.retry_ms.is_some();
        passes.then(|| self.retry_ms.unwrap_or(0))
    }

    pub(super) fn into_error(self) -> Error {
        Error::Refused {
            code: self.code,
            text: self.text,
            retry: self.retry_ms.map(std::time::Duration::from_millis),
            position: self.position,
        }
    }
}

impl Engine {
    /// A frame that answers a request.
    pub(super) fn answer(&mut self, frame: Frame, now: Now) {
        match frame {
            Frame::Done { i, expires } => self.done(i, expires, now),
            Frame::Published {
                i,
                position,
                duplicate,
                acknowledged,
            } => {
                let published = Published {
                    position,
                    duplicate,
                    acknowledged,
                };
                self.acknowledged(i, published);
            }
            Frame::HistoryPage {
                i,
                position: head,
                items,
                more,
            } => {
                let items = RawItems::History(items);
                self.page(i, RawPage { head, items, more }, now);
            }
            Frame::StatePage {
                i,
                position: head,
                items,
                more,
            } => {
                let items = RawItems::State(items);
                self.page(i, RawPage { head, items, more }, now);
            }
            Frame::Error {
                i,
                code,
                text,
                retry_ms,
                position,
            } => {
                let refusal = Refusal {
                    text,
                    retry_ms,
                    position,
                    ..Refusal::of(code)
                };
                self.failed(i, refusal, now);
            }
            // `frame` and the link have taken these.
            Frame::Subscribed { .. }
            | Frame::Msg { .. }
            | Frame::State { .. }
            | Frame::Live { .. }
            | Frame::Gap { .. }
            | Frame::Rewind { .. }
            | Frame::Stale { .. }
            | Frame::Unsubscribed { .. }
            | Frame::Welcome(_)
            | Frame::Auth { .. }
            | Frame::Move { .. }
            | Frame::Ping
            | Frame::Bye { .. } => {}
        }
    }

    fn done(&mut self, i: u64, expires: Option<u64>, now: Now) {
        match self.requests.take(i) {
            Some(Purpose::Unsub(channel)) => self.channels.gone(&channel),
            Some(Purpose::Auth) => self.renewed_until(expires, now),
            Some(
                Purpose::Sub(_)
                | Purpose::Pub(_)
                | Purpose::Probe
                | Purpose::Read(_)
                | Purpose::Heal(_),
            )
            | None => {}
        }
    }

    fn page(&mut self, i: u64, page: RawPage, now: Now) {
        match self.requests.take(i) {
            Some(Purpose::Read(ticket)) => self.effect(Effect::Page(ticket, Ok(page))),
            Some(Purpose::Heal(channel)) => self.heal_page(&channel, page, now),
            Some(
                Purpose::Sub(_)
                | Purpose::Unsub(_)
                | Purpose::Pub(_)
                | Purpose::Auth
                | Purpose::Probe,
            )
            | None => {}
        }
    }

    fn failed(&mut self, i: Option<u64>, refusal: Refusal, now: Now) {
        match i.and_then(|i| self.requests.take(i)) {
            Some(Purpose::Sub(channel)) => self.refused(&channel, refusal, now),
            Some(Purpose::Unsub(channel)) => self.channels.gone(&channel),
            Some(Purpose::Pub(ticket)) => self.publish_failed(ticket, refusal, now),
            Some(Purpose::Auth) => self.refresh_again(now),
            Some(Purpose::Read(ticket)) => {
                self.effect(Effect::Page(ticket, Err(refusal.into_error())));
            }
            Some(Purpose::Heal(channel)) => self.heal_failed(&channel, &refusal, now),
            // That the probe was answered is all it asked.
            Some(Purpose::Probe) | None => {}
        }
    }
}
