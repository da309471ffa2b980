//! Publications into random states of Redis: keys gone, of another type, behind, ahead, no memory.
//! Whatever is found, an answered publication is the end of its log, the counter is the id of the
//! stream's last entry, and no position ever means two publications.

use std::{collections::HashSet, sync::Arc};

use proptest::prelude::*;
use redis::cmd;
use tidewire_protocol::command::{Guard, Range};

use super::{Node, OnRedis};
use crate::broker::{
    BrokerError, Publish,
    contract::{Heard, channel, head, history, keyed, name, one, publish, removal, state, text},
};
use crate::redis::tests::{server::RedisServer, topologies::ask};

/// `ends` is last, and is left alone: a channel of which nothing at all is left is a new one.
const KINDS: [&str; 9] = [
    "meta",
    "log",
    "state",
    "live",
    "tombstones",
    "due",
    "blanks",
    "names",
    "ends",
];
const FIELDS: [&str; 6] = ["life", "last", "ts", "epoch", "keeps", "generations"];

#[derive(Debug, Clone)]
enum Op {
    Publish {
        key: Option<u8>,
        id: Option<u8>,
        delete: bool,
        guard: bool,
    },
    Remove(usize),
    Everything,
    AnotherType(usize),
    Heal,
    Forget(usize),
    Nonsense(usize),
    Counter(i64),
    Ahead(u8),
    Memory(bool),
    Flush,
}

fn op() -> impl Strategy<Value = Op> {
    let publish = (
        prop::option::of(0..4_u8),
        prop::option::weighted(0.3, 0..4_u8),
        any::<bool>(),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(key, id, delete, guard)| Op::Publish {
            key,
            id,
            delete,
            guard,
        });
    prop_oneof![
        12 => publish,
        3 => (0..KINDS.len() - 1).prop_map(Op::Remove),
        1 => Just(Op::Everything),
        2 => (0..KINDS.len() - 1).prop_map(Op::AnotherType),
        3 => Just(Op::Heal),
        2 => (0..FIELDS.len()).prop_map(Op::Forget),
        1 => (0..FIELDS.len()).prop_map(Op::Nonsense),
        1 => (1..5_i64).prop_map(Op::Counter),
        1 => (1..9_u8).prop_map(Op::Ahead),
        2 => any::<bool>().prop_map(Op::Memory),
        1 => Just(Op::Flush),
    ]
}

fn key(kind: &str) -> String {
    match kind {
        "names" | "ends" => format!("{{tw:p000}}:{kind}"),
        kind => format!("{{tw:p000}}:{kind}:a"),
    }
}

/// The counter and the stream's last id, where they can be read.
fn counted(server: &RedisServer) -> (Option<String>, Option<String>) {
    let last = ask(server, cmd("HGET").arg(key("meta")).arg("last")).ok();
    let about: Option<std::collections::HashMap<String, redis::Value>> =
        ask(server, cmd("XINFO").arg("STREAM").arg(key("log"))).ok();
    let id = about.and_then(|mut about| about.remove("last-generated-id"));
    let id = id.and_then(|id| redis::from_redis_value(id).ok());
    (
        last.flatten(),
        id.map(|id: String| id.trim_end_matches("-0").to_owned()),
    )
}

struct World {
    lab: OnRedis,
    node: Node,
    minted: HashSet<(String, u64)>,
    count: usize,
}

impl World {
    async fn run(&mut self, op: &Op) {
        let server = &self.lab.server;
        let kind = |which: &usize| key(KINDS[*which]);
        let act = |command: &redis::Cmd| drop(ask::<redis::Value>(server, command));
        match op {
            Op::Publish {
                key,
                id,
                delete,
                guard,
            } => {
                self.publish(*key, *id, *delete, *guard).await;
            }
            Op::Remove(which) => act(cmd("DEL").arg(kind(which))),
            Op::Everything => KINDS
                .iter()
                .take(7)
                .for_each(|kind| act(cmd("DEL").arg(key(kind)))),
            Op::AnotherType(which) => act(cmd("SET").arg(kind(which)).arg("x")),
            Op::Heal => {
                for kind in KINDS {
                    let is_text: String = ask(server, cmd("TYPE").arg(key(kind))).unwrap();
                    if is_text == "string" {
                        act(cmd("DEL").arg(key(kind)));
                    }
                }
                act(cmd("CONFIG").arg("SET").arg("maxmemory").arg(0));
            }
            Op::Forget(field) => act(cmd("HDEL").arg(key("meta")).arg(FIELDS[*field])),
            Op::Nonsense(field) => act(cmd("HSET").arg(key("meta")).arg(FIELDS[*field]).arg("x")),
            Op::Counter(by) => {
                // A counter that was set back, and no stream to say so, cannot be known.
                if counted(server).0.is_some() {
                    act(cmd("HINCRBY").arg(key("meta")).arg("last").arg(*by));
                }
            }
            Op::Ahead(by) => {
                let last = counted(server)
                    .1
                    .and_then(|id| id.parse::<u64>().ok())
                    .unwrap_or(0);
                let id = format!("{}-0", last + u64::from(*by));
                act(cmd("XADD")
                    .arg(key("log"))
                    .arg(id)
                    .arg("t")
                    .arg(1)
                    .arg("d")
                    .arg("x"));
            }
            Op::Memory(enough) => {
                act(cmd("CONFIG")
                    .arg("SET")
                    .arg("maxmemory")
                    .arg(if *enough { 0 } else { 1 }));
            }
            Op::Flush => {
                act(&cmd("FLUSHALL"));
                // The handshake that follows needs memory.
                act(cmd("CONFIG").arg("SET").arg("maxmemory").arg(0));
            }
        }
    }

    async fn publish(&mut self, key: Option<u8>, id: Option<u8>, delete: bool, guard: bool) {
        let (server, broker) = (&self.lab.server, &*self.node.broker);
        let a = channel("a");
        self.count += 1;
        let data = id.map_or_else(|| self.count.to_string(), |id| format!("id {id}"));
        let item = match key {
            Some(key) if delete && id.is_none() => removal(&a, &format!("k{key}")),
            Some(key) => keyed(&a, &format!("k{key}"), &data),
            None => publish(&a, &data),
        };
        let item = Publish {
            id: id.map(|id| name(&format!("i{id}"))),
            guard: guard.then_some(Guard::Absent),
            ..item
        };
        let before = counted(server);
        let answer = one(broker, item.clone()).await;
        let after = counted(server);
        match answer {
            Ok(published) if !published.duplicate => {
                let offset = published.position.offset;
                let expected = Some(offset.to_string());
                assert_eq!(
                    after,
                    (expected.clone(), expected),
                    "the counter is the last id"
                );
                let life = published.position.epoch.as_str()[..10].to_owned();
                assert!(
                    self.minted.insert((life, offset)),
                    "{:?} came twice",
                    published.position
                );
                let page = history(broker, &a, Range::After(offset - 1)).await;
                assert_eq!(page.head.position, published.position);
                assert_eq!(page.items.len(), 1);
                assert_eq!(page.items[0].offset, offset);
                let said = if item.delete { String::new() } else { data };
                assert_eq!(text(&page.items[0]), said);
                if let Some(key) = item.key.filter(|_| !item.delete) {
                    let page = state(broker, &a, offset).await;
                    assert_eq!(page.items.len(), 1);
                    assert_eq!(page.items[0].publication.key, Some(key));
                }
            }
            Ok(_)
            | Err(
                BrokerError::IdConflict
                | BrokerError::PreconditionFailed(_)
                | BrokerError::StateFull,
            ) => {
                assert_eq!(after, before, "a refusal counts nothing");
            }
            Err(BrokerError::Unavailable) => {
                assert_eq!(after, before, "an error counts nothing");
            }
            Err(BrokerError::Gone) => panic!("a publication is not gone"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_counter_is_the_last_id_whatever_was_found(ops in prop::collection::vec(op(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let lab = OnRedis::new();
            let node = Node::on(&lab.server, Arc::new(Heard::default())).await;
            let mut world = World { lab, node, minted: HashSet::new(), count: 0 };
            for op in &ops {
                world.run(op).await;
            }
        });
    }
}

#[tokio::test]
async fn without_memory_nothing_is_half_written_and_what_is_there_can_be_read() {
    let lab = OnRedis::new();
    let node = Node::on(&lab.server, Arc::new(Heard::default())).await;
    let (a, limit) = (
        channel("a"),
        cmd("CONFIG").arg("SET").arg("maxmemory").arg(1).clone(),
    );
    let broker = &*node.broker;
    assert_eq!(
        one(broker, publish(&a, "1")).await.unwrap().position.offset,
        1
    );
    ask::<()>(&lab.server, &limit).unwrap();
    for _ in 0..3 {
        assert_eq!(
            one(broker, publish(&a, "2")).await,
            Err(BrokerError::Unavailable)
        );
        assert_eq!(
            one(broker, publish(&channel("b"), "2")).await,
            Err(BrokerError::Unavailable)
        );
    }
    assert_eq!(history(broker, &a, Range::After(0)).await.items.len(), 1);
    assert_eq!(head(broker, &channel("b")).await.position.offset, 0);
    ask::<()>(
        &lab.server,
        cmd("CONFIG").arg("SET").arg("maxmemory").arg(0),
    )
    .unwrap();
    assert_eq!(
        one(broker, publish(&a, "2")).await.unwrap().position.offset,
        2
    );
}
