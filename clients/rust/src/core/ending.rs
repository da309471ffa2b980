//! Losing connections: what the end of one means, and when the next is tried.
//!
//! Part of the engine, beside `link`; the decision itself is in `close`. It opens nothing itself.

use std::time::Duration;

use tidewire_protocol::CloseCode;

use super::{
    ConnectionId, Effect, Engine, Now,
    close::{Action, Ending, after_close},
    link::{Connection, GOING, STABLE_MS, Stopped},
    token::TokenReason,
};
use crate::{Error, Loss, Status};

/// What a `bye` says besides its code.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bye {
    pub(super) retry_ms: u64,
    pub(super) attempt: Option<u64>,
}

impl Engine {
    /// Closes a connection by our own decision and goes on as after any loss.
    pub(super) fn drop_connection(&mut self, id: ConnectionId, code: u16, loss: Loss, now: Now) {
        self.effect(Effect::Close(id, code));
        self.ended(id, None, Bye::default(), loss, now);
    }

    pub(super) fn ended(
        &mut self,
        id: ConnectionId,
        code: Option<CloseCode>,
        bye: Bye,
        loss: Loss,
        now: Now,
    ) {
        let welcomed = if self.link.living.take_if(|living| living.id == id).is_some() {
            self.link.refresh.stop();
            if now.ms - self.link.welcomed_at >= STABLE_MS {
                self.link.retry.failures = 0;
            }
            self.down();
            if self.link.next.is_some() {
                return self.effect(Effect::Status(Status::Connecting));
            }
            true
        } else if let Some(next) = self.link.next.take_if(|next| next.id == id) {
            if next.pipelined {
                self.down();
            }
            false
        } else {
            return;
        };
        let ending = Ending {
            code,
            welcomed,
            unauthenticated: self.link.unauthenticated,
            attempt: bye.attempt.filter(|_| self.link.living.is_none()),
            claimed: self.link.claimed,
            replaced: self.link.session.takeovers_before(now.ms),
        };
        match after_close(&ending) {
            Action::Resume => {
                self.next_endpoint();
                return self.retry(bye.retry_ms, loss, now);
            }
            Action::Token => {
                self.link.unauthenticated += 1;
                self.link.tokens.expire(TokenReason::Unauthenticated);
            }
            Action::Claim(attempt) => {
                self.link.claimed = true;
                self.link.session.above(attempt);
            }
            Action::Fresh => {
                self.link.claimed = false;
                self.link.session.replaced(now.ms);
            }
            Action::Blocked(code) => return self.block(code),
        }
        self.open(now);
    }

    pub(super) fn next_endpoint(&mut self) {
        self.link.endpoint = (self.link.endpoint + 1) % self.settings.endpoints.max(1);
    }

    pub(super) fn retry(&mut self, retry_ms: u64, why: Loss, now: Now) {
        self.link.hinted = retry_ms > 0;
        let random = self.random();
        let wait = self.link.retry.again(now.ms, random, retry_ms);
        if self.link.living.is_none() {
            let retry_in = Duration::from_millis(wait);
            self.effect(Effect::Status(Status::Offline { why, retry_in }));
        }
    }

    pub(super) fn block(&mut self, code: CloseCode) {
        self.link.session.forget();
        self.stop(Stopped::ForGood);
        self.finish(Error::Blocked(code), Status::Blocked(code));
    }

    pub(super) fn stop(&mut self, why: Stopped) {
        let link = &mut self.link;
        link.stopped = Some(why);
        link.opening = false;
        link.refreshing = None;
        link.retry.stop();
        link.refresh.stop();
        for connection in [link.living.take(), link.next.take()].into_iter().flatten() {
            self.effect(Effect::Close(connection.id, GOING));
        }
        self.down();
    }

    pub(super) fn link_time(&mut self, now: Now) {
        let silent = |connection: &mut Option<Connection>| {
            let connection = connection.as_mut()?;
            connection.silent(now.ms).then_some(connection.id)
        };
        let dead = [silent(&mut self.link.living), silent(&mut self.link.next)];
        for id in dead.into_iter().flatten() {
            self.drop_connection(id, GOING, Loss::Silent, now);
        }
        if self.link.retry.fires(now.ms) {
            self.open(now);
        }
        if self.link.refresh.fires(now.ms) {
            self.refresh(now);
        }
    }
}
