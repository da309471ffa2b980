//! Commands that are answered: numbers them, matches the answers, keeps the lasting ones for the
//! next connection.
//!
//! Driven by the engine, which sends. Bounded in number and time; each is answered at most once.

use std::collections::BTreeMap;

use tidewire_protocol::{
    ChannelName, Command, Epoch,
    command::{History, Range, RequestId},
};

use super::Ticket;
use crate::Error;

/// Past so many waiting, a read is refused: a full outbox and all subscriptions fit beside them.
pub(crate) const READS_MAX: usize = 256;
/// Longest wait for a page, across connections, ms.
const ANSWER_WITHIN_MS: u64 = 30_000;

/// What an answer is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Purpose {
    Sub(ChannelName),
    Unsub(ChannelName),
    Pub(Ticket),
    Auth,
    Probe,
    /// A page of the state a subscription misses.
    Heal(ChannelName),
    /// A page of history or state, asked for again on each connection until it is answered.
    Read(Ticket),
}

/// A page to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Read {
    History {
        channel: ChannelName,
        epoch: Option<Epoch>,
        range: Range,
        limit: u32,
    },
    State {
        channel: ChannelName,
        from: u64,
    },
}

impl Read {
    fn command(&self, i: u64) -> Command {
        match self.clone() {
            Self::History {
                channel,
                epoch,
                range,
                limit,
            } => Command::History(History {
                i: Some(i),
                channel,
                epoch,
                range,
                limit,
            }),
            Self::State { channel, from } => Command::State {
                i: Some(i),
                channel,
                from,
            },
        }
    }
}

/// A read that waits, and when it is given up.
#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    read: Read,
    deadline: u64,
}

/// What waits for its answer, by its number.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// Of the present connection.
    once: BTreeMap<u64, Purpose>,
    /// Of every connection until it is answered; all wait equally long, so the first is the first
    /// to be given up.
    reads: BTreeMap<u64, Waiting>,
    last: u64,
}

impl Requests {
    /// A number for a request of this connection: where that ends first, nothing comes of it.
    pub(crate) fn once(&mut self, purpose: Purpose) -> RequestId {
        self.last += 1;
        self.once.insert(self.last, purpose);
        Some(self.last)
    }

    /// Asked for on each connection until it is answered; gives the command.
    ///
    /// # Errors
    /// [`Error::Busy`].
    pub(crate) fn lasting(
        &mut self,
        ticket: Ticket,
        read: Read,
        now: u64,
    ) -> Result<Command, Error> {
        if self.reads.len() >= READS_MAX {
            return Err(Error::Busy);
        }
        self.last += 1;
        let command = read.command(self.last);
        let waiting = Waiting {
            ticket,
            read,
            deadline: now + ANSWER_WITHIN_MS,
        };
        self.reads.insert(self.last, waiting);
        Ok(command)
    }

    /// What the answer with this number is for.
    pub(crate) fn take(&mut self, i: u64) -> Option<Purpose> {
        let read = self.reads.remove(&i);
        let read = read.map(|waiting| Purpose::Read(waiting.ticket));
        read.or_else(|| self.once.remove(&i))
    }

    /// The connection ended: what belonged to it is forgotten.
    pub(crate) fn lost(&mut self) {
        self.once.clear();
    }

    /// What has to be asked for on a new connection, in order.
    pub(crate) fn unanswered(&self) -> Vec<Command> {
        let reads = self.reads.iter();
        reads.map(|(i, waiting)| waiting.read.command(*i)).collect()
    }

    /// When the next read is given up.
    pub(crate) fn next_expiry(&self) -> Option<u64> {
        Some(self.reads.first_key_value()?.1.deadline)
    }

    /// Gives up a read that waited until `now`.
    pub(crate) fn expire(&mut self, now: u64) -> Option<Ticket> {
        self.next_expiry().filter(|deadline| *deadline <= now)?;
        Some(self.reads.pop_first()?.1.ticket)
    }

    /// Gives up every read.
    pub(crate) fn clear(&mut self) -> Vec<Ticket> {
        let reads = std::mem::take(&mut self.reads);
        reads.into_values().map(|waiting| waiting.ticket).collect()
    }
}
