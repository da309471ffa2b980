//! The stage itself: a fault that does not happen proves nothing, so each is shown to be real
//! with plain keys and no hub at all.

use std::path::Path;

use crate::harness::{
    ask::ask,
    topology::{Layout, Topology},
};

async fn set(port: u16, key: &str) {
    let _: String = ask(port, &["SET", key, "1"]).await.unwrap();
}

async fn has(port: u16, key: &str) -> bool {
    let found: u64 = ask(port, &["EXISTS", key]).await.unwrap();
    found == 1
}

async fn primary_port(redis: &Topology) -> u16 {
    let (primary, _) = redis.primary_and_replica().await;
    redis.servers[primary].port
}

async fn start(layout: Layout, root: &Path) -> Topology {
    Topology::start(layout, root, 1, true).await
}

#[tokio::test]
async fn a_lagging_failover_loses_what_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut redis = start(Layout::Replicated, folder.path()).await;
    let front = redis.fronts[0].port();
    for round in 0..2 {
        let (kept, lost) = (format!("kept-{round}"), format!("lost-{round}"));
        set(front, &kept).await;
        redis.lag().await;
        set(front, &lost).await;
        let old = redis.kill_primary().await;
        redis.promote_by_hand(old).await;
        assert!(has(front, &kept).await);
        assert!(!has(front, &lost).await);
        redis.rejoin(old).await;
    }
}

#[tokio::test]
async fn sentinels_replace_a_killed_primary_and_a_frozen_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut redis = start(Layout::Sentinel, folder.path()).await;
    let before = primary_port(&redis).await;
    set(before, "kept").await;
    redis.lag().await;
    set(before, "lost").await;
    let old = redis.kill_primary().await;
    redis.promoted_by_sentinels(old).await;
    let after = primary_port(&redis).await;
    assert_ne!(before, after);
    assert!(has(after, "kept").await);
    assert!(!has(after, "lost").await);
    redis.rejoin(old).await;

    let (zombie, _) = redis.primary_and_replica().await;
    redis.servers[zombie].freeze();
    redis.promoted_by_sentinels(zombie).await;
    redis.servers[zombie].thaw();
    redis.rejoin(zombie).await;
}

#[tokio::test]
async fn a_slot_moves_with_its_keys_and_replicas_take_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut redis = start(Layout::Cluster, folder.path()).await;
    let slot: u16 = ask(redis.servers[0].port, &["CLUSTER", "KEYSLOT", "{p001}x"])
        .await
        .unwrap();
    let before = redis.owner(slot).await;
    for number in 0..10 {
        set(redis.servers[before].port, &format!("{{p001}}:{number}")).await;
    }
    assert_eq!(redis.slot_of("}:7").await, slot);
    redis.move_slot(slot).await;
    let after = redis.owner(slot).await;
    assert_ne!(before, after);
    assert!(has(redis.servers[after].port, "{p001}:9").await);

    let new = redis.fail_over(after, None).await;
    assert!(has(redis.servers[new].port, "{p001}:9").await);
    redis.is_whole().await;
    let replica = redis.follower_of(new).await;
    redis.servers[new].kill();
    redis.becomes_primary(replica).await;
    assert!(has(redis.servers[replica].port, "{p001}:9").await);
    redis.servers[new].restart().await;
    redis.is_whole().await;
}
