//! A channel's keyed state, kept up to date by the events of its subscription.
//!
//! [`State`] is the pure part, [`View`] puts it on a subscription. It never asks the node for
//! anything: the core makes a state whole.

use std::{collections::BTreeMap, sync::Arc};

use tidewire_protocol::{Epoch, Name, Publication, command::Mode, frame::StateItem};

use crate::{Client, Error, Event, Options, Start, Subscription};

/// How far what is shown can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// It may be old: catching up, or a snapshot is not whole yet.
    CatchingUp,
    /// It is what the node knows.
    Live,
    /// The node cannot reach its broker since this Unix ms of the broker's clock.
    Stale(u64),
}

/// The newest publication of each key.
#[derive(Debug, Default)]
struct Keys {
    held: BTreeMap<Option<Name>, StateItem>,
    /// Offsets of removals that an older page of the snapshot must not undo.
    removed: BTreeMap<Option<Name>, u64>,
    whole: bool,
}

impl Keys {
    fn apply(&mut self, epoch: &Epoch, publication: &Arc<Publication>) {
        let key = publication.key.clone();
        let held = self.held.get(&key).map(|item| item.publication.offset);
        let newest = held.or_else(|| self.removed.get(&key).copied());
        if newest.is_some_and(|newest| publication.offset <= newest) {
            return;
        }
        if publication.deleted {
            if !self.whole {
                self.removed.insert(key.clone(), publication.offset);
            }
            self.held.remove(&key);
        } else {
            self.removed.remove(&key);
            let epoch = epoch.clone();
            let publication = Arc::clone(publication);
            self.held.insert(key, StateItem { epoch, publication });
        }
    }

    fn page(&mut self, items: &[StateItem], more: bool) {
        for item in items {
            self.apply(&item.epoch, &item.publication);
        }
        if !more {
            self.whole = true;
            self.removed.clear();
        }
    }
}

/// Folds events into the state they tell of.
#[derive(Debug, Default)]
pub(crate) struct State {
    shown: Keys,
    /// The snapshot that is coming: what is shown stays as it last was whole.
    coming: Option<Keys>,
    live: bool,
    stale: Option<u64>,
    conflated: u64,
}

impl State {
    pub(crate) fn take(&mut self, event: &Event) {
        match event {
            Event::Fresh(_) | Event::Reset(_) => {
                self.coming = Some(Keys::default());
                self.live = false;
            }
            Event::State { items, more } => {
                let keys = self.coming.as_mut().unwrap_or(&mut self.shown);
                keys.page(items, *more);
                if !more && let Some(whole) = self.coming.take() {
                    self.shown = whole;
                }
            }
            Event::Message(message) => {
                self.conflated += message.skipped;
                let keys = self.coming.as_mut().unwrap_or(&mut self.shown);
                keys.apply(&message.epoch, &message.publication);
            }
            Event::Live { .. } => self.live = true,
            Event::Gap { .. } => self.broken(),
            Event::Rewind { to, lost, .. } => {
                if *lost > 0 {
                    let keys = self.coming.as_mut().unwrap_or(&mut self.shown);
                    keys.held.retain(|_, item| item.publication.offset <= *to);
                    keys.removed.clear();
                    self.broken();
                }
            }
            Event::Stale(since) => self.stale = *since,
            Event::Refused { .. } => self.live = false,
        }
    }

    /// Pages that heal it are coming.
    fn broken(&mut self) {
        self.coming.as_mut().unwrap_or(&mut self.shown).whole = false;
    }

    pub(crate) fn freshness(&self) -> Freshness {
        match self.stale {
            Some(since) => Freshness::Stale(since),
            None if self.live && self.coming.is_none() && self.shown.whole => Freshness::Live,
            None => Freshness::CatchingUp,
        }
    }

    pub(crate) const fn conflated(&self) -> u64 {
        self.conflated
    }

    /// What has a key and has not expired.
    pub(crate) fn entries(&self, broker_now: u64) -> impl Iterator<Item = (&Name, &StateItem)> {
        let valid = move |item: &StateItem| {
            let expires = item.publication.expires;
            expires.is_none_or(|expires| expires > broker_now)
        };
        let held = self.shown.held.iter();
        held.filter_map(move |(key, item)| Some((key.as_ref()?, item)).filter(|_| valid(item)))
    }
}

/// The newest value of each key of a channel; of a presence channel, its members.
///
/// It changes while [`changed`](Self::changed) is awaited. While a snapshot is coming, what is
/// shown stays as it last was whole. Keys disappear when they are removed, and by the broker's
/// clock when they expire.
#[derive(Debug)]
pub struct View {
    client: Client,
    subscription: Subscription,
    state: State,
}

impl View {
    /// Takes the next event into account and answers it. None: the client is closed or blocked.
    /// Cancel-safe.
    pub async fn changed(&mut self) -> Option<Event> {
        let event = self.subscription.next().await?;
        self.state.take(&event);
        Some(event)
    }

    /// How far it can be trusted.
    #[must_use]
    pub fn freshness(&self) -> Freshness {
        self.state.freshness()
    }

    /// Publications that newer ones replaced before they came here, in all.
    #[must_use]
    pub const fn conflated(&self) -> u64 {
        self.state.conflated()
    }

    /// The keys that are set, in their order.
    pub fn entries(&self) -> impl Iterator<Item = (&Name, &StateItem)> {
        self.state.entries(self.client.broker_now_ms())
    }

    /// The newest value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&StateItem> {
        let mut entries = self.entries();
        entries.find_map(|(name, item)| (name.as_str() == key).then_some(item))
    }
}

impl Client {
    /// The keyed state of a channel, kept up to date, at most `hz` times a second.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    pub async fn view(&self, channel: &str, hz: Option<u32>) -> Result<View, Error> {
        let options = Options {
            start: Start::State,
            mode: Mode::Latest,
            hz,
            me: None,
        };
        Ok(View {
            client: self.clone(),
            subscription: self.subscribe(channel, options).await?,
            state: State::default(),
        })
    }

    /// The members of a channel by `<user>/<n>`, kept up to date; needs the right `presence`. To
    /// be a member, subscribe to the channel itself with [`Options::me`].
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    pub async fn members(&self, channel: &str) -> Result<View, Error> {
        let channel = tidewire_protocol::ChannelName::new(channel)?;
        self.view(channel.presence().as_str(), None).await
    }
}
