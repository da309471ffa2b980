//! A Redis Cluster: routing, sharded announcements, and slots that move.

use std::collections::BTreeSet;

use super::{Lab, connect, counting, number, refusal, topologies::Cluster, within};
use crate::redis::LaneEvent;

/// A name whose partition the member has.
fn name_at(lab: &Lab, cluster: &Cluster, member: usize) -> String {
    (0..1_000)
        .map(|number| format!("n{number}"))
        .find(|name| cluster.owner(slot_of(lab, name)) == member)
        .unwrap()
}

fn slot_of(lab: &Lab, name: &str) -> u16 {
    let partition = lab.redis.partition_of(name.as_bytes());
    lab.redis.shared.context.keyspace.slot(partition)
}

#[tokio::test]
async fn steps_and_announcements_go_to_the_primary_of_their_partition() {
    let cluster = Cluster::start();
    let mut lab = connect(&cluster.url(), counting()).await;
    let names: Vec<_> = (0..100).map(|number| format!("n{number}")).collect();
    let owners: BTreeSet<_> = names
        .iter()
        .map(|name| cluster.owner(slot_of(&lab, name)))
        .collect();
    assert_eq!(owners.len(), 3);
    let interests = names.iter().map(|name| lab.interest(name)).collect();
    for head in lab.redis.follow(interests).await {
        assert_eq!(number(&head.unwrap()), 0);
    }
    let calls = names.iter().map(|name| lab.count(name)).collect();
    for answer in lab.redis.call_all(calls).await {
        assert_eq!(number(&answer.unwrap()), 1);
    }
    let mut missing: BTreeSet<_> = names.iter().map(|name| lab.announcements(name)).collect();
    within(async {
        while !missing.is_empty() {
            for event in lab.events().await {
                if let LaneEvent::Push { announcements, .. } = event {
                    missing.remove(announcements.as_ref());
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_slot_that_moves_is_followed_without_losing_or_repeating_a_step() {
    let cluster = Cluster::start();
    let mut lab = connect(&cluster.url(), counting()).await;
    let name = name_at(&lab, &cluster, 0);
    let (slot, partition) = (slot_of(&lab, &name), lab.interest(&name).partition);
    lab.until_followed(&name).await;
    for expected in 1..=3 {
        let answer = lab.redis.call(lab.count(&name)).await.unwrap();
        assert_eq!(number(&answer), expected);
    }
    lab.doubt(partition).await;
    cluster.begin_move(slot, 0, 1);
    let step = lab.redis.call(lab.count(&name));
    let (step, ()) = tokio::join!(step, async { cluster.end_move(slot, 0, 1) });
    assert_eq!(number(&step.unwrap()), 4);
    lab.doubt(partition).await;
    assert_eq!(lab.until_answered(|| lab.count(&name)).await, 5);
    // The lane of the new owner hears, too.
    lab.until_followed(&name).await;
    assert_eq!(lab.until_answered(|| lab.count(&name)).await, 6);
    lab.hear(&name, |number| number == 6).await;
    assert!(*lab.redis.losses().borrow() >= 1, "another primary");
}

#[tokio::test]
async fn a_slot_on_its_way_is_served_by_its_target() {
    let cluster = Cluster::start();
    let lab = connect(&cluster.url(), counting()).await;
    let name = name_at(&lab, &cluster, 0);
    let slot = slot_of(&lab, &name);
    lab.redis.call(lab.count(&name)).await.unwrap();
    cluster.begin_move(slot, 0, 2);
    cluster.move_keys(slot, 0, 2);
    let answer = lab.redis.call(lab.count(&name)).await.unwrap();
    assert_eq!(number(&answer), 2, "by ASK");
    let head = lab.until_followed(&name).await;
    assert_eq!(head, 2);
    cluster.end_move(slot, 0, 2);
    assert_eq!(lab.until_answered(|| lab.count(&name)).await, 3);
}

#[tokio::test]
async fn a_member_that_is_out_of_reach_does_not_touch_the_others() {
    let mut cluster = Cluster::start();
    let lab = connect(&cluster.url(), counting()).await;
    let (here, there) = (name_at(&lab, &cluster, 0), name_at(&lab, &cluster, 2));
    lab.until_answered(|| lab.count(&there)).await;
    let mut reach = lab.redis.reach();
    cluster.members[2].kill();
    within(reach.wait_for(Option::is_some)).await.unwrap();
    let calls = vec![lab.count(&here), lab.count(&there)];
    let answers = lab.redis.call_all(calls).await;
    assert_eq!(number(answers[0].as_ref().unwrap()), 1);
    assert!(answers[1].is_err());
    cluster.members[2].restart();
    within(reach.wait_for(Option::is_none)).await.unwrap();
    lab.until_answered(|| lab.count(&there)).await;
}

#[tokio::test]
async fn a_member_named_as_if_it_stood_alone_is_refused_with_advice() {
    let cluster = Cluster::start();
    let partition = crate::redis::keyspace::Keyspace::new("tw", 1);
    let slot = partition.slot(partition.partition_of(b""));
    let other = (cluster.owner(slot) + 1) % 3;
    let text = refusal(&cluster.members[other].url()).await.to_string();
    assert!(text.contains("redis+cluster://"), "{text}");
}
