//! What faults make a simulated client do. Sent by `run`; obeyed between two frames.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tidewire_protocol::{ChannelName, Command};

use super::{Credentials, SimClient};

/// What a fault makes a client do.
#[derive(Debug, Clone)]
pub enum Order {
    /// Its network is gone.
    Cut,
    /// Nothing goes through for a while.
    Freeze(Duration),
    /// It opens a second connection of its session.
    Double,
    /// It loses its memory, but for the session's key.
    Forget,
    /// It acknowledges all it was given.
    Acknowledge,
    /// It ends a subscription and begins it again at once.
    Again(ChannelName),
    /// It goes on with the session of another client, as a duplicated tab does.
    Steal(Arc<Mutex<Option<Credentials>>>),
    /// No more faults: it publishes no more and comes back soon.
    Calm,
}

impl SimClient {
    pub(super) fn obey(&mut self, order: Order) {
        self.world
            .note(|| format!("client {}: {order:?}", self.app.client.0));
        match order {
            Order::Cut => {
                while !self.lines.is_empty() {
                    self.lose(0);
                }
            }
            Order::Freeze(time) => {
                for line in &mut self.lines {
                    line.wire.freeze(time);
                }
            }
            Order::Double => {
                self.world.saw("a session resumed twice");
                self.connect();
            }
            Order::Forget => {
                while !self.lines.is_empty() {
                    self.lose(0);
                }
                self.app.forget();
                if let Some(credentials) = &mut *self.session.lock() {
                    credentials.is_unsettled = true;
                }
            }
            Order::Acknowledge => {
                let handled = self.app.acknowledge();
                if self.is_open()
                    && let Some(line) = self.lines.back_mut()
                {
                    line.wire.send(&[Command::Ack(handled)]);
                }
            }
            Order::Again(channel) => self.again(&channel),
            Order::Steal(other) => {
                // Where one of them does not know how far it came, the other's positions would
                // decide what it is given: nobody could say what it had handled.
                let other = other.lock().clone();
                let settled = other.filter(|other| !other.is_unsettled);
                if let Some(credentials) = settled.filter(|_| self.app.has_begun()) {
                    self.world.saw("a tab duplicated");
                    self.attempt = self.attempt.max(credentials.attempt);
                    *self.session.lock() = Some(credentials);
                    while !self.lines.is_empty() {
                        self.lose(0);
                    }
                }
            }
            Order::Calm => {
                self.is_calm = true;
                self.outgoing = None;
                self.publish_at = None;
                let late: Vec<_> = (0..self.lines.len())
                    .filter(|at| !self.lines[*at].is_welcome)
                    .collect();
                for at in late.into_iter().rev() {
                    self.lose(at);
                }
                for line in &mut self.lines {
                    line.wire.freeze(Duration::ZERO);
                }
                if self.lines.is_empty() {
                    self.back_off();
                }
            }
        }
    }
}
