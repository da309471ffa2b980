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

#[derive(Debug)]
struct Pending {
    purpose: Purpose,
    /// What is asked for again, and when it is given up.
    lasting: Option<(Read, u64)>,
}

/// What waits for its answer.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    pending: BTreeMap<u64, Pending>,
    last: u64,
    reads: usize,
}

impl Requests {
    /// A number for a request of this connection: where that ends first, nothing comes of it.
    pub(crate) fn once(&mut self, purpose: Purpose) -> RequestId {
        Some(self.add(purpose, None))
    }

    /// Asked for on each connection until it is answered; answers it with its number.
    ///
    /// # Errors
    /// [`Error::Busy`].
    pub(crate) fn lasting(
        &mut self,
        ticket: Ticket,
        read: Read,
        now: u64,
    ) -> Result<Command, Error> {
        if self.reads >= READS_MAX {
            return Err(Error::Busy);
        }
        self.reads += 1;
        let command = read.command(self.last + 1);
        self.add(Purpose::Read(ticket), Some((read, now + ANSWER_WITHIN_MS)));
        Ok(command)
    }

    fn add(&mut self, purpose: Purpose, lasting: Option<(Read, u64)>) -> u64 {
        self.last += 1;
        self.pending.insert(self.last, Pending { purpose, lasting });
        self.last
    }

    /// What the answer with this number is for.
    pub(crate) fn take(&mut self, i: u64) -> Option<Purpose> {
        let pending = self.pending.remove(&i)?;
        if pending.lasting.is_some() {
            self.reads -= 1;
        }
        Some(pending.purpose)
    }

    /// The connection ended: what belonged to it is forgotten.
    pub(crate) fn lost(&mut self) {
        self.pending.retain(|_, pending| pending.lasting.is_some());
    }

    /// What has to be asked for on a new connection, in order.
    pub(crate) fn unanswered(&self) -> Vec<Command> {
        let lasting = |(i, pending): (&u64, &Pending)| {
            let (read, _) = pending.lasting.as_ref()?;
            Some(read.command(*i))
        };
        self.pending.iter().filter_map(lasting).collect()
    }

    /// When the next one is given up.
    pub(crate) fn next_expiry(&self) -> Option<u64> {
        let lasting = self.pending.values().filter_map(|p| p.lasting.as_ref());
        lasting.map(|(_, deadline)| *deadline).min()
    }

    /// Gives up the reads that waited until `now`, or all of them.
    pub(crate) fn expire(&mut self, now: Option<u64>) -> Vec<Ticket> {
        let late = |pending: &Pending| match (&pending.lasting, now) {
            (Some((_, deadline)), Some(now)) => *deadline <= now,
            (Some(_), None) => true,
            (None, _) => false,
        };
        let late = self.pending.iter().filter(|(_, pending)| late(pending));
        let late: Vec<u64> = late.map(|(i, _)| *i).collect();
        let taken = late.into_iter().filter_map(|i| self.take(i));
        taken
            .filter_map(|purpose| match purpose {
                Purpose::Read(ticket) => Some(ticket),
                Purpose::Sub(_)
                | Purpose::Unsub(_)
                | Purpose::Pub(_)
                | Purpose::Auth
                | Purpose::Heal(_)
                | Purpose::Probe => None,
            })
            .collect()
    }
}
