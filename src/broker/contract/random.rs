//! What the random tests of every broker share: publications drawn at random, and the comparison of
//! a log with the model of `rules.rs`. Each test brings its own time, its own reopening and its own faults.

use std::{collections::BTreeMap, ops::Range as Span};

use proptest::prelude::*;
use tidewire_protocol::{
    ChannelName, Position, Publication,
    command::{Guard, Range},
};

use super::{
    catch_up, head, history, name, offsets, publish,
    rules::{Entry, Model},
    state, text,
};
use crate::broker::{Broker, BrokerError, Publish, Published, Retention};

/// One publication as it is drawn; positions are made out when its turn comes.
#[derive(Debug, Clone)]
pub(crate) struct Put {
    pub(crate) channel: usize,
    pub(crate) id: Option<u8>,
    pub(crate) keeps: usize,
    key: Option<u8>,
    size: usize,
    delete: bool,
    ttl: Option<u64>,
    guard: Option<u8>,
}

/// Publications to `channels`, with payloads of `size` bytes and, at times, a lifetime of `ttl` ms.
pub(crate) fn puts(
    channels: usize,
    size: Span<usize>,
    ttl: impl Strategy<Value = u64>,
) -> impl Strategy<Value = Put> {
    (
        (0..channels, prop::option::of(0..5_u8), size),
        prop::option::weighted(0.3, 0..6_u8),
        prop::bool::weighted(0.2),
        prop::option::weighted(0.2, ttl),
        prop::option::weighted(0.3, 0..3_u8),
        prop_oneof![5 => Just(0), 4 => Just(2), 1 => 1..4_usize],
    )
        .prop_map(
            |((channel, key, size), id, delete, ttl, guard, keeps)| Put {
                channel,
                id,
                keeps,
                key,
                size,
                delete,
                ttl,
                guard,
            },
        )
}

impl Put {
    /// The publication itself; a guard names the last entry of its key, or the one that will be next.
    pub(crate) async fn item(
        &self,
        broker: &dyn Broker,
        channel: &ChannelName,
        model: &Model,
        retention: Retention,
    ) -> Publish {
        let last = self.key.and_then(|key| model.state.get(&format!("k{key}")));
        let offset = last.map_or_else(|| model.head(), |entry| entry.publication.offset);
        let epoch = head(broker, channel).await.position.epoch;
        let guard = self.guard.map(|guard| match guard {
            0 => Guard::Absent,
            which => Guard::At(Position {
                epoch,
                offset: offset + u64::from(which > 1),
            }),
        });
        Publish {
            key: self.key.map(|key| name(&format!("k{key}"))),
            id: self.id.map(|id| name(&format!("i{id}"))),
            delete: self.delete && self.key.is_some(),
            ttl_ms: self.ttl,
            retention,
            guard,
            ..publish(channel, &"x".repeat(self.size))
        }
    }
}

/// Holds an answer against what the model expected; says what was appended, if anything was.
pub(crate) fn appended(
    expected: Result<Option<u64>, BrokerError>,
    answer: Result<Published, BrokerError>,
) -> Option<Position> {
    match (expected, answer) {
        (Ok(Some(first)), Ok(published)) => {
            assert!(published.duplicate);
            assert_eq!(published.position.offset, first);
            None
        }
        (Ok(None), Ok(published)) => {
            assert!(!published.duplicate);
            Some(published.position)
        }
        (Err(BrokerError::PreconditionFailed(a)), Err(BrokerError::PreconditionFailed(b))) => {
            assert_eq!(a.offset, b.offset);
            None
        }
        (expected, answer) => {
            assert_eq!(expected.map(|_| ()), answer.map(|_| ()));
            None
        }
    }
}

/// Holds log and keyed state against a settled model; `alike` is as exact as the broker's clock can be known.
pub(crate) async fn compare(
    broker: &dyn Broker,
    channel: &ChannelName,
    model: &Model,
    alike: impl Fn(&Publication, &Publication) -> bool,
) {
    let page = history(broker, channel, Range::After(0)).await;
    assert_eq!(page.head.position.offset, model.head());
    assert!(
        page.items.len() == model.log.len()
            && page.items.iter().zip(&model.log).all(|(a, b)| alike(a, b)),
        "history holds {:?}, not {:?}",
        offsets(&page),
        model.log
    );
    assert_eq!(page.head.first, model.head() + 1 - model.log.len() as u64);
    let said = |publication: &Publication| (publication.offset, text(publication));
    let live: BTreeMap<u64, String> = model
        .state
        .values()
        .filter(|entry| !entry.publication.deleted)
        .map(|entry| said(&entry.publication))
        .collect();
    let snapshot = state(broker, channel, 0).await.items;
    let got: BTreeMap<u64, String> = snapshot
        .iter()
        .map(|item| said(&item.publication))
        .collect();
    assert_eq!(got, live);
    changes(broker, channel, model, alike).await;
}

/// What a reader catches up with: every entry the model keeps, tombstones above the floor among them.
async fn changes(
    broker: &dyn Broker,
    channel: &ChannelName,
    model: &Model,
    alike: impl Fn(&Publication, &Publication) -> bool,
) {
    let all = catch_up(broker, channel, 0).await;
    assert!(all.items.is_sorted_by_key(|item| item.publication.offset));
    let got: BTreeMap<u64, &Publication> = all
        .items
        .iter()
        .map(|item| (item.publication.offset, &*item.publication))
        .collect();
    assert!(all.head.state_floor <= model.tombstone_max);
    for Entry { publication, .. } in model.state.values().chain(&model.keyless) {
        match got.get(&publication.offset) {
            Some(item) => assert!(alike(item, publication), "{item:?}, not {publication:?}"),
            None => assert!(
                publication.deleted && publication.offset <= all.head.state_floor,
                "{publication:?} is missing above the floor {}",
                all.head.state_floor
            ),
        }
    }
    assert!(got.len() <= model.state.len() + usize::from(model.keyless.is_some()));
}
