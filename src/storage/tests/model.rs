//! Random operations against a plain model in memory, across reopening and reclaiming.

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use tidewire_protocol::ChannelName;

use super::*;
use crate::broker::contract::{
    channel, head, one,
    random::{Put, appended, compare, puts},
    rules::{Lifetimes, Model, SECOND, keeps},
};

const LIVES: Lifetimes = Lifetimes {
    history: 15 * SECOND,
    state: 25 * SECOND,
    tombstone: 15 * SECOND,
    dedup: 10 * SECOND,
};

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
    let put = puts(3, 1..9000, 1..20_000_u64);
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
                let answer = self.broker.blank(&self.names[which], offset).await;
                assert_eq!(answer.is_ok(), self.models[which].holds(offset));
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
        let now = self.now();
        let (broker, channel) = (&*self.broker, &self.names[which]);
        let model = &mut self.models[which];
        let item = put
            .item(broker, channel, model, keeps(put.keeps, LIVES))
            .await;
        let expected = model.expected(&item, put.id);
        let answer = one(broker, item.clone()).await;
        let Some(position) = appended(expected, answer) else {
            return;
        };
        assert_eq!(position.offset, model.head() + 1);
        model.apply(&item, put.id, position, now);
        if let Some(last) = &mut self.announced[which] {
            *last += 1;
            assert_eq!(self.heard.offsets(channel).last(), Some(&*last));
        }
    }

    async fn check(&mut self, which: usize) {
        let now = self.now();
        let (broker, channel) = (&*self.broker, &self.names[which]);
        let model = &mut self.models[which];
        model.settle(now);
        let head = head(broker, channel).await;
        if head.position.offset == 0
            && model
                .last
                .as_ref()
                .is_some_and(|last| *last != head.position)
        {
            assert!(model.may_be_over(now), "forgotten too early: {model:?}");
            *model = Model::default();
        }
        if let Some(last) = &model.last {
            assert_eq!(&head.position, last);
        }
        compare(broker, channel, model, |a, b| a == b).await;
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
