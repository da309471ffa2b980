//! Random operations against the plain model every broker is compared with. Time passes by making
//! everything in the server older (`age.lua`), in steps that no lifetime here is a multiple of.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tidewire_protocol::{
    ChannelName, Position, Publication,
    command::{Guard, Range},
    frame::Acknowledge,
};

use super::{Node, OnRedis};
use crate::{
    broker::{
        Broker, BrokerError, Publish, Retention,
        contract::{
            Heard, catch_up, channel, head, history, name, offsets, one, publish,
            rules::{Model, SECOND},
            state, text, until,
        },
    },
    clock,
};

/// Time passes in multiples of this; lifetimes are odd multiples of half of it. A case takes less
/// than half of it.
const STEP: u64 = 20 * SECOND;
/// Longer than anything here lives.
const AGES: u64 = 10_000 * SECOND;

fn keeps(which: usize) -> Retention {
    let base = Retention {
        history_size: 6,
        history_ttl_ms: STEP * 3 / 2,
        state: true,
        state_keys: 3,
        state_ttl_ms: STEP * 5 / 2,
        tombstone_ttl_ms: STEP * 3 / 2,
        dedup_ttl_ms: STEP / 2,
        acknowledge: Acknowledge::Log,
    };
    match which {
        0 => base,
        1 => Retention {
            history_size: 0,
            ..base
        },
        2 => Retention {
            state: false,
            ..base
        },
        _ => Retention {
            history_size: 2,
            state_keys: 1,
            ..base
        },
    }
}

#[derive(Debug, Clone)]
struct Put {
    channel: usize,
    key: Option<u8>,
    size: usize,
    id: Option<u8>,
    delete: bool,
    ttl: Option<u64>,
    guard: Option<u8>,
    keeps: usize,
}

#[derive(Debug, Clone)]
enum Op {
    Put(Put),
    Blank(usize, u8),
    Delete(usize),
    Wait(u64),
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let put = (
        (0..2_usize, prop::option::of(0..5_u8), 1..300_usize),
        prop::option::weighted(0.3, 0..6_u8),
        prop::bool::weighted(0.2),
        prop::option::weighted(0.2, 0..4_u64),
        prop::option::weighted(0.3, 0..3_u8),
        prop_oneof![8 => Just(0), 1 => 1..4_usize],
    )
        .prop_map(
            |((channel, key, size), id, delete, ttl, guard, keeps)| Put {
                channel,
                key,
                size,
                id,
                delete,
                ttl: ttl.map(|ttl| STEP * ttl + STEP / 2),
                guard,
                keeps,
            },
        );
    prop_oneof![
        20 => put.prop_map(Op::Put),
        2 => (0..2_usize, 0..10_u8).prop_map(|(channel, back)| Op::Blank(channel, back)),
        1 => (0..2_usize).prop_map(Op::Delete),
        3 => (1..3_u64).prop_map(|steps| Op::Wait(STEP * steps)),
        1 => Just(Op::Wait(AGES)),
        1 => Just(Op::Reopen),
    ]
}

struct World {
    lab: OnRedis,
    node: Node,
    heard: std::sync::Arc<Heard>,
    models: [Model; 2],
    names: [ChannelName; 2],
}

impl World {
    async fn new(lab: OnRedis) -> Self {
        let heard = std::sync::Arc::new(Heard::default());
        let node = Node::on(&lab.server, heard.clone()).await;
        let names = [channel("a"), channel("b")];
        node.broker.follow(&names).await.unwrap();
        Self {
            lab,
            node,
            heard,
            models: Default::default(),
            names,
        }
    }

    async fn run(&mut self, op: Op) {
        let broker = &self.node.broker;
        match op {
            Op::Put(put) => self.put(put).await,
            Op::Blank(which, back) => {
                let model = &mut self.models[which];
                let offset = model.head().saturating_sub(back.into());
                let held = model.log.iter().any(|entry| entry.offset == offset);
                let answer = broker.blank(&self.names[which], offset).await;
                assert_eq!(answer.is_ok(), held);
                model.blank(offset);
            }
            Op::Delete(which) => {
                let head = broker.delete(&self.names[which]).await.unwrap();
                assert_eq!(head.position.offset, 0);
                let model = &mut self.models[which];
                if model.last.is_some() {
                    *model = Model {
                        last: Some(head.position),
                        last_ts: model.last_ts,
                        retention: model.retention,
                        ..Model::default()
                    };
                }
            }
            Op::Wait(ms) => {
                let answer = self.lab.server.command(&[
                    "EVAL",
                    include_str!("age.lua"),
                    "0",
                    &ms.to_string(),
                ]);
                assert_eq!(answer, "OK");
                self.models.iter_mut().for_each(|model| older(model, ms));
            }
            Op::Reopen => {
                self.heard = std::sync::Arc::new(Heard::default());
                self.node = Node::on(&self.lab.server, self.heard.clone()).await;
                self.node.broker.follow(&self.names).await.unwrap();
            }
        }
    }

    async fn put(&mut self, put: Put) {
        let which = put.channel;
        let model = &self.models[which];
        let last = put.key.and_then(|key| model.state.get(&format!("k{key}")));
        let last = last.map_or_else(|| model.head(), |entry| entry.publication.offset);
        let epoch = head(&*self.node.broker, &self.names[which])
            .await
            .position
            .epoch;
        let item = Publish {
            key: put.key.map(|key| name(&format!("k{key}"))),
            id: put.id.map(|id| name(&format!("i{id}"))),
            delete: put.delete && put.key.is_some(),
            ttl_ms: put.ttl,
            retention: keeps(put.keeps),
            guard: put.guard.map(|guard| match guard {
                0 => Guard::Absent,
                1 => Guard::At(Position {
                    epoch,
                    offset: last,
                }),
                _ => Guard::At(Position {
                    epoch,
                    offset: last + 1,
                }),
            }),
            ..publish(&self.names[which], &"x".repeat(put.size))
        };
        let expected = model.expected(&item, put.id);
        let answer = one(&*self.node.broker, item.clone()).await;
        match (expected, answer) {
            (Ok(Some(first)), Ok(published)) => {
                assert!(published.duplicate);
                assert_eq!(published.position.offset, first);
            }
            (Ok(None), Ok(published)) => {
                assert!(!published.duplicate);
                let offset = published.position.offset;
                assert_eq!(offset, model.head() + 1);
                let model = &mut self.models[which];
                let page = history(
                    &*self.node.broker,
                    &self.names[which],
                    Range::After(offset - 1),
                );
                let minted = page
                    .await
                    .items
                    .first()
                    .map_or_else(clock::now_ms, |item| item.ts);
                model.apply(&item, put.id, published.position, minted);
                let (heard, channel) = (&self.heard, &self.names[which]);
                until("announced", || async {
                    heard.offsets(channel).last() == Some(&offset)
                })
                .await;
            }
            (Err(BrokerError::PreconditionFailed(a)), Err(BrokerError::PreconditionFailed(b))) => {
                assert_eq!(a.offset, b.offset);
            }
            (expected, answer) => assert_eq!(expected.map(|_| ()), answer.map(|_| ())),
        }
    }

    async fn check(&mut self, which: usize) {
        let now = clock::now_ms();
        let (broker, channel) = (&*self.node.broker, &self.names[which]);
        let model = &mut self.models[which];
        model.settle(now);
        let page = history(broker, channel, Range::After(0)).await;
        if page.head.position.offset == 0 && model.head() > 0 {
            assert!(model.may_be_over(now), "forgotten too early: {model:?}");
            *model = Model::default();
        }
        assert_eq!(page.head.position.offset, model.head());
        assert!(
            page.items.len() == model.log.len()
                && page.items.iter().zip(&model.log).all(|(a, b)| alike(a, b)),
            "history holds {:?}, not {:?}",
            offsets(&page),
            model.log
        );
        assert_eq!(page.head.first, model.head() + 1 - model.log.len() as u64);
        let live: BTreeMap<u64, String> = model
            .state
            .values()
            .filter(|entry| !entry.publication.deleted)
            .map(|entry| (entry.publication.offset, text(&entry.publication)))
            .collect();
        let got: BTreeMap<u64, String> = state(broker, channel, 0)
            .await
            .items
            .iter()
            .map(|item| (item.publication.offset, text(&item.publication)))
            .collect();
        assert_eq!(got, live);
        let all = catch_up(broker, channel, 0).await;
        assert!(all.items.is_sorted_by_key(|item| item.publication.offset));
        let got: BTreeMap<u64, &Publication> = all
            .items
            .iter()
            .map(|item| (item.publication.offset, &*item.publication))
            .collect();
        assert!(all.head.state_floor <= model.tombstone_max);
        for entry in model.state.values().chain(&model.keyless) {
            let offset = entry.publication.offset;
            match got.get(&offset) {
                Some(item) => assert!(alike(item, &entry.publication), "{item:?}, not {entry:?}"),
                None => assert!(
                    entry.publication.deleted && offset <= all.head.state_floor,
                    "{entry:?} is missing above the floor {}",
                    all.head.state_floor
                ),
            }
        }
        assert!(got.len() <= model.state.len() + usize::from(model.keyless.is_some()));
    }
}

/// Whether they say the same; the time of one that was made without history is only nearly known.
fn alike(a: &Publication, b: &Publication) -> bool {
    let off = |a: u64, b: u64| a.abs_diff(b) < STEP / 4;
    let timeless = Publication {
        ts: b.ts,
        expires: b.expires,
        ..a.clone()
    };
    let expires = match (a.expires, b.expires) {
        (Some(a), Some(b)) => off(a, b),
        (a, b) => a == b,
    };
    timeless == *b && off(a.ts, b.ts) && expires
}

fn older(model: &mut Model, by: u64) {
    let publications = model.log.iter_mut();
    let entries = model.state.values_mut().chain(&mut model.keyless);
    let entries = entries.map(|entry| {
        if entry.due != u64::MAX {
            entry.due -= by;
        }
        &mut entry.publication
    });
    for publication in publications.chain(entries) {
        publication.ts -= by;
        publication.expires = publication.expires.map(|expires| expires - by);
    }
    let ends = model.ids.values_mut().map(|(_, _, until)| until);
    ends.for_each(|until| *until -= by);
    model.last_ts = model.last_ts.saturating_sub(by);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_log_on_redis_does_what_the_model_says(ops in prop::collection::vec(op(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new(OnRedis::new()).await;
            for op in ops {
                world.run(op).await;
                for which in 0..2 {
                    world.check(which).await;
                }
            }
        });
    }
}
