//! The channels of the session: who reads them, what the node is asked for, what hello carries,
//! where the session stands.
//!
//! Part of the engine; what frames do to a channel is in `delivery`. It never opens a connection.

use std::collections::BTreeMap;

use bytes::Bytes;
use tidewire_protocol::{
    ChannelName, Command, Position,
    command::{Fallback, Mode, Sub},
    limits::SUBSCRIPTIONS_MAX,
};

use super::{
    Delivery, Effect, Engine, Now, ReaderId,
    backoff::Timer,
    log::{ChannelLog, Phase},
    requests::Purpose,
};
use crate::{Error, Event};

/// After its reader left, a channel is kept so long, ms: a program that subscribes again at once
/// finds it as it was.
const LINGER_MS: u64 = 2_000;

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
    order: u64,
    /// What the node was last asked for.
    pub(super) asked: Option<Sub>,
    pub(super) refused: bool,
    /// The reader does not take what it has: nothing is delivered until it does.
    parked: bool,
    /// A refusal that passes is asked again when it fires.
    pub(super) retry: Timer,
    /// Nobody reads; unsubscribed when it fires.
    leaving: Timer,
    /// A snapshot was begun and is not whole.
    pub(super) incomplete: bool,
    /// The rest of the snapshot is read by requests; due when it fires.
    pub(super) heal: Timer,
    pub(super) healing: bool,
    pub(super) stale: bool,
    handled: Option<Position>,
    pub(super) acked: Option<Position>,
}

impl Channel {
    fn new(reader: ReaderId, wish: Wish, order: u64) -> Self {
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
            stale: false,
            handled: None,
            acked: None,
        }
    }

    fn wanted(&self) -> bool {
        let read = self.reader.is_some() || self.leaving.running();
        read && !self.refused && !self.parked
    }

    /// The subscription as it should be: from the cursor where there is one.
    fn want(&self, channel: &ChannelName) -> Sub {
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
    fn outdated(&self) -> bool {
        let differs = |asked: &Sub| {
            (asked.mode, asked.hz, &asked.me) != (self.wish.mode, self.wish.hz, &self.wish.me)
        };
        self.asked.as_ref().is_some_and(differs)
    }

    fn opening(&mut self, asked: Sub) {
        let epoch = asked
            .position
            .as_ref()
            .map(|position| position.epoch.clone());
        self.log.opening(asked.mode, epoch);
        self.asked = Some(asked);
    }

    /// Another reader takes the channel. One without a beginning of its own goes on where it is.
    fn adopt(&mut self, reader: ReaderId, wish: Wish) {
        self.reader = Some(reader);
        self.leaving.stop();
        self.refused = false;
        self.parked = false;
        let begins = wish.after.is_some() || wish.fallback != Fallback::Now;
        if begins || self.incomplete {
            self.ask_again(wish.after.clone());
        }
        (self.handled, self.acked) = (None, None);
        self.wish = wish;
    }

    /// The node is asked again, from `cursor`; until it answers, nothing is taken.
    fn ask_again(&mut self, cursor: Option<Position>) {
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
    by_name: BTreeMap<ChannelName, Channel>,
    readers: BTreeMap<ReaderId, ChannelName>,
    orders: u64,
    /// What has to be told to readers, found where no effect could be made.
    told: Vec<Effect>,
}

impl Channels {
    pub(super) fn get(&mut self, channel: &ChannelName) -> Option<&mut Channel> {
        self.by_name.get_mut(channel)
    }

    pub(super) fn all(&mut self) -> impl Iterator<Item = &mut Channel> {
        self.by_name.values_mut()
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
        let read = |channel: &Channel| channel.reader.is_some() || channel.leaving.running();
        self.by_name.retain(|_, channel| read(channel));
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
        let unread = |channel: &Channel| channel.reader.is_none() && !channel.leaving.running();
        if self.by_name.get(name).is_some_and(unread) {
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

/// What the application asks of channels.
impl Engine {
    /// Begins to read a channel.
    ///
    /// # Errors
    /// It is read already, the session holds as many as it may, or the client is over.
    pub(crate) fn subscribe(
        &mut self,
        reader: ReaderId,
        name: ChannelName,
        wish: Wish,
        now: Now,
    ) -> Result<(), Error> {
        if let Some(error) = &self.over {
            return Err(error.clone());
        }
        let channels = &mut self.channels;
        let held = channels.by_name.len();
        match channels.by_name.get_mut(&name) {
            Some(channel) if channel.reader.is_some() => return Err(Error::Subscribed),
            Some(channel) => {
                channel.adopt(reader, wish);
                let cursor = channel.log.cursor.clone();
                let open = matches!(channel.log.phase, Phase::Replaying | Phase::Live);
                if let Some(cursor) = cursor.filter(|_| open) {
                    channels.told.extend(channel.delivery(Event::Fresh(cursor)));
                }
            }
            None if held >= SUBSCRIPTIONS_MAX => {
                return Err(Error::TooManySubscriptions(SUBSCRIPTIONS_MAX));
            }
            None => {
                channels.orders += 1;
                let channel = Channel::new(reader, wish, channels.orders);
                channels.by_name.insert(name.clone(), channel);
            }
        }
        channels.readers.insert(reader, name);
        for effect in std::mem::take(&mut self.channels.told) {
            self.effect(effect);
        }
        self.ask_due(now);
        Ok(())
    }

    /// The reader is gone; after a linger the channel is left.
    pub(crate) fn unsubscribe(&mut self, reader: ReaderId, now: Now) {
        let Some(channel) = self.read_by(reader) else {
            return;
        };
        channel.reader = None;
        channel.parked = false;
        channel.leaving.start(now.ms + LINGER_MS);
        self.channels.readers.remove(&reader);
        if self.over.is_some() {
            self.channels.stop();
        }
        self.ask_due(now);
    }

    /// Another way of delivery, from where the channel is.
    pub(crate) fn change(&mut self, reader: ReaderId, mode: Mode, hz: Option<u32>, now: Now) {
        if let Some(channel) = self.read_by(reader) {
            (channel.wish.mode, channel.wish.hz) = (mode, hz);
            self.ask_due(now);
        }
    }

    /// The application has handled everything up to there.
    pub(crate) fn handled(&mut self, reader: ReaderId, position: Position, now: Now) {
        let Some(channel) = self.read_by(reader) else {
            return;
        };
        if channel.handled.as_ref() != Some(&position) {
            channel.handled = Some(position);
            self.beat(now);
        }
    }

    /// The reader does not take what it has: the channel waits at its cursor, and holds up no
    /// other. `unpark` lets it go on.
    pub(crate) fn park(&mut self, reader: ReaderId) {
        let Some(name) = self.channels.readers.get(&reader).cloned() else {
            return;
        };
        let Some(channel) = self.channels.get(&name) else {
            return;
        };
        channel.parked = true;
        let asked = channel.asked.take().is_some();
        let cursor = channel.log.cursor.clone();
        channel.healing |= channel.incomplete;
        channel.log.close(cursor);
        channel.heal.stop();
        if asked && self.link.writable() {
            let i = self.requests.once(Purpose::Unsub(name.clone()));
            self.send(Command::Unsub { i, channel: name });
        }
    }

    pub(crate) fn unpark(&mut self, reader: ReaderId, now: Now) {
        if let Some(channel) = self.read_by(reader) {
            channel.parked = false;
            self.ask_due(now);
        }
    }

    fn read_by(&mut self, reader: ReaderId) -> Option<&mut Channel> {
        let name = self.channels.readers.get(&reader)?;
        self.channels.by_name.get_mut(name)
    }
}

/// Asking the node.
impl Engine {
    /// A connection took over: what changed since its hello is told.
    pub(super) fn up(&mut self, announced: &[Sub], pipelined: bool) {
        for channel in self.channels.by_name.values_mut() {
            if std::mem::take(&mut channel.stale) {
                self.channels
                    .told
                    .extend(channel.delivery(Event::Stale(None)));
            }
        }
        for effect in std::mem::take(&mut self.channels.told) {
            self.effect(effect);
        }
        if pipelined {
            return;
        }
        for asked in announced {
            match self.channels.by_name.get_mut(&asked.channel) {
                Some(channel) if channel.wanted() => channel.opening(asked.clone()),
                Some(_) | None => self.send(Command::Unsub {
                    i: None,
                    channel: asked.channel.clone(),
                }),
            }
        }
    }

    /// Asks for every channel that is not asked for as it should be. Called after every input.
    pub(super) fn ask_due(&mut self, _now: Now) {
        if !self.link.writable() {
            return;
        }
        let due = |channel: &Channel| {
            let asked = channel.asked.is_some() && !channel.outdated();
            channel.wanted()
                && !asked
                && !channel.retry.running()
                && channel.log.phase != Phase::Opening
        };
        let due = self
            .channels
            .by_name
            .iter()
            .filter(|(_, channel)| due(channel));
        let mut due: Vec<_> = due
            .map(|(name, channel)| (channel.order, name.clone()))
            .collect();
        due.sort();
        for (_, name) in due {
            let Some(channel) = self.channels.by_name.get_mut(&name) else {
                continue;
            };
            let mut sub = channel.want(&name);
            channel.opening(sub.clone());
            sub.i = self.requests.once(Purpose::Sub(name));
            self.send(Command::Sub(sub));
        }
    }

    pub(super) fn channels_time(&mut self, now: Now) {
        let mut left = Vec::new();
        let mut heal = Vec::new();
        for (name, channel) in &mut self.channels.by_name {
            // Whether it was due is all there is to know: `ask_due` follows.
            channel.retry.fires(now.ms);
            if channel.leaving.fires(now.ms) {
                left.push(name.clone());
            }
            if channel.heal.fires(now.ms) {
                heal.push(name.clone());
            }
        }
        for name in left {
            self.leave_channel(&name);
        }
        for name in heal {
            self.read_state(&name, 0);
        }
    }

    fn leave_channel(&mut self, name: &ChannelName) {
        let Some(channel) = self.channels.by_name.get_mut(name) else {
            return;
        };
        let held = channel.asked.is_some();
        channel.ask_again(None);
        channel.retry.stop();
        if held && self.link.writable() {
            let i = self.requests.once(Purpose::Unsub(name.clone()));
            let channel = name.clone();
            self.send(Command::Unsub { i, channel });
        } else {
            self.channels.gone(name);
        }
    }
}
