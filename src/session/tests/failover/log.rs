//! The log behind a node, as a model: generations that follow each other with less or nothing
//! lost, primaries that were left and go on, and what of all that is announced.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use tidewire_protocol::{
    Payload,
    frame::{Publication, StateItem},
};

use super::*;
use crate::{
    broker::{
        HistoryPage, StatePage,
        lineage::{Lineage, Parts, Segment},
    },
    channel::Page,
};

/// Publications on one page; a few, so that readers need several.
const PAGE_ITEMS: usize = 3;

/// One incarnation of the primary: what it holds and under which generations that was minted.
#[derive(Debug, Clone)]
struct Primary {
    life: u32,
    generation: u32,
    segments: Vec<(u32, u64)>,
    items: Vec<Arc<Publication>>,
}

impl Primary {
    fn last(&self) -> u64 {
        self.items.len() as u64
    }

    /// The lineage with the segment that mints, though nothing may be minted in it yet.
    fn segments(&self) -> Vec<(u32, u64)> {
        let mut segments = self.segments.clone();
        if segments.last().is_none_or(|last| last.0 != self.generation) {
            segments.push((self.generation, self.last() + 1));
        }
        segments
    }

    fn lineage(&self) -> Lineage {
        let mut previous = String::new();
        let mut segments = Vec::new();
        for (generation, start) in self.segments() {
            let parts = Parts {
                life: &format!("life{}", self.life),
                generation: &generation_text(generation),
                start,
                previous: &previous,
            };
            let epoch = parts.epoch().unwrap();
            previous = generation_text(generation);
            segments.push(Segment { epoch, start });
        }
        Lineage::new(segments).unwrap()
    }

    fn publish(&mut self, publication: Publication) -> (Epoch, Arc<Publication>) {
        self.segments = self.segments();
        let publication = Arc::new(Publication {
            offset: self.last() + 1,
            ..publication
        });
        self.items.push(Arc::clone(&publication));
        (self.lineage().epoch().clone(), publication)
    }
}

fn generation_text(generation: u32) -> String {
    format!("{generation:08}test")
}

/// The log, the primaries that were left, and what was announced and not heard yet.
#[derive(Debug)]
pub struct Log {
    primary: Primary,
    left: Option<Primary>,
    pub announced: VecDeque<(Epoch, Arc<Publication>)>,
    /// What each epoch's primary holds, by offset: what a reader in it may be given.
    chains: BTreeMap<Epoch, Vec<Arc<Publication>>>,
    /// First offset history holds, where it holds any.
    first: u64,
    keeps_history: bool,
    drawn: u64,
}

impl Log {
    pub fn new(keeps_history: bool) -> Self {
        let primary = Primary {
            life: 1,
            generation: 1,
            segments: Vec::new(),
            items: Vec::new(),
        };
        let mut log = Self {
            primary,
            left: None,
            announced: VecDeque::new(),
            chains: BTreeMap::new(),
            first: 1,
            keeps_history,
            drawn: 0,
        };
        log.note();
        log
    }

    fn note(&mut self) {
        for primary in [Some(&self.primary), self.left.as_ref()]
            .into_iter()
            .flatten()
        {
            let epoch = primary.lineage().epoch().clone();
            self.chains.insert(epoch, primary.items.clone());
        }
    }

    pub fn head(&self) -> Head {
        let lineage = self.primary.lineage();
        let position = Position {
            epoch: lineage.epoch().clone(),
            offset: self.primary.last(),
        };
        Head {
            position,
            first: self.first(),
            state_floor: 0,
            lineage,
        }
    }

    fn first(&self) -> u64 {
        if self.keeps_history {
            self.first
        } else {
            self.primary.last() + 1
        }
    }

    fn draw(&mut self, key: Option<u8>) -> Publication {
        self.drawn += 1;
        Publication {
            offset: 0,
            ts: self.drawn,
            payload: Some(Payload::bytes(Bytes::from(self.drawn.to_string()))),
            key: key.map(|key| Name::new(&format!("k{key}")).unwrap()),
            event: None,
            id: None,
            by: None,
            deleted: false,
            expires: None,
        }
    }

    pub fn publish(&mut self, key: Option<u8>) {
        let publication = self.draw(key);
        let announced = self.primary.publish(publication);
        self.announced.push_back(announced);
        self.note();
    }

    /// The primary that was left accepts one more, which is lost.
    pub fn publish_on_left(&mut self) {
        let publication = self.draw(None);
        if let Some(left) = &mut self.left {
            let announced = left.publish(publication);
            self.announced.push_back(announced);
            self.note();
        }
    }

    /// A replica that lacks the newest takes over.
    pub fn fail_over(&mut self, lag: usize) {
        let mut next = self.primary.clone();
        next.items.truncate(next.items.len().saturating_sub(lag));
        let last = next.last();
        next.segments.retain(|(_, start)| *start <= last);
        next.generation += 1;
        self.first = self.first.min(last + 1);
        self.left = Some(std::mem::replace(&mut self.primary, next));
        self.note();
    }

    /// Another life.
    pub fn delete(&mut self) {
        self.primary.life += 1;
        self.primary.segments.clear();
        self.primary.items.clear();
        self.first = 1;
        self.left = None;
        self.note();
    }

    pub fn trim(&mut self, kept: u64) {
        self.first = self
            .first
            .max((self.primary.last() + 1).saturating_sub(kept));
    }

    /// The publication at an offset of an epoch's log.
    pub fn at(&self, epoch: &Epoch, offset: u64) -> Option<&Arc<Publication>> {
        let index = usize::try_from(offset.checked_sub(1)?).unwrap();
        self.chains.get(epoch)?.get(index)
    }

    /// The newest publication of each key that passes.
    pub fn newest(&self, from: u64) -> BTreeMap<Option<Name>, Arc<Publication>> {
        let items = self.primary.items.iter().filter(|item| item.offset >= from);
        items
            .map(|item| (item.key.clone(), Arc::clone(item)))
            .collect()
    }

    pub fn load(&self, need: Need) -> Loaded {
        match need {
            Need::History { after } => {
                let items = (self.primary.items.iter())
                    .filter(|item| item.offset > after && item.offset >= self.first());
                let page = HistoryPage {
                    head: self.head(),
                    items: items.take(PAGE_ITEMS).cloned().collect(),
                    more: false,
                };
                Loaded::History(Arc::new(Page::new(after, page)))
            }
            Need::State(query) => {
                let newest = self.newest(1).into_values();
                let mut items: Vec<_> = newest
                    .filter(|item| item.offset >= query.from)
                    .filter(|item| query.catch_up || item.key.is_some())
                    .map(|publication| StateItem {
                        epoch: self.head().position.epoch,
                        publication,
                    })
                    .collect();
                items.sort_by_key(|item| item.publication.offset);
                let more = items.len() > PAGE_ITEMS;
                items.truncate(PAGE_ITEMS);
                let head = self.head();
                Loaded::State(StatePage { head, items, more })
            }
        }
    }
}
