//! A primary and its replica: the barrier, and a failover that Sentinels make.

use super::{
    connect, counting, refusal,
    topologies::{Sentinels, pair},
    within,
};
use crate::redis::CallError;

#[tokio::test]
async fn a_failover_is_followed_and_everything_is_doubted() {
    let mut servers = Sentinels::start();
    let mut lab = connect(&servers.url(), counting()).await;
    lab.until_followed("a").await;
    lab.until_answered(|| lab.count("a")).await;
    let partition = lab.interest("a").partition;
    let generation = lab.redis.generation(partition).unwrap();
    lab.redis
        .replicated(partition, generation.as_str())
        .await
        .unwrap();
    lab.doubt(partition).await;
    let mut losses = lab.redis.losses();
    servers.primary.kill();
    within(losses.changed()).await.unwrap();
    lab.doubt(partition).await;
    assert!(lab.redis.generation(partition).unwrap() > generation);
    assert_eq!(
        lab.until_answered(|| lab.count("a")).await,
        2,
        "it was replicated"
    );
    lab.until_followed("a").await;
    let next = lab.until_answered(|| lab.count("a")).await;
    lab.hear("a", |number| number == next).await;
    within(lab.redis.reach().wait_for(Option::is_none))
        .await
        .unwrap();
    servers.replica.kill();
}

#[tokio::test]
async fn a_demoted_primary_is_left_though_it_still_answers() {
    let servers = Sentinels::start();
    let lab = connect(&servers.url(), counting()).await;
    lab.until_answered(|| lab.count("a")).await;
    let mut losses = lab.redis.losses();
    servers.fail_over();
    within(losses.changed()).await.unwrap();
    assert_eq!(lab.until_answered(|| lab.count("a")).await, 2);
}

#[tokio::test]
async fn the_barrier_passes_only_what_a_replica_has() {
    let (primary, replica) = pair();
    let lab = connect(&primary.url(), counting()).await;
    lab.redis.call(lab.count("a")).await.unwrap();
    let partition = lab.interest("a").partition;
    let generation = lab.redis.generation(partition).unwrap();
    let generation = generation.as_str();
    // The replica may still be reading what was there before.
    within(async { while lab.redis.replicated(partition, generation).await.is_err() {} }).await;
    let other = "000000000000";
    let refused = lab.redis.replicated(partition, other).await;
    assert_eq!(refused, Err(CallError::NotReplicated));
    replica.freeze();
    lab.redis.call(lab.count("a")).await.unwrap();
    let waiting = (0..50).map(|_| lab.redis.replicated(partition, generation));
    for refused in futures_util::future::join_all(waiting).await {
        assert_eq!(refused, Err(CallError::NotReplicated));
    }
    replica.thaw();
    within(async { while lab.redis.replicated(partition, generation).await.is_err() {} }).await;
}

#[tokio::test]
async fn a_replica_is_no_primary() {
    let (_primary, replica) = pair();
    let text = format!("{:?}", refusal(&replica.url()).await);
    assert!(text.contains("Replica"), "{text}");
}
