//! What a client's program knows, over all its connections: what it reads and how far it came.
//! The duties of SPEC sections 5 to 7 are here, and the checker is told what the program saw.

use std::{collections::BTreeMap, sync::Arc};

use tidewire_check::{Client, Event, Item, Mode, Recovery};
use tidewire_protocol::{
    ChannelName, Epoch, Payload, Position,
    command::{self, Fallback, Sub},
    frame::{self, Publication, StateItem},
};

use super::world::World;

/// One channel the program wants to read.
#[derive(Debug, Clone)]
pub struct Wish {
    pub channel: ChannelName,
    pub mode: command::Mode,
    pub fallback: Fallback,
}

/// A subscription as the program knows it.
#[derive(Debug)]
struct Held {
    wish: Wish,
    /// The last position seen.
    cursor: Option<Position>,
    /// The last position acknowledged.
    acknowledged: Option<Position>,
    /// A snapshot was begun and is not whole: what is held is less than the cursor says.
    is_partial: bool,
    /// A connection serves again what another one gave: what is not above the cursor is dropped.
    overlaps: bool,
    /// What comes does not go on from the cursor: nothing is taken until the node answers from
    /// there.
    astray: bool,
}

impl Held {
    /// Whether a beginning is of another epoch than the cursor, or of no position though there is
    /// a cursor: an older connection gave it after this one had asked.
    fn was_overtaken(
        &self,
        asked: Option<&Position>,
        began: &Position,
        recovery: frame::Recovery,
    ) -> bool {
        let Some(cursor) = &self.cursor else {
            return false;
        };
        let is_other = |asked: &Position| asked == began && cursor.epoch != began.epoch;
        recovery != frame::Recovery::Reset && asked.is_none_or(is_other)
    }
}

/// The program.
#[derive(Debug)]
pub struct App {
    world: Arc<World>,
    pub client: Client,
    held: BTreeMap<ChannelName, Held>,
}

pub fn position(position: &Position) -> tidewire_check::Position {
    tidewire_check::Position::new(position.epoch.as_str(), position.offset)
}

/// The number in a publication's data.
pub fn body_of(publication: &Publication) -> Option<u64> {
    match &publication.payload {
        Some(Payload::Json(text)) => Some(std::str::from_utf8(text).unwrap().parse().unwrap()),
        Some(Payload::Bytes(_)) => None,
        None => None,
    }
}

impl App {
    pub fn new(world: &Arc<World>, client: Client) -> Self {
        Self {
            world: Arc::clone(world),
            client,
            held: BTreeMap::new(),
        }
    }

    pub fn wishes(&self) -> Vec<Wish> {
        self.held.values().map(|held| held.wish.clone()).collect()
    }

    pub fn reads(&self, channel: &ChannelName) -> bool {
        self.held.contains_key(channel)
    }

    /// Begins to read; with nothing in hand.
    pub fn ask(&mut self, wish: Wish) {
        let mode = match wish.mode {
            command::Mode::Every => Mode::Every,
            command::Mode::Latest => Mode::Latest,
        };
        self.world.feed(&Event::Asked {
            client: self.client,
            channel: self.world.channel(wish.channel.as_str()),
            mode,
            state: wish.fallback == Fallback::State,
        });
        let held = Held {
            cursor: None,
            acknowledged: None,
            is_partial: false,
            overlaps: false,
            astray: false,
            wish: wish.clone(),
        };
        self.held.insert(wish.channel, held);
    }

    /// Reads a channel no more.
    pub fn leave(&mut self, channel: &ChannelName) {
        if self.held.remove(channel).is_some() {
            self.world.feed(&Event::Left {
                client: self.client,
                channel: self.world.channel(channel.as_str()),
            });
        }
    }

    /// What to ask the node for one channel: its position wins, and says what the program holds.
    pub fn sub(&mut self, channel: &ChannelName, i: Option<u64>) -> Option<Sub> {
        let held = self.held.get_mut(channel)?;
        if held.cursor.is_some() {
            held.acknowledged.clone_from(&held.cursor);
        }
        Some(Sub {
            i,
            channel: channel.clone(),
            position: held.cursor.clone(),
            fallback: held.wish.fallback,
            mode: held.wish.mode,
            hz: None,
            me: None,
        })
    }

    /// Whether every channel it reads has begun.
    pub fn has_begun(&self) -> bool {
        self.held.values().all(|held| held.cursor.is_some())
    }

    /// Whether a snapshot has begun and is not whole.
    pub fn is_partial(&self) -> bool {
        self.held.values().any(|held| held.is_partial)
    }

    /// What to ask the node for at hello. A channel whose snapshot broke off starts over.
    pub fn subs(&mut self) -> Vec<Sub> {
        let channels: Vec<_> = self.held.keys().cloned().collect();
        for channel in &channels {
            self.begin_over(channel, false);
        }
        let sub = |channel| self.sub(channel, None);
        channels.iter().filter_map(sub).collect()
    }

    /// Lets a channel whose snapshot broke off start over.
    fn begin_over(&mut self, channel: &ChannelName, astray: bool) {
        let partial = self.held.get(channel).filter(|held| held.is_partial);
        let Some(wish) = partial.map(|held| held.wish.clone()) else {
            return;
        };
        self.world.saw("a snapshot that broke off");
        self.leave(channel);
        self.ask(wish);
        if let Some(held) = self.held.get_mut(channel) {
            held.astray = astray;
        }
    }

    /// The program has handled all it was given.
    pub fn acknowledge(&mut self) -> Vec<(ChannelName, Position)> {
        let mut handled = Vec::new();
        for (channel, held) in &mut self.held {
            if let Some(cursor) = &held.cursor {
                held.acknowledged = Some(cursor.clone());
                handled.push((channel.clone(), cursor.clone()));
            }
        }
        handled
    }

    /// The program loses its memory, but for what it handled.
    pub fn forget(&mut self) {
        for (channel, held) in &mut self.held {
            held.cursor = None;
            held.overlaps = false;
            let acknowledged = held.acknowledged.as_ref().map(position);
            self.world.feed(&Event::Forgot {
                client: self.client,
                channel: self.world.channel(channel.as_str()),
                acknowledged,
            });
        }
    }

    /// `ok` to a subscription that was asked for, after a position or not; none: nobody asked.
    /// False: it is to be asked for again.
    #[must_use]
    pub fn began(
        &mut self,
        channel: &ChannelName,
        began: &Position,
        recovery: frame::Recovery,
        asked: Option<Option<Position>>,
    ) -> bool {
        let Some(held) = self.held.get_mut(channel) else {
            return true;
        };
        if held.astray && asked.is_none() {
            return true;
        }
        let overtaken =
            |asked: &Option<Position>| held.was_overtaken(asked.as_ref(), began, recovery);
        held.astray = asked.as_ref().is_some_and(overtaken);
        if held.astray {
            self.world.saw("a connection overtaken by an older one");
            self.begin_over(channel, true);
            return false;
        }
        let asked = asked.flatten();
        held.overlaps = recovery == frame::Recovery::Full
            && asked.as_ref() == Some(began)
            && held.cursor.is_some()
            && held.cursor != asked;
        if held.overlaps {
            // An older connection gave more since this one asked.
            self.world.saw("two connections overlap");
            return true;
        }
        if recovery != frame::Recovery::Full || held.acknowledged.is_none() {
            // Nothing before this is owed to a program that loses its memory.
            held.acknowledged = Some(began.clone());
        }
        held.cursor = Some(began.clone());
        held.is_partial =
            recovery != frame::Recovery::Full && held.wish.fallback == Fallback::State;
        self.world.saw(match recovery {
            frame::Recovery::Full => "began full",
            frame::Recovery::Reset => "began with a reset",
            frame::Recovery::Fresh => "began fresh",
        });
        self.world.feed(&Event::Began {
            client: self.client,
            channel: self.world.channel(channel.as_str()),
            position: position(began),
            recovery: match recovery {
                frame::Recovery::Full => Recovery::Full,
                frame::Recovery::Reset => Recovery::Reset,
                frame::Recovery::Fresh => Recovery::Fresh,
            },
        });
        true
    }

    pub fn message(&mut self, channel: &ChannelName, publication: &Publication) {
        let offset = publication.offset;
        let number = self.world.channel(channel.as_str());
        let Some(held) = self.held.get_mut(channel) else {
            self.foreign(channel, publication);
            return;
        };
        if held.astray {
            return;
        }
        let Some(cursor) = &mut held.cursor else {
            self.foreign(channel, publication);
            return;
        };
        if held.overlaps && offset <= cursor.offset {
            return;
        }
        held.overlaps = false;
        cursor.offset = cursor.offset.max(offset);
        let at = tidewire_check::Position::new(cursor.epoch.as_str(), offset);
        self.world.feed(&Event::Message {
            client: self.client,
            channel: number,
            position: at,
            body: body_of(publication),
            key: publication
                .key
                .as_ref()
                .map(|key| self.world.key(key.as_str())),
        });
    }

    /// Something of a channel the program does not read, or before any `ok`.
    fn foreign(&self, channel: &ChannelName, publication: &Publication) {
        self.world.broken(format!(
            "client {} was given {} of {channel}, which it does not read",
            self.client.0, publication.offset
        ));
    }

    pub fn gap(&mut self, channel: &ChannelName, from: u64, to: u64) {
        let number = self.world.channel(channel.as_str());
        let Some(held) = self.followed(channel) else {
            return;
        };
        let Some(cursor) = &mut held.cursor else {
            return;
        };
        let mut begin = from;
        if held.overlaps {
            if to <= cursor.offset {
                return;
            }
            begin = cursor.offset + 1;
        }
        held.overlaps = false;
        cursor.offset = to;
        held.is_partial |= held.wish.fallback == Fallback::State;
        self.world.saw("a gap");
        self.world.feed(&Event::Gap {
            client: self.client,
            channel: number,
            from: begin,
            to,
        });
    }

    /// False: the channel is to be asked for again.
    #[must_use]
    pub fn rewind(&mut self, channel: &ChannelName, epoch: &Epoch, to: u64, lost: u64) -> bool {
        let number = self.world.channel(channel.as_str());
        let Some(held) = self.followed(channel) else {
            return true;
        };
        let Some(cursor) = &mut held.cursor else {
            return true;
        };
        if cursor.epoch == *epoch {
            self.world.saw("a rewind to the epoch held");
            return true;
        }
        if held.overlaps && cursor.offset.saturating_sub(to) > lost {
            // The node does not know what the older connection gave, nor what goes with it.
            held.overlaps = false;
            held.astray = true;
            self.world.saw("a rewind behind an older connection");
            self.begin_over(channel, true);
            return false;
        }
        held.overlaps = false;
        *cursor = Position {
            epoch: epoch.clone(),
            offset: to,
        };
        if let Some(acknowledged) = &mut held.acknowledged
            && acknowledged.offset > to
        {
            *acknowledged = cursor.clone();
        }
        held.is_partial |= lost > 0 && held.wish.fallback == Fallback::State;
        self.world.saw(if lost > 0 {
            "a rewind with loss"
        } else {
            "a boundary without loss"
        });
        self.world.feed(&Event::Rewind {
            client: self.client,
            channel: number,
            epoch: Arc::from(epoch.as_str()),
            to,
            lost,
        });
        true
    }

    pub fn page(&mut self, channel: &ChannelName, items: &[StateItem], more: bool) {
        let Some(held) = self.followed(channel) else {
            return;
        };
        held.is_partial &= more;
        let item = |item: &StateItem| {
            let offset = item.publication.offset;
            let key = item.publication.key.as_ref()?;
            Some(Item {
                position: tidewire_check::Position::new(item.epoch.as_str(), offset),
                key: self.world.key(key.as_str()),
                body: body_of(&item.publication),
            })
        };
        self.world.saw("a page of a snapshot");
        self.world.feed(&Event::Page {
            client: self.client,
            channel: self.world.channel(channel.as_str()),
            items: items.iter().filter_map(item).collect(),
            more,
        });
    }

    pub fn live(&mut self, channel: &ChannelName, offset: u64) {
        let number = self.world.channel(channel.as_str());
        let Some(held) = self.followed(channel) else {
            return;
        };
        if held.overlaps {
            // It has not come as far as the older connection: nothing is behind this.
            return;
        }
        self.world.feed(&Event::Live {
            client: self.client,
            channel: number,
            offset,
        });
    }

    /// A new connection speaks: whatever served again what was given is over.
    pub fn renew(&mut self) {
        for held in self.held.values_mut() {
            held.overlaps = false;
        }
    }

    /// A channel whose frames are taken.
    fn followed(&mut self, channel: &ChannelName) -> Option<&mut Held> {
        self.held.get_mut(channel).filter(|held| !held.astray)
    }
}
