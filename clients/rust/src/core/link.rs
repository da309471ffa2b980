//! The living connection and its successor: what is known of them, and what the application asks.
//!
//! Part of the engine; `connecting`, `ending` and `token` do the rest. It never looks into channels.

use tidewire_protocol::{Command, command::Sub};

use super::{
    ConnectionId, Effect, Engine, Now,
    backoff::Timer,
    requests::Purpose,
    session::Session,
    token::{TokenReason, Tokens},
};
use crate::{Error, Loss, Status};

/// From the start of a connection to `welcome`, ms: a storm is admitted slowly, so longer than a
/// network needs.
pub(super) const WELCOME_WITHIN_MS: u64 = 20_000;
/// Beyond the heartbeat, before a silent connection is given up, ms.
pub(super) const HEARTBEAT_GRACE_MS: u64 = 10_000;
/// A connection silent for longer than this is asked for a sign of life when the machine wakes, ms.
const PROBE_AFTER_MS: u64 = 5_000;
/// How long that may take, ms.
const PROBE_WITHIN_MS: u64 = 2_000;
/// A connection that lived this long after `welcome`, ms, was a good one: the next wait is short.
pub(super) const STABLE_MS: u64 = 5_000;
/// The node's default for one publication, until `welcome` tells its own.
const DATA_MAX: usize = 48 * 1024;
/// The close code of a client that goes.
pub(super) const GOING: u16 = 1000;

/// One connection as the core knows it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    /// Its hello was sent.
    pub(super) open: bool,
    pub(super) welcomed: bool,
    /// Commands follow its hello without waiting for `welcome`.
    pub(super) pipelined: bool,
    /// Subscriptions as its hello named them.
    pub(super) announced: Vec<Sub>,
    pub(super) heard_at: u64,
    pub(super) silence_max: u64,
    /// A sign of life was asked for at the first, and is due at the second.
    pub(super) probe: Option<(u64, u64)>,
}

impl Connection {
    fn deadline(&self) -> u64 {
        let silent = self.heard_at + self.silence_max;
        self.probe.map_or(silent, |(_, due)| due)
    }

    /// Whether it is dead by now. A probe that was answered is forgotten.
    pub(super) fn silent(&mut self, now: u64) -> bool {
        if self.deadline() > now {
            return false;
        }
        match self.probe.take() {
            Some((asked, _)) => self.heard_at < asked,
            None => true,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    Suspended,
    ForGood,
}

/// Everything about connections.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) session: Session,
    pub(super) tokens: Tokens,
    /// The token of the last hello or `auth`.
    pub(super) token: Option<String>,
    pub(super) living: Option<Connection>,
    pub(super) next: Option<Connection>,
    /// A token is awaited for the next connection.
    pub(super) opening: bool,
    /// A token is awaited for this connection.
    pub(super) refreshing: Option<ConnectionId>,
    pub(super) stopped: Option<Stopped>,
    pub(super) retry: Timer,
    /// The wait was asked for by the node.
    pub(super) hinted: bool,
    pub(super) refresh: Timer,
    pub(super) unauthenticated: u32,
    pub(super) claimed: bool,
    pub(super) welcomed_at: u64,
    /// The broker's clock minus this machine's, ms.
    pub(super) clock_offset: i64,
    pub(super) endpoint: usize,
    pub(super) made: u64,
    pub(super) data_max: usize,
}

impl Link {
    pub(super) fn new() -> Self {
        Self {
            session: Session::default(),
            tokens: Tokens::new(),
            token: None,
            living: None,
            next: None,
            opening: false,
            refreshing: None,
            stopped: None,
            retry: Timer::default(),
            hinted: false,
            refresh: Timer::default(),
            unauthenticated: 0,
            claimed: false,
            welcomed_at: 0,
            clock_offset: 0,
            endpoint: 0,
            made: 0,
            data_max: DATA_MAX,
        }
    }

    pub(super) const fn online(&self) -> bool {
        self.living.is_some()
    }

    /// Where a frame goes: the living connection, or one whose hello may be followed at once.
    pub(super) fn out(&self) -> Option<&Connection> {
        let next = || self.next.as_ref().filter(|next| next.pipelined);
        self.living.as_ref().or_else(next).filter(|out| out.open)
    }

    pub(super) fn writable(&self) -> bool {
        self.out().is_some()
    }

    pub(super) fn deadline(&self) -> Option<u64> {
        let connections = [&self.living, &self.next].into_iter().flatten();
        let timers = [self.retry.due, self.refresh.due].into_iter().flatten();
        connections.map(Connection::deadline).chain(timers).min()
    }

    /// Something came on this connection.
    pub(super) fn heard(&mut self, id: ConnectionId, now: Now) {
        for connection in [&mut self.living, &mut self.next].into_iter().flatten() {
            if connection.id == id {
                connection.heard_at = now.ms;
            }
        }
    }

    pub(super) fn holds(connection: Option<&Connection>, id: ConnectionId) -> bool {
        connection.is_some_and(|connection| connection.id == id)
    }
}

/// What the application asks of the link.
impl Engine {
    /// The machine woke, or the network changed: a silent connection has to show that it lives.
    pub(crate) fn wake(&mut self, now: Now) {
        let waiting = self.link.living.is_none() && self.link.retry.running() && !self.link.hinted;
        if self.link.stopped == Some(Stopped::Suspended) || waiting {
            self.link.tokens.expire(TokenReason::Wake);
            self.link.stopped = None;
            self.open(now);
        }
        let Some(living) = &mut self.link.living else {
            return;
        };
        let silent = now.ms.saturating_sub(living.heard_at);
        if silent <= PROBE_AFTER_MS {
            return;
        }
        if silent >= living.silence_max {
            let id = living.id;
            return self.drop_connection(id, GOING, Loss::Silent, now);
        }
        living.probe = Some((now.ms, now.ms + PROBE_WITHIN_MS));
        self.link.tokens.expire(TokenReason::Wake);
        let i = self.requests.once(Purpose::Probe);
        self.send(Command::Unknown { i });
    }

    /// Ends the connection and keeps the session, until `wake`.
    pub(crate) fn suspend(&mut self) {
        if self.link.stopped.is_some() {
            return;
        }
        self.acknowledge();
        self.stop(Stopped::Suspended);
        self.effect(Effect::Status(Status::Suspended));
    }

    /// Ends the connection for good; with `leave` the session too.
    pub(crate) fn close(&mut self, leave: bool) {
        if self.over.is_some() {
            return;
        }
        self.acknowledge();
        if leave {
            self.send(Command::Leave);
        }
        self.stop(Stopped::ForGood);
        self.finish(Error::Closed, Status::Closed);
    }

    /// Unix ms of the broker's clock.
    pub(crate) fn clock_offset(&self) -> i64 {
        self.link.clock_offset
    }
}
