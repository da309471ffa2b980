//! Subscribing: what the application asks of channels, and what of that the node is asked for.
//!
//! Part of the engine. It never takes a frame and never opens a connection.

use tidewire_protocol::{
    ChannelName, Command, Position,
    command::{Mode, Sub},
    limits::SUBSCRIPTIONS_MAX,
};

use super::{
    Engine, Now, ReaderId,
    channels::{Channel, Wish},
    log::Phase,
    requests::Purpose,
};
use crate::{Error, Event};

/// After its reader left, a channel is kept so long, ms: a program that subscribes again at once
/// finds it as it was.
const LINGER_MS: u64 = 2_000;

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
    ) -> Result<(), Error> {
        if let Some(error) = &self.over {
            return Err(error.clone());
        }
        let channels = &mut self.channels;
        let held = channels.by_name.len();
        let mut told = None;
        match channels.by_name.get_mut(&name) {
            Some(channel) if channel.reader.is_some() => return Err(Error::Subscribed),
            Some(channel) => {
                channel.adopt(reader, wish);
                let cursor = channel.log.cursor.clone();
                let open = matches!(channel.log.phase, Phase::Replaying | Phase::Live);
                let begins = cursor.filter(|_| open).map(Event::Fresh);
                told = begins.and_then(|event| channel.delivery(event));
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
        told.into_iter().for_each(|effect| self.effect(effect));
        self.ask_due();
        Ok(())
    }

    /// The reader is gone; after a linger the channel is left.
    pub(crate) fn unsubscribe(&mut self, reader: ReaderId, now: Now) {
        let Some(channel) = self.read_by(reader) else {
            return;
        };
        channel.reader = None;
        channel.leaving.start(now.ms + LINGER_MS);
        self.channels.readers.remove(&reader);
        if self.over.is_some() {
            self.channels.stop();
        }
        self.ask_due();
    }

    /// Another way of delivery, from where the channel is.
    pub(crate) fn change(&mut self, reader: ReaderId, mode: Mode, hz: Option<u32>) {
        if let Some(channel) = self.read_by(reader) {
            (channel.wish.mode, channel.wish.hz) = (mode, hz);
            self.ask_due();
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
    /// other, until `unpark`. It is unsubscribed meanwhile; for a member of its presence, who
    /// would be seen to leave, what comes is dropped instead.
    pub(crate) fn park(&mut self, reader: ReaderId) {
        let Some(name) = self.channels.readers.get(&reader).cloned() else {
            return;
        };
        let Some(channel) = self.channels.get(&name) else {
            return;
        };
        channel.parked = true;
        let asked = channel.asked.is_some();
        channel.hold();
        let leaves = asked && !channel.wanted();
        if leaves && self.link.writable() {
            let i = self.requests.once(Purpose::Unsub(name.clone()));
            self.send(Command::Unsub { i, channel: name });
        }
    }

    pub(crate) fn unpark(&mut self, reader: ReaderId) {
        if let Some(channel) = self.read_by(reader) {
            channel.parked = false;
            let told = channel.tell_stale();
            told.into_iter().for_each(|effect| self.effect(effect));
            self.ask_due();
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
        let channels = self.channels.by_name.values_mut();
        let told = channels.filter_map(|channel| {
            channel.stale = None;
            channel.tell_stale()
        });
        let told: Vec<_> = told.collect();
        told.into_iter().for_each(|effect| self.effect(effect));
        if pipelined {
            return;
        }
        for asked in announced {
            match self.channels.by_name.get_mut(&asked.channel) {
                Some(channel) if channel.wanted() => {
                    channel.opening(asked.clone());
                    if channel.anew {
                        // The answer to what the hello asked is not what its reader waits for.
                        channel.hold();
                    }
                }
                Some(_) | None => self.send(Command::Unsub {
                    i: None,
                    channel: asked.channel.clone(),
                }),
            }
        }
    }

    /// Asks for every channel that is not asked for as it should be. Called after every input.
    pub(super) fn ask_due(&mut self) {
        if !self.link.writable() {
            return;
        }
        let due = |channel: &Channel| {
            let asked = channel.asked.is_some() && !channel.outdated();
            channel.wanted()
                && !channel.parked
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
        let held = channel.asked.is_some() || (channel.parked && channel.wanted());
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
