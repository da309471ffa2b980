//! One server: calls, the exact cut, and every way to lose it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    COUNT, config, connect, counting, is_refused, number, refusal, refusal_of, server,
    server::free_port, within,
};
use crate::redis::{
    CallError, RedisError,
    safety::{Finding, Risk},
};

#[tokio::test]
async fn steps_are_taken_in_their_order_and_answered_in_theirs() {
    let server = server();
    let lab = connect(&server.url(), counting()).await;
    let calls = (0..600).map(|_| lab.count("a")).collect();
    let answers = lab.redis.call_all(calls).await;
    let numbers: Vec<_> = answers
        .iter()
        .map(|answer| number(answer.as_ref().unwrap()))
        .collect();
    assert_eq!(numbers, (1..=600).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_script_that_was_flushed_is_loaded_again() {
    let server = server();
    let lab = connect(&server.url(), Vec::new()).await;
    assert_eq!(number(&lab.redis.call(lab.count("a")).await.unwrap()), 1);
    server.command(&["SCRIPT", "FLUSH"]);
    assert_eq!(number(&lab.redis.call(lab.count("a")).await.unwrap()), 2);
    assert_eq!(COUNT.name(), "count");
}

#[tokio::test]
async fn the_answer_of_a_follow_divides_what_was_written_from_what_is_heard() {
    let server = server();
    let mut lab = connect(&server.url(), counting()).await;
    lab.until_followed("warm").await;
    let writer = connect(&server.url(), counting()).await;
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let hammer = tokio::spawn(async move {
        while stopped.try_recv().is_err() {
            let calls = (0..16).map(|_| writer.count("hot")).collect();
            writer.redis.call_all(calls).await;
        }
    });
    for round in 0..300 {
        let answers = lab.redis.follow(vec![lab.interest("hot")]).await;
        let head = number(answers[0].as_ref().unwrap());
        let heard = lab.hear("hot", |number| number > head + 4).await;
        let after: Vec<_> = heard.into_iter().filter(|number| *number > head).collect();
        let expected: Vec<_> = (head + 1..).take(after.len()).collect();
        assert_eq!(after, expected, "round {round}");
        lab.redis
            .unfollow(lab.interest("hot").partition, &lab.announcements("hot"));
        drain(&mut lab).await;
    }
    stop.send(()).unwrap();
    hammer.await.unwrap();
}

/// Takes what is waiting, so that the next round starts clean.
async fn drain(lab: &mut super::Lab) {
    let soon = Duration::from_millis(1);
    while tokio::time::timeout(soon, lab.events()).await.is_ok() {}
}

#[tokio::test]
async fn a_lane_that_is_killed_is_built_again_and_its_channels_are_doubted() {
    let server = server();
    let mut lab = connect(&server.url(), counting()).await;
    lab.until_followed("a").await;
    let partition = lab.interest("a").partition;
    lab.doubt(partition).await;
    server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    lab.doubt(partition).await;
    let answer = lab.redis.call(lab.count("a")).await.unwrap();
    assert_eq!(number(&answer), 1);
    assert_eq!(lab.hear("a", |_| true).await, [1]);
}

#[tokio::test]
async fn a_frozen_redis_is_refused_in_time_and_used_again_when_it_is_back() {
    let server = server();
    let lab = connect(&server.url(), counting()).await;
    let mut reach = lab.redis.reach();
    assert_eq!(*reach.borrow(), None);
    server.freeze();
    let frozen = Instant::now();
    let answer = lab.redis.call(lab.count("a")).await;
    assert!(is_refused(&answer), "{answer:?}");
    assert!(frozen.elapsed() < Duration::from_millis(800));
    within(reach.wait_for(Option::is_some)).await.unwrap();
    assert!(frozen.elapsed() < Duration::from_secs(3));
    let refused = Instant::now();
    assert!(is_refused(&lab.redis.call(lab.count("a")).await));
    assert!(refused.elapsed() < Duration::from_millis(50), "at once");
    server.thaw();
    let back = Instant::now();
    within(reach.wait_for(Option::is_none)).await.unwrap();
    assert!(lab.until_answered(|| lab.count("a")).await >= 1);
    assert!(back.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn a_restart_begins_another_generation() {
    let mut server = server();
    let mut lab = connect(&server.url(), counting()).await;
    lab.until_followed("a").await;
    lab.redis.call(lab.count("a")).await.unwrap();
    let partition = lab.interest("a").partition;
    let before = lab.redis.generation(partition).unwrap();
    let mut losses = lab.redis.losses();
    server.kill();
    server.restart();
    within(losses.changed()).await.unwrap();
    assert!(lab.redis.generation(partition).unwrap() > before);
    assert_eq!(lab.until_answered(|| lab.count("a")).await, 1);
    lab.doubt(partition).await;
    within(async {
        // The lane may still be on its way; once it is there it hears everything.
        lab.until_followed("a").await;
    })
    .await;
    let next = lab.until_answered(|| lab.count("a")).await;
    assert!(lab.hear("a", |number| number == next).await.contains(&next));
}

#[tokio::test]
async fn a_flush_is_noticed_by_the_next_step() {
    let server = server();
    let lab = connect(&server.url(), counting()).await;
    let partition = lab.interest("a").partition;
    lab.redis.call(lab.count("a")).await.unwrap();
    let before = lab.redis.generation(partition).unwrap();
    server.command(&["FLUSHALL"]);
    assert_eq!(number(&lab.redis.call(lab.count("a")).await.unwrap()), 1);
    assert!(lab.redis.generation(partition).unwrap() > before);
    assert_eq!(*lab.redis.losses().borrow(), 1);
}

#[tokio::test]
async fn a_start_without_redis_ends_with_a_sentence_that_says_what_to_do() {
    let url = format!("redis://:hunter2@127.0.0.1:{}", free_port());
    let error = refusal(&url).await;
    assert!(matches!(error, RedisError::Start { .. }));
    let text = format!("{error} {error:?}");
    assert!(text.contains("check redis.url"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn a_primary_without_the_replicas_it_must_have_is_named() {
    let server = server();
    let lab = connect(&server.url(), counting()).await;
    server.command(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    // Another incarnation: its generation is not stored yet, and cannot be.
    server.command(&["REPLICAOF", "127.0.0.1", "1"]);
    server.command(&["REPLICAOF", "NO", "ONE"]);
    let mut safety = lab.redis.safety();
    let told = safety.wait_for(|found| found.iter().any(|one| one.risk == Risk::Unwritable));
    let told = within(told).await.unwrap().clone();
    let text = told.iter().map(ToString::to_string).collect::<String>();
    assert!(text.contains("min-replicas-to-write"), "{text}");

    let RedisError::Start { source, .. } = refusal(&server.url()).await else {
        panic!("a node starts though no generation can be stored");
    };
    assert!(matches!(*source, RedisError::NoReplicas { .. }), "{source}");

    server.command(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    lab.until_answered(|| lab.count("a")).await;
    let is_over = |found: &Arc<[Finding]>| found.iter().all(|one| one.risk != Risk::Unwritable);
    within(safety.wait_for(is_over)).await.unwrap();
}

#[tokio::test]
async fn a_node_with_another_number_of_partitions_is_refused() {
    let server = server();
    let _first = connect(&server.url(), Vec::new()).await;
    let (mut config, address) = config(&server.url());
    config.partitions = std::num::NonZeroU32::new(4);
    let text = refusal_of(&config, &address).await.to_string();
    assert!(text.contains("set it to 1"), "{text}");
}

#[tokio::test]
async fn a_killed_connection_is_made_again_before_anybody_is_told() {
    let server = server();
    let lab = connect(&server.url(), counting()).await;
    let reach = lab.redis.reach();
    // Old enough for the next attempt to be made at once.
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    server.command(&["CLIENT", "KILL", "TYPE", "normal"]);
    lab.until_answered(|| lab.count("a")).await;
    let answer = lab.redis.call(lab.count("a")).await.unwrap();
    assert!(number(&answer) >= 2);
    assert!(!reach.has_changed().unwrap());
}

#[tokio::test]
async fn a_primary_that_was_left_behind_is_refused() {
    let server = server();
    let lab = connect(&server.url(), counting()).await;
    lab.redis.call(lab.count("a")).await.unwrap();
    let mut reach = lab.redis.reach();
    let key = format!("{}:generation", lab.redis.tag(lab.interest("a").partition));
    // What a primary has that others have left: an older generation.
    server.command(&["HSET", &key, "g", "000000001aaa"]);
    let answer = lab.redis.call(lab.count("a")).await;
    assert_eq!(answer, Err(CallError::Distrusted));
    within(reach.wait_for(Option::is_some)).await.unwrap();
    assert_eq!(
        lab.redis.call(lab.count("a")).await,
        Err(CallError::OutOfReach)
    );
}

#[tokio::test]
async fn hubs_in_two_databases_do_not_hear_each_other() {
    let server = server();
    let mut lab = connect(&server.url(), counting()).await;
    let other = connect(&format!("{}/1", server.url()), counting()).await;
    lab.until_followed("a").await;
    other.redis.call(other.count("a")).await.unwrap();
    let calls = (0..2).map(|_| lab.count("a")).collect();
    for answer in lab.redis.call_all(calls).await {
        answer.unwrap();
    }
    assert_eq!(lab.hear("a", |number| number == 2).await, [1, 2]);
    assert_ne!(lab.announcements("a"), other.announcements("a"));
}
