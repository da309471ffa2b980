//! What a simulated client asks of its channels besides its hello: again after a refusal, and anew.

use tidewire_protocol::{ChannelName, Command, Position, frame::Recovery};
use tokio::time::Instant;

use super::{SimClient, publishing::ANSWER_MAX};

impl SimClient {
    /// `ok` to a subscription.
    pub(super) fn began(
        &mut self,
        (i, channel): (Option<u64>, ChannelName),
        position: &Position,
        recovery: Recovery,
        asked: Option<Option<Position>>,
    ) {
        if let Some(i) = i {
            self.subs.remove(&i);
        }
        self.owed.remove(&channel);
        if !self.app.began(&channel, position, recovery, asked) {
            self.owed.insert(channel, Instant::now());
        }
        if let Some(credentials) = &mut *self.session.lock() {
            credentials.is_unsettled = !self.app.has_begun();
        }
    }

    pub(super) fn is_leaving(&self, channel: &ChannelName) -> bool {
        self.leaving.values().any(|leaving| leaving == channel)
    }

    pub(super) fn owe(&mut self, channel: ChannelName) {
        let wait = self.world.millis(50, 400);
        if self.app.reads(&channel) {
            self.owed.insert(channel, Instant::now() + wait);
        }
    }

    pub(super) fn subscribe(&mut self, channel: &ChannelName) {
        self.next_i += 1;
        let i = self.next_i;
        let Some(sub) = self.app.sub(channel, Some(i)) else {
            self.owed.remove(channel);
            return;
        };
        self.owed
            .insert(channel.clone(), Instant::now() + ANSWER_MAX);
        self.subs.insert(i, channel.clone());
        if let Some(line) = self.lines.back_mut() {
            let asked = (channel.clone(), Some(i));
            line.asked.insert(asked, sub.position.clone());
            line.wire.send(&[Command::Sub(sub)]);
        }
    }

    /// Ends a subscription and begins it anew, in one breath.
    pub(super) fn again(&mut self, channel: &ChannelName) {
        let wishes = self.app.wishes();
        let wish = wishes.into_iter().find(|wish| wish.channel == *channel);
        let Some(wish) = wish.filter(|_| self.is_open()) else {
            return;
        };
        self.next_i += 1;
        self.leaving.insert(self.next_i, channel.clone());
        let i = Some(self.next_i);
        if let Some(line) = self.lines.back_mut() {
            line.asked.retain(|(asked, _), _| asked != channel);
            let channel = channel.clone();
            line.wire.send(&[Command::Unsub { i, channel }]);
        }
        self.world.saw("unsub and sub in one breath");
        self.app.leave(channel);
        self.app.ask(wish);
        self.subscribe(channel);
    }
}
