//! The scenarios of every test run: few clients, short faults, the same plan each time.

use std::path::PathBuf;

use crate::harness::{
    report,
    run::{Plan, run},
    scenario::named,
};

/// The scenario with few clients and a short fault; what it plans is the same every time.
async fn brief(name: &str, seed: u64) {
    let plan = Plan {
        clients: 40,
        publishers: 10,
        rate: 40.0,
        seconds: 6.0,
        progress: false,
        ..Plan::of(
            *named(name).unwrap(),
            seed,
            PathBuf::from(env!("CARGO_BIN_EXE_tidewire")),
        )
    };
    let outcome = run(&plan).await;
    eprintln!("{}\n{}", report::head(), report::row(&plan, &outcome));
    assert!(outcome.is_good(), "{}", report::details(&outcome));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_nodes_lose_and_repeat_nothing() {
    brief("node-kill", 11).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_killed_and_keeps_its_log_loses_and_repeats_nothing() {
    brief("redis-kill", 12).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn announcements_lost_each_second_are_repaired() {
    brief("pubsub-kill", 13).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_that_loses_its_tail_is_told_to_everyone_who_saw_it() {
    brief("lagging-failover", 14).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_under_load_loses_and_repeats_nothing() {
    brief("slot-move", 15).await;
}
