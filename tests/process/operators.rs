//! What an operator sees: three nodes on a Redis, the balancer, the alerts and the configuration
//! of `deploy/`, a real Prometheus; a node killed, Redis frozen, a node drained under clients that count.

mod clients;
mod stage;

use rustix::process::Signal;

use self::{clients::Crowd, stage::Stage};

/// Clients; fewer than one address may hold at the balancer.
const CROWD: usize = 30;

const CONNECTIONS: &str = "sum(tidewire_connections)";
const NODES: &str = "count(up{job=\"tidewire\"} == 1)";
const RESUMED: &str = "sum(tidewire_resumes_total{outcome=\"resumed\"})";
const NODE_DOWN: &str =
    "count(ALERTS{alertname=\"TidewireNodeDown\", alertstate=\"firing\"}) or vector(0)";
const BROKER_DOWN: &str =
    "count(ALERTS{alertname=\"TidewireBrokerDown\", alertstate=\"firing\"}) or vector(0)";

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_tells_of_a_killed_node_a_frozen_redis_a_drained_node_and_no_gap() {
    let everyone = CROWD as f64;
    let mut stage = Stage::start().await;
    stage.until(NODES, |nodes| nodes == 3.0).await;
    stage
        .until("min(tidewire_broker_config_safe)", |safe| safe == 1.0)
        .await;
    let crowd = Crowd::join(&stage, CROWD).await;
    stage.until(CONNECTIONS, |sum| sum == everyone).await;
    stage
        .until("min(tidewire_connections)", |fewest| fewest >= 8.0)
        .await;
    stage
        .until("sum(tidewire_publications_total)", |count| count > 0.0)
        .await;
    stage
        .until("min(tidewire_delivery_seconds_count)", |count| count > 0.0)
        .await;
    // One machine has one clock.
    stage
        .until("max(abs(tidewire_broker_clock_offset_seconds))", |apart| {
            apart < 0.25
        })
        .await;

    let held = stage.connections_of(0).await;
    stage.kill(0);
    stage.until(NODE_DOWN, |firing| firing == 1.0).await;
    stage.until(CONNECTIONS, |sum| sum == everyone).await;
    stage.until(RESUMED, |count| count >= held).await;
    stage.start_node(0);
    stage.until(NODES, |nodes| nodes == 3.0).await;
    stage.until(NODE_DOWN, |firing| firing == 0.0).await;

    let resumed = stage.number(RESUMED).await;
    stage.signal_redis(Signal::STOP);
    stage.until(BROKER_DOWN, |firing| firing == 3.0).await;
    assert_eq!(stage.number(CONNECTIONS).await, Some(everyone), "they stay");
    stage.signal_redis(Signal::CONT);
    stage.until(BROKER_DOWN, |firing| firing == 0.0).await;
    assert_eq!(stage.number(RESUMED).await, resumed, "nobody had to resume");

    // A node takes its counters with it.
    let stay = format!(
        "sum(tidewire_resumes_total{{outcome=\"resumed\", instance!=\"{}\"}})",
        stage.instance(1)
    );
    let (held, resumed) = (stage.connections_of(1).await, stage.number(&stay).await);
    assert!(held >= 8.0, "{held} connections to drain");
    stage.signal(1, Signal::TERM);
    assert_eq!(stage.ended(1).await.code(), Some(0));
    stage.until(NODES, |nodes| nodes == 2.0).await;
    stage.until(CONNECTIONS, |sum| sum == everyone).await;
    let moved = resumed.unwrap_or_default() + held;
    stage.until(&stay, |count| count >= moved).await;

    crowd.everything_arrived_once().await;
    for never in [
        "sum(tidewire_gaps_total)",
        "sum(tidewire_rewinds_total)",
        "sum(tidewire_invariant_violations_total)",
        "tidewire:resumes_with_gap:ratio_rate5m",
    ] {
        stage.until(never, |count| count == 0.0).await;
    }
    stage
        .until("sum(haproxy_backend_active_servers)", |count| count == 4.0)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_balancer_holds_one_address_to_a_hundred_connections() {
    let stage = Stage::start().await;
    let mut sockets = Vec::new();
    for _ in 0..100 {
        sockets.push(stage.upgrade().await.expect("one of the first hundred"));
    }
    assert_eq!(stage.upgrade().await.unwrap_err(), 429);
    drop(sockets);
    stage.until(CONNECTIONS, |sum| sum == 0.0).await;
    stage.upgrade().await.expect("there is room again");
}
