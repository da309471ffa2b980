//! The channels of the session: who reads them, what hello carries, where the session stands.
//!
//! Owned by the engine: `subscribing` asks the node for them, `delivery` takes its frames. They
//! send nothing themselves.

use std::collections::BTreeMap;

use bytes::Bytes;
use tidewire_protocol::{
    ChannelName, Position,
    command::{Fallback, Mode, Sub},
};

use super::{Delivery, Effect, ReaderId, backoff::Timer, log::ChannelLog};
use crate::Event;

/// How a channel is to be read.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    /// Delivery begins after this position, where there is one.
    pub(crate) after: Option<Position>,
    pub(crate) fallback: Fallback,
    pub(crate) mode: Mode,
    pub(crate) hz: Option<u32>,
    pub(crate) me: Option<Bytes>,
}

/// One channel of the session.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) log: ChannelLog,
    pub(super) reader: Option<ReaderId>,
    pub(super) wish: Wish,
    /// When it was subscribed to first: hello names channels in this order.
    pub(super) order: u64,
    /// What the node was last asked for.
    pub(super) asked: Option<Sub>,
    pub(super) refused: bool,
    /// The reader does not take what it has: nothing is delivered until it does.
    pub(super) parked: bool,
    /// A refusal that passes is asked again when it fires.
    pub(super) retry: Timer,
    /// Nobody reads; unsubscribed when it fires.
    pub(super) leaving: Timer,
    /// A snapshot was begun and is not whole.
    pub(super) incomplete: bool,
    /// The rest of the snapshot is read by requests; due when it fires.
    pub(super) heal: Timer,
    pub(super) healing: bool,
    /// Of a state read beside the log, values above the cursor were left out up to this offset:
    /// until the cursor is there, a log that loses its end leaves the reader without either.
    pub(super) left_out: u64,
    /// Since when the node cannot vouch for it, and what of that the reader was told.
    pub(super) stale: Option<u64>,
    stale_told: Option<u64>,
    /// A reader took it over with a beginning of its own that was not answered yet.
    pub(super) anew: bool,
    pub(super) handled: Option<Position>,
    pub(super) acked: Option<Position>,
}

impl Channel {
    pub(super) fn new(reader: ReaderId, wish: Wish, order: u64) -> Self {
        Self {
            log: ChannelLog::new(wish.after.clone()),
            reader: Some(reader),
            wish,
            order,
            asked: None,
            refused: false,
            parked: false,
            retry: Timer::default(),
            leaving: Timer::default(),
            incomplete: false,
            heal: Timer::default(),
            healing: false,
            left_out: 0,
            stale: None,
            stale_told: None,
            anew: false,
            handled: None,
            acked: None,
        }
    }

    /// Whether the session should hold it. A parked member stays one.
    pub(super) fn wanted(&self) -> bool {
        let parked = self.parked && self.wish.me.is_none();
        self.is_read() && !self.refused && !parked
    }

    pub(super) fn is_read(&self) -> bool {
        self.reader.is_some() || self.leaving.running()
    }

    /// The subscription as it should be: from the cursor where there is one.
    pub(super) fn want(&self, channel: &ChannelName) -> Sub {
        Sub {
            i: None,
            channel: channel.clone(),
            position: self.log.cursor.clone(),
            fallback: self.wish.fallback,
            mode: self.wish.mode,
            hz: self.wish.hz,
            me: self.wish.me.clone(),
        }
    }

    /// The node was asked for another way of delivery than is wanted.
    pub(super) fn outdated(&self) -> bool {
        let differs = |asked: &Sub| {
            (asked.mode, asked.hz, &asked.me) != (self.wish.mode, self.wish.hz, &self.wish.me)
        };
        self.asked.as_ref().is_some_and(differs)
    }

    pub(super) fn opening(&mut self, asked: Sub) {
        let epoch = asked
            .position
            .as_ref()
            .map(|position| position.epoch.clone());
        self.log.opening(asked.mode, epoch);
        self.asked = Some(asked);
        if self.parked {
            self.hold();
        }
    }

    /// Takes nothing, and keeps its place.
    pub(super) fn hold(&mut self) {
        self.log.close(self.log.cursor.clone());
        self.asked = None;
        self.healing = false;
        self.heal.stop();
    }

    /// Another reader takes the channel. One without a beginning of its own goes on where it is.
    pub(super) fn adopt(&mut self, reader: ReaderId, wish: Wish) {
        self.reader = Some(reader);
        self.leaving.stop();
        self.refused = false;
        self.parked = false;
        let begins = wish.after.is_some() || wish.fallback != Fallback::Now;
        if begins || self.incomplete {
            self.ask_again(wish.after.clone());
            self.anew = true;
        }
        self.stale_told = None;
        (self.handled, self.acked) = (None, self.log.cursor.clone());
        self.wish = wish;
    }

    /// The node is asked again, from `cursor`; until it answers, nothing is taken.
    pub(super) fn ask_again(&mut self, cursor: Option<Position>) {
        self.log.close(cursor);
        self.asked = None;
        self.incomplete = false;
        self.healing = false;
        self.heal.stop();
    }

    /// Where the reader stands after what it was given last.
    fn position(&self) -> Option<Position> {
        self.log.cursor.clone().filter(|_| !self.incomplete)
    }

    /// What the reader is to be told of staleness; one that has enough to do is told later.
    pub(super) fn tell_stale(&mut self) -> Option<Effect> {
        if self.parked || self.stale == self.stale_told {
            return None;
        }
        self.stale_told = self.stale;
        self.delivery(Event::Stale(self.stale))
    }

    pub(super) fn delivery(&self, event: Event) -> Option<Effect> {
        let delivery = Delivery {
            event,
            position: self.position(),
        };
        self.reader.map(|reader| Effect::Deliver(reader, delivery))
    }
}

/// All channels, by name.
#[derive(Debug, Default)]
pub(super) struct Channels {
    pub(super) by_name: BTreeMap<ChannelName, Channel>,
    pub(super) readers: BTreeMap<ReaderId, ChannelName>,
    pub(super) orders: u64,
}

impl Channels {
    pub(super) fn get(&mut self, channel: &ChannelName) -> Option<&mut Channel> {
        self.by_name.get_mut(channel)
    }

    pub(super) fn deadline(&self) -> Option<u64> {
        let timers = |channel: &Channel| [channel.retry.due, channel.leaving.due, channel.heal.due];
        let all = self.by_name.values().flat_map(timers);
        all.flatten().min()
    }

    /// The subscriptions for a hello; asked for by it where it may be followed at once.
    pub(super) fn hello(&mut self, pipelined: bool) -> Vec<Sub> {
        let wanted = self
            .by_name
            .iter_mut()
            .filter(|(_, channel)| channel.wanted());
        let mut wanted: Vec<_> = wanted.collect();
        wanted.sort_by_key(|(_, channel)| channel.order);
        let ask = |(name, channel): (&ChannelName, &mut Channel)| {
            let sub = channel.want(name);
            if pipelined {
                channel.opening(sub.clone());
            }
            sub
        };
        wanted.into_iter().map(ask).collect()
    }

    /// The connection is lost. Channels nobody reads go with it.
    pub(super) fn down(&mut self) {
        for channel in self.by_name.values_mut() {
            channel.log.lost();
            channel.asked = None;
            channel.heal.stop();
        }
        self.by_name.retain(|_, channel| channel.is_read());
    }

    /// Nothing is due any more.
    pub(super) fn stop(&mut self) {
        for channel in self.by_name.values_mut() {
            channel.retry.stop();
            channel.leaving.stop();
            channel.heal.stop();
        }
    }

    /// A token with other rights: what was refused is asked for again.
    pub(super) fn renewed(&mut self) {
        for channel in self.by_name.values_mut() {
            channel.refused = false;
        }
    }

    /// The node has ended the subscription.
    pub(super) fn gone(&mut self, name: &ChannelName) {
        if self
            .by_name
            .get(name)
            .is_some_and(|channel| !channel.is_read())
        {
            self.by_name.remove(name);
        }
    }

    /// Positions handled since the last call.
    pub(super) fn acks(&mut self) -> Vec<(ChannelName, Position)> {
        let mut acks = Vec::new();
        for (name, channel) in &mut self.by_name {
            if channel.handled != channel.acked
                && let Some(handled) = &channel.handled
            {
                acks.push((name.clone(), handled.clone()));
                channel.acked = Some(handled.clone());
            }
        }
        acks
    }

    /// Some reader has not handled all it was given.
    pub(super) fn behind(&self) -> bool {
        let behind = |channel: &Channel| channel.handled != channel.position();
        self.by_name
            .values()
            .any(|channel| channel.reader.is_some() && behind(channel))
    }
}
