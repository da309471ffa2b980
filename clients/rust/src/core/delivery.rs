//! What frames do to a channel, and what its reader is told.
//!
//! Part of the engine. A state that is not whole is made whole here: by the pages the node sends,
//! or by reading it beside the living log where it sends none.

use std::sync::Arc;

use tidewire_protocol::{
    ChannelName, Command, Epoch, Position, Publication,
    command::Fallback,
    frame::{Recovery, StateItem},
};

use super::{
    Engine, Now, RawItems, RawPage,
    answers::Refusal,
    channels::Channel,
    log::{ChannelLog, Step},
    requests::Purpose,
};
use crate::{
    Event,
    event::{GapReason, Message},
};

/// Times that a state is read anew because publications overtook it: where they always do, each
/// key comes soon.
const OLDER_PAGES_MAX: u32 = 3;

impl Engine {
    pub(super) fn begun(
        &mut self,
        name: &ChannelName,
        position: Position,
        recovery: Recovery,
        now: Now,
    ) {
        let step = self.feed(name, now, |log| log.begun(position.clone(), recovery));
        let begun = matches!(step, Step::Begun { .. });
        let Some(channel) = self.channels.get(name).filter(|_| begun) else {
            return;
        };
        channel.anew = false;
        channel.retry.failures = 0;
        let state = channel.wish.fallback == Fallback::State;
        let anew = recovery != Recovery::Full;
        if anew {
            channel.incomplete = state;
            channel.healing = false;
            channel.left_out = 0;
            channel.acked = Some(position.clone());
        }
        // A state that was begun on an earlier connection does not come by itself.
        let read = channel.incomplete && !anew;
        let event = match recovery {
            Recovery::Full => None,
            Recovery::Fresh => Some(Event::Fresh(position)),
            Recovery::Reset => Some(Event::Reset(position)),
        };
        self.tell(name, event, now);
        if read {
            self.read_state(name, 0);
        }
    }

    pub(super) fn message(&mut self, name: &ChannelName, publication: Arc<Publication>, now: Now) {
        let offset = publication.offset;
        let step = self.feed(name, now, |log| log.message(offset));
        let Step::Deliver { replayed, skipped } = step else {
            return;
        };
        let cursor = self
            .channels
            .get(name)
            .and_then(|channel| channel.log.cursor.clone());
        let message = cursor.map(|cursor| {
            Event::Message(Message {
                epoch: cursor.epoch,
                publication,
                replayed,
                skipped,
            })
        });
        self.tell(name, message, now);
    }

    pub(super) fn snapshot(&mut self, name: &ChannelName, items: Vec<StateItem>, more: bool) {
        let Some(channel) = self.channels.get(name) else {
            return;
        };
        // A rewind brings one to a channel that is live.
        if !channel.log.is_open() {
            return;
        }
        channel.incomplete = more;
        let told = channel.delivery(Event::State { items, more });
        if let Some(effect) = told {
            self.effect(effect);
        }
    }

    pub(super) fn live(&mut self, name: &ChannelName, offset: u64, now: Now) {
        let step = self.feed(name, now, |log| log.live(offset));
        let Step::Live { recovery, replayed } = step else {
            return;
        };
        let Some(channel) = self.channels.get(name) else {
            return;
        };
        // Where the node sends no state there is none to wait for.
        channel.incomplete &= channel.healing;
        let position = channel.log.cursor.clone();
        let event = position.map(|position| Event::Live {
            position,
            recovery,
            replayed,
        });
        self.tell(name, event, now);
    }

    pub(super) fn gap(
        &mut self,
        name: &ChannelName,
        from: u64,
        to: u64,
        reason: GapReason,
        now: Now,
    ) {
        let step = self.feed(name, now, |log| log.gap(from, to, reason));
        if let Step::Gap { from, to, reason } = step {
            self.tell_gap(name, from, to, reason, now);
        }
    }

    pub(super) fn rewind(
        &mut self,
        name: &ChannelName,
        epoch: &Epoch,
        to: u64,
        lost: u64,
        now: Now,
    ) {
        let step = self.feed(name, now, |log| log.rewind(epoch, to, lost));
        if step != Step::Rewind {
            return;
        }
        let epoch = epoch.clone();
        let read = self.channels.get(name).is_some_and(|channel| {
            let state = channel.wish.fallback == Fallback::State;
            // What the node left out of its snapshots it sends anew, as where something was lost.
            let read = state && (channel.incomplete || to < channel.left_out);
            channel.incomplete |= state && (read || lost > 0);
            channel.left_out = 0;
            read
        });
        self.tell(name, Some(Event::Rewind { epoch, to, lost }), now);
        if read {
            self.read_state(name, 0);
        }
    }

    pub(super) fn stale(&mut self, name: Option<&ChannelName>, since: u64) {
        let since = (since > 0).then_some(since);
        let concerned =
            |(channel, _): &(&ChannelName, &mut Channel)| name.is_none_or(|name| name == *channel);
        let channels = self.channels.by_name.iter_mut().filter(concerned);
        let told = channels.filter_map(|(_, channel)| {
            channel.stale = since;
            channel.tell_stale()
        });
        let told: Vec<_> = told.collect();
        told.into_iter().for_each(|effect| self.effect(effect));
    }

    pub(super) fn refused(&mut self, name: &ChannelName, refusal: Refusal, now: Now) {
        let random = self.random();
        let Some(channel) = self.channels.get(name) else {
            return;
        };
        if !channel.log.refused() {
            return;
        }
        channel.asked = None;
        if let Some(retry_ms) = refusal.passes() {
            channel.retry.again(now.ms, random, retry_ms);
            return;
        }
        channel.refused = true;
        let Refusal { code, text, .. } = refusal;
        self.tell(name, Some(Event::Refused { code, text }), now);
    }

    /// Lets the log take a frame; what it says about missing publications is done here.
    fn feed(
        &mut self,
        name: &ChannelName,
        now: Now,
        mut take: impl FnMut(&mut ChannelLog) -> Step,
    ) -> Step {
        let Some(channel) = self.channels.get(name) else {
            return Step::Nothing;
        };
        match take(&mut channel.log) {
            Step::Hole => {
                channel.asked = None;
                Step::Nothing
            }
            Step::Gap {
                from,
                to,
                reason: GapReason::Missing,
            } => {
                self.tell_gap(name, from, to, GapReason::Missing, now);
                let channel = self.channels.get(name);
                channel.map_or(Step::Nothing, |channel| take(&mut channel.log))
            }
            step @ (Step::Nothing
            | Step::Begun { .. }
            | Step::Deliver { .. }
            | Step::Gap { .. }
            | Step::Rewind
            | Step::Live { .. }) => step,
        }
    }

    fn tell_gap(&mut self, name: &ChannelName, from: u64, to: u64, reason: GapReason, now: Now) {
        let Some(channel) = self.channels.get(name) else {
            return;
        };
        let state = channel.wish.fallback == Fallback::State;
        channel.incomplete |= state;
        // Of a gap of its own the node sends the state that heals it.
        let told = reason != GapReason::Missing;
        self.tell(name, Some(Event::Gap { from, to, reason }), now);
        if state && !told {
            self.read_state(name, 0);
        }
    }

    fn tell(&mut self, name: &ChannelName, event: Option<Event>, now: Now) {
        let channel = self.channels.get(name);
        let told = channel
            .zip(event)
            .and_then(|(channel, event)| channel.delivery(event));
        if let Some(effect) = told {
            self.effect(effect);
            self.beat(now);
        }
    }
}

/// Reading a state that does not come by itself.
impl Engine {
    /// Asks for the page of the state from this offset on.
    pub(super) fn read_state(&mut self, name: &ChannelName, from: u64) {
        if let Some(channel) = self.channels.get(name) {
            channel.healing = true;
            channel.heal.stop();
        }
        if self.link.writable() {
            let i = self.requests.once(Purpose::Heal(name.clone()));
            let channel = name.clone();
            self.send(Command::State { i, channel, from });
        }
    }

    pub(super) fn heal_page(&mut self, name: &ChannelName, page: RawPage, now: Now) {
        let random = self.random();
        let Some(channel) = self.channels.get(name).filter(|channel| channel.healing) else {
            return;
        };
        let cursor = channel.log.cursor.as_ref();
        let Some(cut) = cursor.filter(|cursor| cursor.epoch == page.head.epoch) else {
            // The log began another life meanwhile; a frame on its way says so.
            channel.heal.again(now.ms, random, 0);
            return;
        };
        let cut = cut.offset;
        if page.head.offset < cut && channel.heal.failures < OLDER_PAGES_MAX {
            // What it leaves out may have been set since: only a page of all up to here tells.
            channel.heal.failures += 1;
            return self.read_state(name, 0);
        }
        let mut items = match page.items {
            RawItems::State(items) => items,
            RawItems::History(_) => Vec::new(),
        };
        // As in a snapshot of the node: what lies above the cursor comes as a publication.
        let more = page.more
            && items
                .last()
                .is_none_or(|item| item.publication.offset <= cut);
        items.retain(|item| item.publication.offset <= cut);
        channel.left_out = channel.left_out.max(page.head.offset);
        let next = items.last().map(|item| item.publication.offset + 1);
        let next = next.filter(|_| more);
        if next.is_none() {
            channel.healing = false;
            channel.incomplete = false;
            channel.heal.failures = 0;
        }
        let more = next.is_some();
        self.tell(name, Some(Event::State { items, more }), now);
        if let Some(from) = next {
            self.read_state(name, from);
        }
    }

    pub(super) fn heal_failed(&mut self, name: &ChannelName, refusal: &Refusal, now: Now) {
        let random = self.random();
        let Some(channel) = self.channels.get(name).filter(|channel| channel.healing) else {
            return;
        };
        if let Some(retry_ms) = refusal.passes() {
            channel.heal.again(now.ms, random, retry_ms);
        } else {
            // There is no state to be had, so nothing of it is missing.
            channel.healing = false;
            channel.incomplete = false;
        }
    }
}
