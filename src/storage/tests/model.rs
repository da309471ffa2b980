//! Random operations against a plain model in memory, across reopening and reclaiming.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use proptest::prelude::*;
use tidewire_protocol::{
    ChannelName, Position, Publication,
    command::{Guard, Range},
};

use super::*;
use crate::broker::{
    BrokerError, Publish,
    contract::{
        catch_up, channel, history, name, offsets, one, publish,
        rules::{Model, SECOND, keeps},
        state, text,
    },
};

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
    Follow(usize),
    Wait(u64),
    Reopen,
    /// The process dies: what the files hold at this moment is what the next one finds.
    Crash,
    Keep,
    /// The oldest segment is copied, and the process has not come to removing it.
    Copy,
}

fn op() -> impl Strategy<Value = Op> {
    let put = (
        (0..3_usize, prop::option::of(0..5_u8), 1..9000_usize),
        prop::option::weighted(0.3, 0..6_u8),
        prop::bool::weighted(0.2),
        prop::option::weighted(0.2, 1..20_000_u64),
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
                ttl,
                guard,
                keeps,
            },
        );
    prop_oneof![
        20 => put.prop_map(Op::Put),
        1 => (0..3_usize, 0..10_u8).prop_map(|(channel, back)| Op::Blank(channel, back)),
        1 => (0..3_usize).prop_map(Op::Delete),
        1 => (0..3_usize).prop_map(Op::Follow),
        2 => (1..30 * SECOND).prop_map(Op::Wait),
        2 => Just(Op::Reopen),
        1 => Just(Op::Crash),
        2 => Just(Op::Keep),
        1 => Just(Op::Copy),
    ]
}

struct World {
    clock: Arc<AtomicU64>,
    folder: Folder,
    broker: Arc<EmbeddedBroker>,
    heard: Arc<Heard>,
    models: [Model; 3],
    names: [ChannelName; 3],
    announced: [Option<u64>; 3],
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(AtomicU64::new(1_800_000_000_000));
        let time = clock.clone();
        let folder = Folder::with(Options {
            segment_bytes: 64 * 1024,
            clock: Clock(Arc::new(move || time.load(Ordering::Relaxed))),
            ..Options::default()
        });
        let (broker, _) = folder.reopen();
        let heard = Arc::new(Heard::default());
        broker.announce_to(heard.clone());
        Self {
            clock,
            folder,
            broker,
            heard,
            models: Default::default(),
            names: [channel("a"), channel("b"), channel("c")],
            announced: [None; 3],
        }
    }

    fn now(&self) -> u64 {
        self.clock.load(Ordering::Relaxed)
    }

    async fn run(&mut self, op: Op) {
        match op {
            Op::Put(put) => self.put(put).await,
            Op::Blank(which, back) => {
                let offset = self.models[which].head().saturating_sub(back.into());
                let held = self.models[which]
                    .log
                    .iter()
                    .any(|entry| entry.offset == offset);
                let answer = self.broker.blank(&self.names[which], offset).await;
                assert_eq!(answer.is_ok(), held);
                self.models[which].blank(offset);
            }
            Op::Delete(which) => {
                let head = self.broker.delete(&self.names[which]).await.unwrap();
                assert_eq!(head.position.offset, 0);
                let followed = self.models[which].followed;
                if self.models[which].last.is_some() {
                    self.models[which] = Model {
                        last: Some(head.position),
                        last_ts: self.now().max(self.models[which].last_ts),
                        retention: self.models[which].retention,
                        followed,
                        ..Model::default()
                    };
                    self.announced[which] = self.announced[which].map(|_| 0);
                }
            }
            Op::Follow(which) => {
                let heads = self
                    .broker
                    .follow(&self.names[which..=which])
                    .await
                    .unwrap();
                self.models[which].followed = true;
                self.announced[which] = Some(heads[0].position.offset);
            }
            Op::Wait(ms) => drop(self.clock.fetch_add(ms, Ordering::Relaxed)),
            Op::Reopen => self.reopen(),
            Op::Crash => {
                self.folder = self.folder.image();
                self.reopen();
            }
            Op::Keep => self.folder.keep(),
            Op::Copy => self.folder.copy_oldest(),
        }
    }

    fn reopen(&mut self) {
        self.broker = self.folder.reopen().0;
        self.broker.announce_to(self.heard.clone());
        for model in &mut self.models {
            model.followed = false;
        }
        self.announced = [None; 3];
    }

    async fn put(&mut self, put: Put) {
        let which = put.channel;
        self.check(which).await;
        let model = &self.models[which];
        let last = put.key.and_then(|key| model.state.get(&format!("k{key}")));
        let last = last.map_or_else(|| model.head(), |entry| entry.publication.offset);
        let epoch = history(&*self.broker, &self.names[which], Range::Before(None))
            .await
            .head
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
        let answer = one(&*self.broker, item.clone()).await;
        match (expected, answer) {
            (Ok(Some(first)), Ok(published)) => {
                assert!(published.duplicate);
                assert_eq!(published.position.offset, first);
            }
            (Ok(None), Ok(published)) => {
                assert!(!published.duplicate);
                assert_eq!(published.position.offset, model.head() + 1);
                let now = self.now();
                self.models[which].apply(&item, put.id, published.position.clone(), now);
                if let Some(last) = &mut self.announced[which] {
                    *last += 1;
                    assert_eq!(self.heard.offsets(&self.names[which]).last(), Some(&*last));
                }
            }
            (Err(BrokerError::PreconditionFailed(a)), Err(BrokerError::PreconditionFailed(b))) => {
                assert_eq!(a.offset, b.offset);
            }
            (expected, answer) => assert_eq!(expected.map(|_| ()), answer.map(|_| ())),
        }
    }

    async fn check(&mut self, which: usize) {
        let now = self.now();
        let (broker, channel) = (&*self.broker, &self.names[which]);
        let model = &mut self.models[which];
        model.settle(now);
        let page = history(broker, channel, Range::After(0)).await;
        if page.head.position.offset == 0 && model.last.is_some() {
            let same = model.last.as_ref() == Some(&page.head.position);
            if !same {
                assert!(model.may_be_over(now), "forgotten too early: {model:?}");
                *model = Model::default();
            }
        }
        if let Some(last) = &model.last {
            assert_eq!(&page.head.position, last);
        }
        let log: Vec<_> = page.items.iter().map(|item| (**item).clone()).collect();
        assert!(log == model.log, "history holds {:?}", offsets(&page));
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
        let got: BTreeMap<u64, &Publication> = all
            .items
            .iter()
            .map(|item| (item.publication.offset, &*item.publication))
            .collect();
        assert!(all.head.state_floor <= model.tombstone_max);
        for entry in model.state.values().chain(&model.keyless) {
            let offset = entry.publication.offset;
            match got.get(&offset) {
                Some(item) => assert_eq!(**item, entry.publication),
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_log_does_what_the_model_says(ops in prop::collection::vec(op(), 1..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new();
            for op in ops {
                world.run(op).await;
                for which in 0..3 {
                    world.check(which).await;
                }
            }
        });
    }
}
