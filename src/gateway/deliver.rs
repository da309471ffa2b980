//! The delivery core: pulls from cursors into one write.
//!
//! Order and exactly-once rest on this: a cursor moves under the connection's lock, and only
//! when bytes of the frames it passes left for the socket or were copied to the rest. Called by
//! whoever has publications, replies or a writable socket; never waits, never calls the broker.

use std::{
    cell::RefCell,
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tidewire_protocol::command::Mode;

use super::{
    connection::{Connection, Out, Slots},
    websocket,
};
use crate::{
    channel::Message,
    clock,
    session::{End, Phase, Step, Sub},
    telemetry::{labels::DeliveryMode, metrics::Metrics, tally::Tally},
};

/// Most bytes of one write while the socket takes all; past it coalescing gains nothing more.
const TURN_BYTES_MAX: usize = 64 * 1024;
/// Most bytes at a time for a socket that was full: little that is old stands before the newest.
const SLOW_TURN_BYTES_MAX: usize = 16 * 1024;
/// Most bytes of one subscription in a turn, so that a busy one does not starve the others.
const SUB_BYTES_MAX: usize = 16 * 1024;
/// Turns of one pull; then the connection goes to the back of the queue.
const TURNS_MAX: usize = 16;
/// A client that took no byte for this long is cut; its session is kept.
const STALL_MS_MAX: u64 = 60_000;

thread_local! {
    /// The message under construction, reused from pull to pull.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static STEPS: RefCell<Vec<Step>> = const { RefCell::new(Vec::new()) };
}

/// How a write went.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// All of it.
    All,
    /// Part of it; the rest is kept and a task waits for the socket.
    Part,
    /// Nothing; a task waits for the socket.
    Nothing,
    /// The socket broke.
    Broken,
}

impl Connection {
    /// Writes everything there is to write, as far as the socket takes it.
    pub(super) fn pull_under(self: &Arc<Self>, out: &mut Out) {
        self.pull_into(out, &mut Tally::new(&self.gateway.metrics));
    }

    /// The same, in a batch of many connections.
    pub(super) fn pull_into(self: &Arc<Self>, out: &mut Out, tally: &mut Tally<'_>) {
        if out.blocked || out.is_ended() {
            return;
        }
        self.pull_turns(out, TURN_BYTES_MAX, tally);
        self.load_if_behind(out);
    }

    fn pull_turns(self: &Arc<Self>, out: &mut Out, bytes_max: usize, tally: &mut Tally<'_>) {
        for _ in 0..TURNS_MAX {
            if !self.write_rest(out) || out.is_ended() || !self.turn(out, bytes_max, tally) {
                return;
            }
        }
        let connection = Arc::clone(self);
        self.gateway.tasks.spawn(async move {
            let mut out = connection.lock();
            connection.pull_under(&mut out);
        });
    }

    /// One message. True: there may be more to write.
    fn turn(self: &Arc<Self>, out: &mut Out, bytes_max: usize, tally: &mut Tally<'_>) -> bool {
        let mut message = Message::reusing(self.encoding, SCRATCH.take());
        let mut steps = STEPS.take();
        if !out.lane(self.encoding).is_empty() {
            message.push_encoded(out.lane(self.encoding));
        }
        let taken = self.take_ready();
        let unserved = self.fill(out, taken, &mut message, &mut steps, bytes_max);
        let written = self.write(out, message, &steps, tally);
        if written == Written::Nothing {
            self.put_ready(taken);
        } else {
            self.put_ready(unserved);
        }
        steps.clear();
        STEPS.replace(steps);
        written == Written::All && (!unserved.is_empty())
    }

    /// Adds what the ready subscriptions find; answers those that have more.
    fn fill(
        self: &Arc<Self>,
        out: &mut Out,
        mut ready: Slots,
        message: &mut Message,
        steps: &mut Vec<Step>,
        bytes_max: usize,
    ) -> Slots {
        let mut unserved = Slots::default();
        if ready.is_empty() || out.session.is_none() {
            return unserved;
        }
        let mut from = out.turn;
        let mut crowded_out = None;
        while let Some(slot) = ready.next(from) {
            if message.len() >= bytes_max {
                out.turn = slot;
                break;
            }
            ready.remove(slot);
            from = slot.wrapping_add(1);
            if self.is_early(out, slot) {
                continue;
            }
            let Some(sub) = out.session.as_ref().and_then(|session| session.sub(slot)) else {
                continue;
            };
            let room = (bytes_max - message.len()).min(SUB_BYTES_MAX);
            let before = message.len();
            let (step, end) = Step::read(slot, sub, message, room);
            steps.push(step);
            if message.len() == before && end == End::More {
                // A frame too large to come second: the next message begins with it.
                crowded_out.get_or_insert(slot);
            }
            match end {
                End::More => unserved.insert(slot),
                End::Behind => out.behind.insert(slot),
                End::Done => {}
            }
        }
        out.turn = crowded_out.unwrap_or(out.turn);
        unserved.insert_all(ready);
        unserved
    }

    /// Whether `hz` says to wait; a timer then marks the subscription when it is due.
    fn is_early(self: &Arc<Self>, out: &mut Out, slot: u8) -> bool {
        let Some(sub) = out
            .session
            .as_mut()
            .and_then(|session| session.sub_mut(slot))
        else {
            return false;
        };
        if sub.wishes.hz.is_none() || sub.progress.phase != Phase::Live {
            return false;
        }
        let wait_ms = sub.due_ms.saturating_sub(clock::now_ms());
        // A wait of more than a second, the slowest rate, is a clock that was set back.
        if wait_ms == 0 || wait_ms > 1000 {
            return false;
        }
        if !sub.armed {
            sub.armed = true;
            let (connection, number) = (Arc::clone(self), sub.number);
            self.gateway.tasks.spawn(async move {
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                let mut out = connection.lock();
                if let Some(sub) = out
                    .session
                    .as_mut()
                    .and_then(|session| session.sub_mut(slot))
                    && sub.number == number
                {
                    sub.armed = false;
                    connection.mark_ready(slot);
                    connection.pull_under(&mut out);
                }
            });
        }
        true
    }

    /// Seals and writes a message; steps cursors, and empties the lane if it is in it, when
    /// anything left.
    pub(super) fn write(
        self: &Arc<Self>,
        out: &mut Out,
        message: Message,
        steps: &[Step],
        tally: &mut Tally<'_>,
    ) -> Written {
        if message.is_empty() {
            self.commit(out, steps, tally);
            SCRATCH.replace(message.into_bytes());
            return Written::All;
        }
        let mut bytes = message.into_bytes();
        let begin = websocket::seal(self.encoding, &mut bytes);
        let result = self.socket.try_write(&bytes[begin..]);
        let written = match result {
            Ok(count) => {
                if out.blocked {
                    self.note_accepted();
                }
                tally.add_bytes(count);
                self.clear_lane(out);
                self.commit(out, steps, tally);
                if begin + count < bytes.len() {
                    out.keep_rest(&bytes[begin + count..]);
                    self.block(out);
                    Written::Part
                } else {
                    self.flush_socket(out)
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.block(out);
                Written::Nothing
            }
            Err(_gone) => self.broke(out),
        };
        SCRATCH.replace(bytes);
        written
    }

    fn note_accepted(&self) {
        self.accepted_ms.store(clock::now_ms(), Ordering::Relaxed);
    }

    fn flush_socket(self: &Arc<Self>, out: &mut Out) -> Written {
        match self.socket.try_flush() {
            Ok(()) => Written::All,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.block(out);
                Written::Part
            }
            Err(_gone) => self.broke(out),
        }
    }

    /// The socket broke: nothing more can be written.
    fn broke(&self, out: &mut Out) -> Written {
        out.dead = true;
        self.notify_ended();
        Written::Broken
    }

    fn commit(&self, out: &mut Out, steps: &[Step], tally: &mut Tally<'_>) {
        let Some(session) = &mut out.session else {
            return;
        };
        for step in steps {
            if let Some(sub) = session.sub_mut(step.slot) {
                count(step, sub, &self.gateway.metrics, tally);
                let (gap, rewind) = (step.gap.is_some(), step.takes_back(sub));
                // Not before: what is there at its turn is one delivery, in however many messages.
                if step.delivered > 0
                    && step.at_head
                    && let Some(hz) = sub.wishes.hz
                {
                    sub.due_ms = clock::now_ms() + 1000 / u64::from(hz.max(1));
                }
                step.take_effect(sub);
                if gap || rewind {
                    sub.channel.tell(gap, rewind);
                    session.told.add(gap, rewind);
                }
            }
        }
    }

    /// Writes the rest of an earlier message. False: the socket is full, or gone.
    pub(super) fn write_rest(self: &Arc<Self>, out: &mut Out) -> bool {
        while out.has_rest() {
            match self.socket.try_write(&out.rest[out.rest_at..]) {
                Ok(count) => {
                    self.note_accepted();
                    out.rest_at += count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.block(out);
                    return false;
                }
                Err(_gone) => {
                    self.broke(out);
                    return false;
                }
            }
        }
        out.clear_rest();
        self.flush_socket(out) == Written::All
    }

    /// Writes the last bytes of a connection: the lane, then `frame`; nothing follows.
    pub(super) fn write_last(self: &Arc<Self>, out: &mut Out, frame: &[u8]) {
        out.append_last(self.encoding, frame);
        if !out.blocked {
            self.write_rest(out);
        }
    }

    /// The socket is full: lets a task wait for it and go on. The last bytes of a connection that
    /// closes are waited for by its reading task.
    fn block(self: &Arc<Self>, out: &mut Out) {
        out.full = true;
        if out.blocked || out.is_ended() {
            return;
        }
        out.blocked = true;
        // Until this moment there was nothing the client could have refused.
        self.note_accepted();
        self.gateway.metrics.stalled_connections.increment(1.0);
        let connection = Arc::clone(self);
        self.gateway.tasks.spawn(async move {
            connection.drain().await;
            connection
                .gateway
                .metrics
                .stalled_connections
                .decrement(1.0);
        });
    }

    /// Writes whenever the socket takes bytes, until it takes them all at once. Once the
    /// connection closes, what is left of it is for the reading task to send.
    async fn drain(self: &Arc<Self>) {
        loop {
            let stalled_ms =
                clock::now_ms().saturating_sub(self.accepted_ms.load(Ordering::Relaxed));
            let left = Duration::from_millis(STALL_MS_MAX.saturating_sub(stalled_ms));
            let writable = tokio::select! {
                biased;
                writable = tokio::time::timeout(left, self.socket.writable()) => writable,
                () = self.ended() => return,
            };
            let mut out = self.lock();
            if out.is_ended() {
                return;
            }
            match writable {
                Ok(Ok(())) => {}
                Ok(Err(_gone)) => {
                    self.broke(&mut out);
                    return;
                }
                Err(_stalled) => {
                    out.gave_up();
                    self.broke(&mut out);
                    return;
                }
            }
            out.full = false;
            let mut tally = Tally::new(&self.gateway.metrics);
            self.pull_turns(&mut out, SLOW_TURN_BYTES_MAX, &mut tally);
            if !out.full {
                out.blocked = false;
                self.load_if_behind(&mut out);
                return;
            }
        }
    }
}

/// Counts what left with a step of the subscription as it was before.
fn count(step: &Step, before: &Sub, metrics: &Metrics, tally: &mut Tally<'_>) {
    if let Some(reason) = step.gap {
        metrics.gaps.count(reason);
    }
    if before.progress.phase == Phase::Replay && step.progress.phase == Phase::Live {
        metrics
            .replayed_publications
            .record(step.progress.replayed as f64);
    }
    let Some(counts) = before.channel.counts().filter(|_| step.delivered > 0) else {
        return;
    };
    match before.wishes.mode {
        Mode::Every => tally.add_every(counts, step.delivered),
        Mode::Latest => {
            let passed = step.progress.cursor.saturating_sub(before.progress.cursor);
            counts.deliveries.add(DeliveryMode::Latest, step.delivered);
            counts
                .conflated
                .increment(passed.saturating_sub(step.delivered));
        }
    }
}
