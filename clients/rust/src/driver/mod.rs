//! The one task of a client: gives the core time, frames and calls, and does what it asks.
//!
//! Spawned by `Builder::connect`. It alone owns sockets, timers and the queues to the readers; it
//! decides nothing about the protocol.

mod call;
mod queue;
mod readers;
mod socket;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::{Notify, mpsc, oneshot},
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    Error, Published, Status, TokenError, TokenReason,
    builder::TokenSource,
    core::{ConnectionId, Effect, Engine, Now, RawPage, ReaderId, Settings, Ticket},
};
pub(crate) use call::{Call, Dialer, Endpoint, Shared, Tls};
pub(crate) use queue::EventQueue;
use readers::Reader;
use socket::{Incoming, OUTGOING_MAX, Outgoing};

/// Calls of the application that wait for the driver; a caller past it waits.
pub(crate) const CALLS_MAX: usize = 256;
/// A token source that has not answered by then counts as failed.
const TOKEN_WITHIN: Duration = Duration::from_secs(30);
/// How long sockets may take to write their last words and hear the node's close.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(5);
/// Without a deadline the driver looks at the clock so often.
const IDLE: Duration = Duration::from_secs(3_600);

type FromSocket = (ConnectionId, Incoming);

/// The driver.
pub(crate) struct Driver {
    engine: Engine,
    endpoints: Vec<Endpoint>,
    tokens: TokenSource,
    shared: Arc<Shared>,
    begun: Instant,
    sockets: HashMap<ConnectionId, mpsc::Sender<Outgoing>>,
    /// Given to each socket; what they bring comes out at the other end.
    incoming: mpsc::Sender<FromSocket>,
    arriving: mpsc::Receiver<FromSocket>,
    tasks: JoinSet<()>,
    fetching: JoinSet<Result<Option<String>, TokenError>>,
    readers: BTreeMap<ReaderId, Reader>,
    publishing: HashMap<Ticket, oneshot::Sender<Result<Published, Error>>>,
    reading: HashMap<Ticket, oneshot::Sender<Result<RawPage, Error>>>,
    minted: u64,
    changed: Arc<Notify>,
    /// Told by their end that the last connection is closed.
    closing: Vec<oneshot::Sender<()>>,
    over: bool,
}

impl Driver {
    pub(crate) fn new(
        endpoints: Vec<Endpoint>,
        tokens: TokenSource,
        sdk: String,
        shared: Arc<Shared>,
    ) -> Self {
        let begun = Instant::now();
        // One message: while it is not taken, the socket is not read.
        let (incoming, arriving) = mpsc::channel(1);
        let settings = Settings {
            endpoints: endpoints.len(),
            sdk,
            id_prefix: uuid::Uuid::now_v7().simple().to_string(),
            random: Box::new(crate::backoff::fraction),
        };
        Self {
            engine: Engine::new(settings, now(begun)),
            endpoints,
            tokens,
            shared,
            begun,
            sockets: HashMap::new(),
            incoming,
            arriving,
            tasks: JoinSet::new(),
            fetching: JoinSet::new(),
            readers: BTreeMap::new(),
            publishing: HashMap::new(),
            reading: HashMap::new(),
            minted: 0,
            changed: Arc::new(Notify::new()),
            closing: Vec::new(),
            over: false,
        }
    }

    /// Runs until the client is closed, or every handle of it is dropped.
    pub(crate) async fn run(mut self, mut calls: mpsc::Receiver<Call>) {
        self.perform();
        while !self.over {
            let deadline = self.deadline();
            let blocked = self.blocked();
            // Unbiased on purpose: neither a flood of calls nor one of frames starves the other.
            tokio::select! {
                call = calls.recv() => match call {
                    Some(call) => self.call(call),
                    None => self.close(false),
                },
                Some((id, incoming)) = self.arriving.recv(), if !blocked => self.arrived(id, incoming),
                Some(answer) = self.fetching.join_next() => self.token(answer),
                () = self.changed.notified() => self.tend_readers(),
                () = sleep_until(deadline) => {
                    self.tend_readers();
                    self.engine.handle_time(now(self.begun));
                }
            }
            while self.tasks.try_join_next().is_some() {}
            self.perform();
        }
        calls.close();
        self.arriving.close();
        let last_words = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(LAST_WORDS_WITHIN, last_words).await.is_err() {
            tracing::debug!("a connection did not close in time");
        }
    }

    fn deadline(&self) -> Instant {
        let core = self.engine.poll_deadline();
        let core = core.map(|ms| self.begun + Duration::from_millis(ms));
        core.into_iter()
            .chain(self.stalls())
            .min()
            .unwrap_or_else(|| Instant::now() + IDLE)
    }

    fn arrived(&mut self, id: ConnectionId, incoming: Incoming) {
        let now = now(self.begun);
        match incoming {
            Incoming::Opened => self.engine.handle_opened(id, now),
            Incoming::Received(received) => {
                self.tell_handled();
                self.engine.handle_received(id, received, now);
            }
            Incoming::Ended(end) => {
                self.sockets.remove(&id);
                self.engine.handle_ended(id, end, now);
            }
        }
    }

    fn token(
        &mut self,
        answer: Result<Result<Option<String>, TokenError>, tokio::task::JoinError>,
    ) {
        let answer = answer.unwrap_or_else(|error| {
            tracing::warn!(%error, "the token source ended without an answer");
            Err(TokenError::Unavailable)
        });
        self.engine.handle_token(answer, now(self.begun));
    }

    fn call(&mut self, call: Call) {
        let now = now(self.begun);
        match call {
            Call::Subscribe {
                channel,
                wish,
                reply,
            } => {
                let answer = self.subscribe(channel, wish);
                // A caller that gave up drops the queue, which abandons it.
                if let Err(Ok((_, queue))) = reply.send(answer) {
                    queue.abandon();
                }
            }
            Call::Change(reader, mode, hz) => self.engine.change(reader, mode, hz),
            Call::Publish {
                publication,
                queue_for_ms,
                reply,
            } => {
                let ticket = self.ticket();
                self.publishing.insert(ticket, reply);
                self.engine.publish(ticket, publication, queue_for_ms, now);
            }
            Call::Read(read, reply) => {
                let ticket = self.ticket();
                self.reading.insert(ticket, reply);
                self.engine.read(ticket, read, now);
            }
            Call::Positions(reply) => {
                let given = self.readers.values();
                let given = given.filter_map(|r| Some((r.channel.clone(), r.queue.handled()?)));
                // A caller that gave up needs no answer.
                let _unheard = reply.send(given.collect());
            }
            Call::Wake => self.engine.wake(now),
            Call::Suspend => {
                self.tell_handled();
                self.engine.suspend();
            }
            Call::Close { leave, reply } => {
                self.close(leave);
                self.closing.push(reply);
            }
        }
    }

    fn close(&mut self, leave: bool) {
        self.tell_handled();
        self.engine.close(leave);
        self.over = true;
    }

    fn ticket(&mut self) -> Ticket {
        self.minted += 1;
        Ticket(self.minted)
    }

    /// Does all the core asks for.
    fn perform(&mut self) {
        while let Some(effect) = self.engine.poll_effect() {
            match effect {
                Effect::FetchToken(reason) => self.fetch(reason),
                Effect::Connect(id, endpoint) => self.connect(id, endpoint),
                Effect::Send(id, command) => self.send(id, Outgoing::Command(command)),
                Effect::Close(id, code) => {
                    self.send(id, Outgoing::Close(code));
                    self.sockets.remove(&id);
                }
                Effect::Deliver(reader, delivery) => {
                    if let Some(reader) = self.readers.get(&reader) {
                        reader.queue.push(delivery);
                    }
                }
                // Callers that gave up need no answer.
                Effect::Published(ticket, result) => {
                    let reply = self.publishing.remove(&ticket);
                    let _unheard = reply.map(|reply| reply.send(result));
                }
                Effect::Page(ticket, result) => {
                    let reply = self.reading.remove(&ticket);
                    let _unheard = reply.map(|reply| reply.send(result));
                }
                Effect::Status(status) => self.status(status),
            }
        }
    }

    fn status(&mut self, status: Status) {
        tracing::debug!(?status, "the client's status");
        let offset = self.engine.clock_offset();
        self.shared
            .clock_offset
            .store(offset, std::sync::atomic::Ordering::Relaxed);
        if status.is_final() {
            self.over = true;
            for reader in self.readers.values() {
                reader.queue.end();
            }
        }
        self.shared.status.send_replace(status);
    }

    fn fetch(&mut self, reason: TokenReason) {
        let fetching = self.tokens.fetch(reason);
        self.fetching.spawn(async move {
            let late = |_elapsed| Err(TokenError::Unavailable);
            timeout(TOKEN_WITHIN, fetching).await.unwrap_or_else(late)
        });
    }

    fn connect(&mut self, id: ConnectionId, endpoint: usize) {
        let Some(endpoint) = self.endpoints.get(endpoint).cloned() else {
            return;
        };
        let (outgoing, orders) = mpsc::channel(OUTGOING_MAX);
        self.sockets.insert(id, outgoing);
        self.tasks
            .spawn(socket::run(id, endpoint, orders, self.incoming.clone()));
    }

    fn send(&mut self, id: ConnectionId, outgoing: Outgoing) {
        let Some(socket) = self.sockets.get(&id) else {
            return;
        };
        if socket.try_send(outgoing).is_err() {
            // It takes nothing any more: without its end the socket's task closes it and says so.
            tracing::debug!("a connection that takes no commands is given up");
            self.sockets.remove(&id);
        }
    }
}

fn now(begun: Instant) -> Now {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let unix = SystemTime::now().duration_since(UNIX_EPOCH);
    Now {
        ms: ms(begun.elapsed()),
        unix_ms: ms(unix.unwrap_or_default()),
    }
}
