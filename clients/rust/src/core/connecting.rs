//! Making connections: a token, a socket, the hello, the welcome; and what frames say about the
//! connection itself.
//!
//! Part of the engine, beside `link`. It never decides what a lost connection means: `ending` does.

use tidewire_protocol::{Command, Frame, command::Hello, frame::Welcome};

use super::{
    ConnectionId, Effect, Engine, Now,
    ending::Bye,
    link::{Connection, GOING, HEARTBEAT_GRACE_MS, Link, WELCOME_WITHIN_MS},
};
use crate::{Loss, Online, Status};

impl Engine {
    /// Opens the next connection unless one is under way.
    pub(super) fn open(&mut self, now: Now) {
        if self.link.stopped.is_some() || self.link.opening || self.link.next.is_some() {
            return;
        }
        self.link.retry.stop();
        self.link.opening = true;
        if self.link.living.is_none() {
            self.effect(Effect::Status(Status::Connecting));
        }
        self.want_token(now);
    }

    pub(super) fn dial(&mut self, now: Now) {
        self.link.made += 1;
        let id = ConnectionId(self.link.made);
        self.link.next = Some(Connection {
            id,
            open: false,
            welcomed: false,
            pipelined: false,
            announced: Vec::new(),
            heard_at: now.ms,
            silence_max: WELCOME_WITHIN_MS,
            probe: None,
        });
        self.effect(Effect::Connect(id, self.link.endpoint));
    }

    pub(super) fn opened(&mut self, id: ConnectionId, now: Now) {
        if !Link::holds(self.link.next.as_ref(), id) {
            return;
        }
        let pipelined = self.link.living.is_none();
        let subs = self.channels.hello(pipelined);
        let session = self.link.session.claim(now.unix_ms);
        let hello = Command::Hello(Hello {
            token: self.link.token.clone(),
            session,
            subs: Some(subs.clone()),
            heartbeat: None,
            sdk: Some(self.settings.sdk.clone()),
        });
        if let Some(next) = &mut self.link.next {
            (next.open, next.pipelined, next.announced) = (true, pipelined, subs);
        }
        self.effect(Effect::Send(id, hello));
        if pipelined {
            self.pipeline(now);
        }
    }

    pub(super) fn send(&mut self, command: Command) {
        if let Some(id) = self.link.out().map(|out| out.id) {
            self.effect(Effect::Send(id, command));
        }
    }

    /// A frame of any connection.
    pub(super) fn take(&mut self, id: ConnectionId, frame: Frame, now: Now) {
        let living = Link::holds(self.link.living.as_ref(), id);
        if !living && !Link::holds(self.link.next.as_ref(), id) {
            return;
        }
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "Engine::frame names every other frame"
        )]
        match frame {
            Frame::Bye {
                code,
                retry_ms,
                attempt,
            } => {
                let retry_ms = retry_ms.unwrap_or(0);
                self.effect(Effect::Close(id, GOING));
                self.ended(
                    id,
                    Some(code),
                    Bye { retry_ms, attempt },
                    Loss::Told(code),
                    now,
                );
            }
            Frame::Welcome(welcome) if !living => self.promote(&welcome, now),
            _ if !living => {}
            Frame::Ping => {
                let acks = self.channels.acks();
                self.effect(Effect::Send(id, Command::Pong(acks)));
            }
            Frame::Auth { .. } => self.refresh(now),
            Frame::Move { in_ms, .. } => {
                self.next_endpoint();
                self.link.retry.start(now.ms + in_ms);
            }
            other => self.frame(other, now),
        }
    }

    /// The next connection was welcomed: from here on the older one counts for nothing.
    fn promote(&mut self, welcome: &Welcome, now: Now) {
        let Some(mut connection) = self.link.next.take() else {
            return;
        };
        if let Some(old) = self.link.living.take() {
            self.effect(Effect::Close(old.id, GOING));
            self.down();
        }
        connection.welcomed = true;
        connection.silence_max = welcome.heartbeat.saturating_mul(1_000) + HEARTBEAT_GRACE_MS;
        let (pipelined, announced) = (
            connection.pipelined,
            std::mem::take(&mut connection.announced),
        );
        let link = &mut self.link;
        link.living = Some(connection);
        link.welcomed_at = now.ms;
        link.clock_offset = welcome.ts.cast_signed() - now.unix_ms.cast_signed();
        link.unauthenticated = 0;
        link.claimed = false;
        link.data_max = usize::try_from(welcome.max.data).unwrap_or(usize::MAX);
        link.session.welcomed(welcome);
        self.expires(welcome.expires, now);
        self.beat(now);
        self.up(&announced, pipelined);
        if !pipelined {
            self.pipeline(now);
        }
        self.effect(Effect::Status(Status::Online(Online {
            session: welcome.session.clone(),
            resumed: welcome.resumed,
            user: welcome.user.clone(),
            node: welcome.node.clone(),
        })));
    }
}
