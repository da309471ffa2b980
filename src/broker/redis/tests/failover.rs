//! What a log is after its server was replaced, emptied or left: positions are judged by it, ids
//! are known or not, and nothing passes for what it is not.

use std::sync::Arc;

use redis::cmd;
use tidewire_protocol::{
    Position,
    command::{Guard, Range},
    frame::Acknowledge,
};

use super::{Node, OnRedis};
use crate::{
    broker::{
        Broker, BrokerError, Publish, Published, Retention,
        contract::{
            Heard, KEEPS, channel, head, history, keyed, name, offsets, one, publish, put, state,
            until,
        },
        lineage::Standing,
    },
    redis::tests::{
        server::RedisServer,
        topologies::{ask, pair},
    },
};

async fn node_on(server: &RedisServer) -> Node {
    Node::on(server, Arc::new(Heard::default())).await
}

fn with_id(item: Publish, id: &str) -> Publish {
    Publish {
        id: Some(name(id)),
        ..item
    }
}

fn at(item: Publish, position: &Position) -> Publish {
    Publish {
        guard: Some(Guard::At(position.clone())),
        ..item
    }
}

/// The replica has everything that the primary has, and goes its own way from now on.
fn cut_off(primary: &RedisServer, replica: &RedisServer) {
    let waited: u32 = ask(primary, cmd("SET").arg("mark").arg(1))
        .and_then(|()| ask(primary, cmd("WAIT").arg(1).arg(5_000)))
        .unwrap();
    assert_eq!(waited, 1);
    let mark = || ask::<Option<u32>>(replica, cmd("GET").arg("mark")).unwrap();
    while mark().is_none() {}
    ask::<()>(replica, cmd("REPLICAOF").arg("NO").arg("ONE")).unwrap();
}

#[tokio::test]
async fn positions_of_a_lost_end_are_forked_and_all_others_stay_on_the_log() {
    let (primary, replica) = pair();
    let old = node_on(&primary).await;
    let a = channel("a");
    let mut positions = Vec::new();
    for n in 1..=100 {
        positions.push(put(&*old.broker, publish(&a, &n.to_string())).await);
    }
    cut_off(&primary, &replica);
    for n in 101..=105 {
        positions.push(put(&*old.broker, publish(&a, &n.to_string())).await);
    }
    let new = node_on(&replica).await;
    let before = head(&*new.broker, &a).await;
    assert_eq!(before.position.offset, 100);
    assert_ne!(
        before.position.epoch, positions[99].epoch,
        "a boundary for all"
    );
    assert_eq!(before.lineage.segments().len(), 2);
    let (shared, last) = (100, positions[104].clone());
    assert_eq!(
        before.lineage.stand(&last, 100),
        Standing::Forked { shared }
    );
    for n in 101..=107 {
        let position = put(&*new.broker, publish(&a, &format!("new {n}"))).await;
        assert_eq!(
            (position.offset, &position.epoch),
            (n, &before.position.epoch)
        );
    }
    let after = head(&*new.broker, &a).await;
    let stand = |position| after.lineage.stand(position, after.position.offset);
    assert_eq!(stand(&last), Standing::Forked { shared });
    assert_eq!(stand(&positions[100]), Standing::Forked { shared });
    for position in &positions[..100] {
        assert_eq!(stand(position), Standing::OnLog { shared });
    }
    let page = history(&*new.broker, &a, Range::After(98)).await;
    assert_eq!(offsets(&page), (99..=107).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_guard_on_a_lost_publication_does_not_hold_and_one_on_a_kept_one_does() {
    let (primary, replica) = pair();
    let old = node_on(&primary).await;
    let a = channel("a");
    let kept = put(&*old.broker, keyed(&a, "x", "1")).await;
    cut_off(&primary, &replica);
    let lost = put(&*old.broker, keyed(&a, "x", "2")).await;
    let new = node_on(&replica).await;
    let epochs = |page: crate::broker::StatePage| page.items[0].epoch.clone();
    assert_eq!(epochs(state(&*new.broker, &a, 0).await), kept.epoch);
    let refused = one(&*new.broker, at(keyed(&a, "x", "3"), &lost)).await;
    assert_eq!(refused, Err(BrokerError::PreconditionFailed(kept.clone())));
    let second = put(&*new.broker, at(keyed(&a, "x", "3"), &kept)).await;
    assert_eq!(
        second.offset, lost.offset,
        "the same offset, another publication"
    );
    let refused = one(&*new.broker, at(keyed(&a, "x", "4"), &lost)).await;
    assert_eq!(
        refused,
        Err(BrokerError::PreconditionFailed(second.clone()))
    );
    assert_eq!(epochs(state(&*new.broker, &a, 0).await), second.epoch);
}

#[tokio::test]
async fn the_head_told_after_a_failover_is_one_a_guard_can_name() {
    let (primary, replica) = pair();
    let old = node_on(&primary).await;
    let a = channel("a");
    let kept = put(&*old.broker, publish(&a, "1")).await;
    cut_off(&primary, &replica);
    let new = node_on(&replica).await;
    let told = head(&*new.broker, &a).await.position;
    assert_ne!(told.epoch, kept.epoch);
    put(&*new.broker, at(publish(&a, "2"), &told)).await;
}

#[tokio::test]
async fn an_id_of_the_lost_end_is_published_anew_and_a_kept_one_is_not() {
    let (primary, replica) = pair();
    let old = node_on(&primary).await;
    let a = channel("a");
    let first = put(&*old.broker, with_id(publish(&a, "1"), "kept")).await;
    cut_off(&primary, &replica);
    put(&*old.broker, with_id(publish(&a, "2"), "lost")).await;
    let new = node_on(&replica).await;
    let again = one(&*new.broker, with_id(publish(&a, "1"), "kept"))
        .await
        .unwrap();
    assert_eq!((again.position, again.duplicate), (first, true));
    let anew = one(&*new.broker, with_id(publish(&a, "2"), "lost"))
        .await
        .unwrap();
    assert!(!anew.duplicate);
    assert_eq!(anew.position.offset, 2);
}

#[tokio::test]
async fn a_server_that_was_emptied_begins_other_lives() {
    let server = RedisServer::start(&[]);
    let node = node_on(&server).await;
    let (a, unknown) = (channel("a"), channel("unknown"));
    let old = put(&*node.broker, publish(&a, "1")).await;
    let unknown_before = head(&*node.broker, &unknown).await;
    ask::<()>(&server, &cmd("FLUSHALL")).unwrap();
    let after = head(&*node.broker, &a).await;
    assert_eq!(after.position.offset, 0);
    assert_eq!(after.lineage.stand(&old, 0), Standing::Elsewhere);
    assert_ne!(
        head(&*node.broker, &unknown).await.position.epoch,
        unknown_before.position.epoch
    );
    let new = put(&*node.broker, publish(&a, "1")).await;
    assert_eq!(new.offset, 1);
    assert_ne!(new.epoch, old.epoch);
}

#[tokio::test]
async fn an_id_is_known_over_connections_that_end() {
    let server = RedisServer::start(&[]);
    let node = node_on(&server).await;
    let a = channel("a");
    let item = || with_id(publish(&a, "1"), "i");
    let first = put(&*node.broker, item()).await;
    for _ in 0..5 {
        ask::<()>(&server, cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal")).unwrap();
        until("answered again", || async {
            let Ok(again) = one(&*node.broker, item()).await else {
                return false;
            };
            assert_eq!((&again.position, again.duplicate), (&first, true));
            true
        })
        .await;
    }
    assert_eq!(head(&*node.broker, &a).await.position, first);
}

#[tokio::test]
async fn a_replicated_publication_is_answered_when_a_replica_has_it() {
    let (primary, replica) = pair();
    let node = node_on(&primary).await;
    let a = channel("a");
    let item = |data: &str| Publish {
        retention: Retention {
            acknowledge: Acknowledge::Replicated,
            ..KEEPS
        },
        ..with_id(publish(&a, data), data)
    };
    let (log, replicated) = (Acknowledge::Log, Acknowledge::Replicated);
    until("all are answered", || async {
        let batch = vec![item("1"), with_id(publish(&a, "2"), "2"), item("3")];
        let answers = node.broker.publish(batch).await;
        let class =
            |answer: Result<_, BrokerError>| answer.ok().map(|one: Published| one.acknowledged);
        let classes: Vec<_> = answers.into_iter().map(class).collect();
        classes == [Some(replicated), Some(log), Some(replicated)]
    })
    .await;
    assert_eq!(head(&*node.broker, &a).await.position.offset, 3);
    replica.freeze();
    assert_eq!(
        one(&*node.broker, item("4")).await,
        Err(BrokerError::Unavailable)
    );
    replica.thaw();
    until("it passes", || async {
        let Ok(again) = one(&*node.broker, item("4")).await else {
            return false;
        };
        assert_eq!((again.acknowledged, again.position.offset), (replicated, 4));
        again.duplicate
    })
    .await;
}

#[tokio::test]
async fn a_name_with_braces_stays_in_its_slot_and_comes_back() {
    let lab = OnRedis::new();
    let node = node_on(&lab.server).await;
    let odd = channel("a}{b} %7b");
    node.broker
        .follow(std::slice::from_ref(&odd))
        .await
        .unwrap();
    put(&*node.broker, publish(&odd, "1")).await;
    let listed = node.broker.channels("a}", None, 9).await.unwrap();
    assert_eq!(listed[0].0, odd);
    let keys: Vec<String> = ask(&lab.server, cmd("KEYS").arg("*")).unwrap();
    assert!(
        keys.iter().all(|key| key.matches(['{', '}']).count() == 2),
        "{keys:?}"
    );
}
