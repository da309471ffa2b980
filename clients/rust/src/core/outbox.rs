//! Publications the node has not acknowledged, in the order they were made.
//!
//! Driven by the engine. It never reorders, and never holds more than its limits.

use std::collections::VecDeque;

use tidewire_protocol::{Payload, command::Pub};

use super::Ticket;
use crate::Error;

/// Most publications waiting: a minute without a connection at some per second.
pub(crate) const OUTBOX_COUNT_MAX: usize = 1_024;
/// Most bytes of their data.
pub(crate) const OUTBOX_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long one waits for its acknowledgement unless told otherwise, ms.
pub(crate) const QUEUE_FOR_MS: u64 = 60_000;
/// The node recognises an id again for at least this long, ms; sent again later it could be
/// applied twice.
const DEDUP_WINDOW_MS: u64 = 120_000;

/// One publication that waits.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) ticket: Ticket,
    pub(crate) publication: Pub,
    /// When it is given up, ms; once sent, before the node could forget its id.
    expires: u64,
    /// It may have been applied.
    tried: bool,
    /// Sent on the present connection.
    sent: bool,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.publication.payload.as_ref().map_or(0, Payload::len)
    }
}

/// What waits, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Outbox {
    /// # Errors
    /// [`Error::OutboxFull`].
    pub(crate) fn add(
        &mut self,
        ticket: Ticket,
        publication: Pub,
        expires: u64,
    ) -> Result<(), Error> {
        let entry = Entry {
            ticket,
            publication,
            expires,
            tried: false,
            sent: false,
        };
        let bytes = self.bytes + entry.bytes();
        if self.entries.len() >= OUTBOX_COUNT_MAX || bytes > OUTBOX_BYTES_MAX {
            return Err(Error::OutboxFull);
        }
        self.bytes = bytes;
        self.entries.push_back(entry);
        Ok(())
    }

    /// The next to be sent, in order; from then on it counts as sent.
    pub(crate) fn next(&mut self, now: u64) -> Option<(Ticket, Pub)> {
        let entry = self.entries.iter_mut().find(|entry| !entry.sent)?;
        if !entry.tried {
            entry.expires = entry.expires.min(now + DEDUP_WINDOW_MS);
        }
        (entry.sent, entry.tried) = (true, true);
        Some((entry.ticket, entry.publication.clone()))
    }

    /// Nothing that was sent has certainly arrived: all of it goes again, oldest first.
    pub(crate) fn unsend(&mut self) {
        for entry in &mut self.entries {
            entry.sent = false;
        }
    }

    /// This one goes again.
    pub(crate) fn again(&mut self, ticket: Ticket) {
        let entry = self.entries.iter_mut().find(|entry| entry.ticket == ticket);
        if let Some(entry) = entry {
            entry.sent = false;
        }
    }

    /// It was answered. False where it was given up before.
    pub(crate) fn settle(&mut self, ticket: Ticket) -> bool {
        let at = self.entries.iter().position(|entry| entry.ticket == ticket);
        let entry = at.and_then(|at| self.entries.remove(at));
        self.bytes -= entry.as_ref().map_or(0, Entry::bytes);
        entry.is_some()
    }

    /// Gives up what is too old.
    pub(crate) fn expire(&mut self, now: u64) -> Vec<(Ticket, Error)> {
        let old = |entry: &&Entry| entry.expires <= now;
        let told = |entry: &Entry| {
            let error = if entry.tried {
                Error::OutcomeUnknown
            } else {
                Error::Expired
            };
            (entry.ticket, error)
        };
        let given_up: Vec<_> = self.entries.iter().filter(old).map(told).collect();
        for (ticket, _) in &given_up {
            self.settle(*ticket);
        }
        given_up
    }

    /// When the next one is too old.
    pub(crate) fn next_expiry(&self) -> Option<u64> {
        self.entries.iter().map(|entry| entry.expires).min()
    }

    /// Gives up everything.
    pub(crate) fn clear(&mut self) -> Vec<Ticket> {
        self.bytes = 0;
        self.entries.drain(..).map(|entry| entry.ticket).collect()
    }
}
