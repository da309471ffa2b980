//! Random operations against the plain model every broker is compared with. Time passes by making
//! everything in the server older (`age.lua`), in steps that no lifetime here is a multiple of.

use proptest::prelude::*;
use tidewire_protocol::{ChannelName, Publication, command::Range};

use super::{Node, OnRedis};
use crate::{
    broker::{
        Broker,
        contract::{
            Heard, channel, head, history, one,
            random::{Put, appended, compare, puts},
            rules::{Lifetimes, Model, SECOND, keeps},
            until,
        },
    },
    clock,
};

/// Time passes in multiples of this; lifetimes are odd multiples of half of it. A case takes less
/// than half of it.
const STEP: u64 = 20 * SECOND;
/// Longer than anything here lives.
const AGES: u64 = 10_000 * SECOND;

const LIVES: Lifetimes = Lifetimes {
    history: STEP * 3 / 2,
    state: STEP * 5 / 2,
    tombstone: STEP * 3 / 2,
    dedup: STEP / 2,
};

#[derive(Debug, Clone)]
enum Op {
    Put(Put),
    Blank(usize, u8),
    Delete(usize),
    Wait(u64),
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let lives = (0..4_u64).prop_map(|steps| STEP * steps + STEP / 2);
    let put = puts(2, 1..300, lives);
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
                let answer = broker.blank(&self.names[which], offset).await;
                assert_eq!(answer.is_ok(), model.holds(offset));
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
        let (broker, channel) = (&*self.node.broker, &self.names[put.channel]);
        let model = &mut self.models[put.channel];
        let item = put
            .item(broker, channel, model, keeps(put.keeps, LIVES))
            .await;
        let expected = model.expected(&item, put.id);
        let answer = one(broker, item.clone()).await;
        let Some(position) = appended(expected, answer) else {
            return;
        };
        let offset = position.offset;
        assert_eq!(offset, model.head() + 1);
        let page = history(broker, channel, Range::After(offset - 1)).await;
        let minted = page
            .items
            .first()
            .map_or_else(clock::now_ms, |item| item.ts);
        model.apply(&item, put.id, position, minted);
        let heard = &self.heard;
        until("announced", || async {
            heard.offsets(channel).last() == Some(&offset)
        })
        .await;
    }

    async fn check(&mut self, which: usize) {
        let now = clock::now_ms();
        let (broker, channel) = (&*self.node.broker, &self.names[which]);
        let model = &mut self.models[which];
        model.settle(now);
        let head = head(broker, channel).await;
        if head.position.offset == 0 && model.head() > 0 {
            assert!(model.may_be_over(now), "forgotten too early: {model:?}");
            *model = Model::default();
        }
        compare(broker, channel, model, alike).await;
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
