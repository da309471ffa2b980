//! One client's connection: its socket, its control lane and the session that lives on it.
//!
//! Owns what waits to be written and in which order: the unsent rest of the last message, then
//! the control lane, then whatever the subscriptions' cursors find (`deliver`). Everything
//! mutable is behind one lock, so any thread may write; nothing is awaited under it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::{Mutex, MutexGuard};
use tidewire_protocol::{CloseCode, Encoding, Frame, encode};
use tokio::sync::Notify;

use super::{Gateway, socket::SocketWriter, websocket};
use crate::{
    channel::{HEADER_BYTES_MAX, Message, Reader},
    clock,
    session::Session,
    telemetry::tally::Tally,
};

/// Bytes of replies that may wait; past it the node stops reading commands of this client.
pub const LANE_BYTES_MAX: usize = 64 * 1024;

/// Room for a welcome and the answer to a subscription: most lanes hold no more.
const LANE_BYTES_FIRST: usize = 512;

/// Names a connection on its node.
pub type ConnectionId = u64;

/// A set of subscription slots.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Slots([u64; 4]);

impl Slots {
    pub const fn insert(&mut self, slot: u8) {
        self.0[slot as usize / 64] |= 1 << (slot % 64);
    }

    pub const fn remove(&mut self, slot: u8) {
        self.0[slot as usize / 64] &= !(1 << (slot % 64));
    }

    pub fn insert_all(&mut self, other: Self) {
        for (word, more) in self.0.iter_mut().zip(other.0) {
            *word |= more;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    /// The first slot at or after `from`, going round.
    pub fn next(&self, from: u8) -> Option<u8> {
        let at_or_after = |from: u8| {
            (usize::from(from) / 64..4).find_map(|word| {
                let skipped = if word == usize::from(from) / 64 {
                    u64::MAX << (from % 64)
                } else {
                    u64::MAX
                };
                let bits = self.0[word] & skipped;
                (bits != 0).then(|| {
                    u8::try_from(word * 64).unwrap_or(0)
                        + u8::try_from(bits.trailing_zeros()).unwrap_or(0)
                })
            })
        };
        at_or_after(from).or_else(|| at_or_after(0))
    }
}

/// What is behind the connection's lock, which is taken before the locks of any channel.
///
/// A rest is only left behind with `blocked`, `closing` or `dead` set. A ready slot, a subscription
/// that is behind or a full lane has somebody who owes it a pull: whoever holds the lock, whoever
/// found `queued` clear, the task that waits for the socket (`blocked`) or for a page (`loading`).
#[derive(Debug, Default)]
pub struct Out {
    /// Replies and pushes about the connection, encoded, each followed by the separator.
    lane: Vec<u8>,
    /// What the socket has not taken of the last message; never a reference into a tail.
    pub(super) rest: Vec<u8>,
    pub(super) rest_at: usize,
    /// A task waits for the socket to take bytes.
    pub(super) blocked: bool,
    /// The last write met a full socket.
    pub(super) full: bool,
    /// A task reads pages for subscriptions that fell behind.
    pub(super) loading: bool,
    /// Subscriptions that need pages.
    pub(super) behind: Slots,
    /// Where the next turn begins, so that no subscription starves another.
    pub(super) turn: u8,
    /// The client was told that what it sees may be old.
    pub(super) told_stale: bool,
    /// Nothing more is written.
    pub(super) dead: bool,
    /// The reason of our close, once decided: the close frame is in the rest, and nothing may
    /// come behind it (RFC 6455, 5.5.1).
    closing: Option<CloseCode>,
    pub(super) session: Option<Box<Session>>,
}

/// Says once that the connection is to end. Held by every idle connection, so it is small.
#[derive(Debug, Default)]
struct Ended {
    set: AtomicBool,
    waiting: Notify,
}

impl Ended {
    fn set(&self) {
        self.set.store(true, Ordering::Release);
        self.waiting.notify_waiters();
    }

    async fn wait(&self) {
        let notified = self.waiting.notified();
        tokio::pin!(notified);
        // Registered before the look, so that a `set` in between is not missed.
        notified.as_mut().enable();
        if !self.set.load(Ordering::Acquire) {
            notified.await;
        }
    }
}

/// A client's connection.
#[derive(Debug)]
pub struct Connection {
    pub id: ConnectionId,
    pub encoding: Encoding,
    pub(super) gateway: Arc<Gateway>,
    pub(super) socket: SocketWriter,
    ready: [AtomicU64; 4],
    queued: AtomicBool,
    /// When the socket became full, or took a byte since; Unix ms.
    pub(super) accepted_ms: AtomicU64,
    ended: Ended,
    /// Told when a full lane was written.
    room: Notify,
    out: Mutex<Out>,
}

impl Connection {
    pub fn new(
        id: ConnectionId,
        encoding: Encoding,
        gateway: Arc<Gateway>,
        socket: SocketWriter,
    ) -> Self {
        Self {
            id,
            encoding,
            gateway,
            socket,
            ready: Default::default(),
            queued: AtomicBool::new(false),
            accepted_ms: AtomicU64::new(clock::now_ms()),
            ended: Ended::default(),
            room: Notify::new(),
            out: Mutex::default(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Out> {
        self.out.lock()
    }

    /// Runs `change` on the session. None: there is none (before hello, after the end).
    pub fn with_session<T>(&self, change: impl FnOnce(&mut Session) -> T) -> Option<T> {
        self.lock().session.as_mut().map(|session| change(session))
    }

    /// Takes the slots marked since the last call.
    pub(super) fn take_ready(&self) -> Slots {
        let mut slots = Slots::default();
        for (word, ready) in slots.0.iter_mut().zip(&self.ready) {
            if ready.load(Ordering::Relaxed) != 0 {
                *word = ready.swap(0, Ordering::AcqRel);
            }
        }
        slots
    }

    /// Gives slots back that were not served.
    pub(super) fn put_ready(&self, slots: Slots) {
        for (word, ready) in slots.0.iter().zip(&self.ready) {
            if *word != 0 {
                ready.fetch_or(*word, Ordering::AcqRel);
            }
        }
    }

    /// Lets marks queue this connection again. Cleared before ready slots and cursors are looked
    /// at, so that no append falls between the look and the mark. A swap, not a store: it must
    /// see the slots of every mark that found `queued` set and so left the pull to this one.
    fn unqueue(&self) {
        self.queued.swap(false, Ordering::AcqRel);
    }

    /// Marks a subscription without queueing: the caller pulls.
    pub(super) fn mark_ready(&self, slot: u8) {
        self.ready[usize::from(slot) / 64].fetch_or(1 << (slot % 64), Ordering::AcqRel);
    }

    /// Puts frames into the control lane and writes what can be written.
    pub fn send(self: &Arc<Self>, frames: &[Frame]) {
        let mut out = self.lock();
        for frame in frames {
            out.push(self.encoding, frame);
        }
        self.pull_under(&mut out);
    }

    /// Waits while the lane is full: the client does not take its replies. Cancel-safe.
    pub async fn room(&self) {
        while self.lock().lane.len() >= LANE_BYTES_MAX {
            self.room.notified().await;
        }
    }

    pub(super) fn clear_lane(&self, out: &mut Out) {
        if out.lane.len() >= LANE_BYTES_MAX {
            self.room.notify_one();
        }
        out.lane = Vec::new();
    }

    /// Sends a heartbeat, unless replies wait anyway.
    pub fn ping(self: &Arc<Self>) {
        let mut out = self.lock();
        if out.lane.is_empty() {
            out.push(self.encoding, &Frame::Ping);
            self.pull_under(&mut out);
        }
    }

    /// Writes a ready WebSocket frame (a pong) behind what is unsent; dropped where much is.
    pub fn send_raw(self: &Arc<Self>, frame: &[u8]) {
        let mut out = self.lock();
        if !out.is_ended() && out.rest.len() - out.rest_at < LANE_BYTES_MAX {
            out.rest.extend_from_slice(frame);
            self.pull_under(&mut out);
        }
    }

    /// Says why and closes: `bye`, the close frame, then nothing more. The first reason stays.
    pub fn close(self: &Arc<Self>, code: CloseCode, retry_ms: Option<u64>, attempt: Option<u64>) {
        let mut out = self.lock();
        if out.closing.is_some() || out.dead {
            return;
        }
        out.closing = Some(code);
        if code != CloseCode::Normal {
            out.push(
                self.encoding,
                &Frame::Bye {
                    code,
                    retry_ms,
                    attempt,
                },
            );
        }
        self.write_last(&mut out, &websocket::close(code.number(), code.name()));
        drop(out);
        self.ended.set();
    }

    /// Ends the connection without another word.
    pub fn abandon(&self) {
        self.lock().dead = true;
        self.ended.set();
    }

    /// Resolves when the connection is to end. Cancel-safe.
    pub async fn ended(&self) {
        self.ended.wait().await;
    }

    pub(super) fn notify_ended(&self) {
        self.ended.set();
    }

    /// Writes more of the last bytes of a connection that closes. True: there is nothing left that
    /// could be written.
    pub(super) fn push_rest(self: &Arc<Self>) -> bool {
        let mut out = self.lock();
        if !out.dead && self.write_rest(&mut out) {
            return true;
        }
        out.dead
    }

    /// Why this side closes; none while it does not.
    pub fn closing(&self) -> Option<CloseCode> {
        self.lock().closing
    }

    /// Takes the session off the connection: nothing more is delivered.
    pub fn take_session(&self) -> Option<Box<Session>> {
        self.lock().session.take()
    }

    /// Puts the session of an accepted hello on the connection.
    pub fn set_session(&self, session: Box<Session>) {
        self.lock().session = Some(session);
    }
}

impl Out {
    /// Whether nothing more may be delivered.
    pub(super) const fn is_ended(&self) -> bool {
        self.dead || self.closing.is_some()
    }

    /// Encodes a frame into the control lane.
    pub(super) fn push(&mut self, encoding: Encoding, frame: &Frame) {
        if self.lane.capacity() == 0 {
            self.lane.reserve(LANE_BYTES_FIRST);
        }
        frame.encode(encoding, &mut self.lane);
        self.lane.extend_from_slice(encode::separator(encoding));
    }

    /// Puts frames that were encoded elsewhere into the control lane.
    pub(super) fn push_message(&mut self, message: Message) {
        let separator = encode::separator(message.encoding());
        self.lane
            .extend_from_slice(&message.into_bytes()[HEADER_BYTES_MAX..]);
        self.lane.extend_from_slice(separator);
    }

    /// The client took nothing for too long: there is no way left to tell it.
    pub(super) const fn gave_up(&mut self) {
        if self.closing.is_none() {
            self.closing = Some(CloseCode::SlowConsumer);
        }
    }

    /// The lane's frames, joined by the separator.
    pub(super) fn lane(&self, encoding: Encoding) -> &[u8] {
        let separator = encode::separator(encoding).len();
        &self.lane[..self.lane.len().saturating_sub(separator)]
    }

    pub(super) const fn has_rest(&self) -> bool {
        self.rest_at < self.rest.len()
    }

    /// Keeps what the socket did not take.
    pub(super) fn keep_rest(&mut self, bytes: &[u8]) {
        self.rest = bytes.to_vec();
        self.rest_at = 0;
    }

    /// Lets go of the memory of a rest that went out.
    pub(super) fn clear_rest(&mut self) {
        self.rest = Vec::new();
        self.rest_at = 0;
    }

    /// Appends what is to be sent last.
    pub(super) fn append_last(&mut self, encoding: Encoding, frame: &[u8]) {
        let lane = self.lane(encoding);
        if !lane.is_empty() {
            let mut message = vec![0; HEADER_BYTES_MAX];
            message.extend_from_slice(lane);
            let begin = websocket::seal(encoding, &mut message);
            self.rest.extend_from_slice(&message[begin..]);
            self.lane = Vec::new();
        }
        self.rest.extend_from_slice(frame);
    }
}

impl Reader for Connection {
    fn mark(&self, slot: u8) -> bool {
        self.mark_ready(slot);
        !self.queued.swap(true, Ordering::AcqRel)
    }

    fn pull(self: Arc<Self>, tally: &mut Tally<'_>) {
        let pulled = catch_unwind(AssertUnwindSafe(|| {
            self.unqueue();
            self.pull_into(&mut self.lock(), tally);
        }));
        if pulled.is_err() {
            // The thread is a publisher's, and the next reader's after this one.
            tracing::error!(connection_id = self.id, "a delivery panicked");
            self.abandon();
        }
    }
}
