//! How publications are delivered: every one, the newest per key, at most so often.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use serde_json::{Value, json};

use crate::support::{Client, ENCODINGS, TestNode};

fn keyed(channel: &str, key: u64, data: impl Into<Value>) -> Value {
    let data: Value = data.into();
    json!({"t": "pub", "ch": channel, "k": format!("k{key}"), "d": data})
}

#[tokio::test]
async fn every_delivers_each_publication_where_latest_may_leave_some_out() {
    let node = TestNode::start().await;
    let mut writer = node.client("bob").await;
    let mut every = node.client("ada").await;
    let mut latest = node.client("eve").await;
    every.sub("orders:1", json!({})).await;
    latest.sub("orders:1", json!({"mode": "latest"})).await;
    for batch in 0..10 {
        let flood: Vec<Value> = (0..100)
            .map(|n| keyed("orders:1", n % 5, 100 * batch + n))
            .collect();
        writer.send_all(&flood).await;
    }
    every.expect("live").await;
    for n in 1..=1000 {
        assert_eq!(every.expect("msg").await["o"], n);
    }
    latest.expect("live").await;
    let (mut newest, mut offset) = (BTreeMap::new(), 0);
    while offset < 1000 {
        let msg = latest.expect("msg").await;
        assert!(msg["o"].as_u64().unwrap() > offset, "offsets rise: {msg}");
        offset = msg["o"].as_u64().unwrap();
        newest.insert(
            msg["k"].as_str().unwrap().to_owned(),
            msg["d"].as_u64().unwrap(),
        );
    }
    let expected: BTreeMap<_, _> = (0..5).map(|key| (format!("k{key}"), 995 + key)).collect();
    assert_eq!(newest, expected);
}

#[tokio::test]
async fn latest_resumes_with_the_newest_of_each_key_above_the_position() {
    let mut node = TestNode::start().await;
    let mut writer = node.client("bob").await;
    for n in 0..20 {
        writer
            .publish_with("orders:1", json!({"k": format!("k{}", n % 4), "d": n}))
            .await;
    }
    let ok = writer
        .publish_with("orders:1", json!({"d": "no key"}))
        .await;
    writer
        .publish_with("orders:1", json!({"k": "k0", "del": true}))
        .await;
    for restarted in [false, true] {
        if restarted {
            node.restart().await;
        }
        for protocol in ENCODINGS {
            let mut client = Client::connect_as(node.address(), protocol).await;
            client.hello("ada", json!({})).await;
            let wish = json!({"mode": "latest", "e": ok["e"], "o": 18});
            assert_eq!(client.sub("orders:1", wish).await["rec"], "full");
            let mut got = Vec::new();
            for _ in 0..4 {
                let msg = client.expect("msg").await;
                got.push((
                    msg["o"].as_u64().unwrap(),
                    msg["k"].clone(),
                    msg["del"].clone(),
                ));
            }
            let expected = [
                (19, json!("k2"), Value::Null),
                (20, json!("k3"), Value::Null),
                (21, Value::Null, Value::Null),
                (22, json!("k0"), json!(true)),
            ];
            assert_eq!(got, expected, "restarted: {restarted}");
            assert_eq!(client.expect("live").await["o"], 22);
            client.ask(json!({"t": "unsub", "ch": "orders:1"})).await;
        }
    }
}

#[tokio::test]
async fn hz_bounds_the_deliveries_and_still_ends_on_the_newest() {
    let node = TestNode::start().await;
    let mut writer = node.client("bob").await;
    let mut client = node.client("ada").await;
    client
        .sub("orders:1", json!({"mode": "latest", "hz": 20}))
        .await;
    client.expect("live").await;
    let begun = Instant::now();
    let mut last = 0;
    while begun.elapsed().as_millis() < 500 {
        last += 1;
        writer
            .publish_with("orders:1", json!({"k": "a", "d": last}))
            .await;
    }
    let mut deliveries = 0;
    loop {
        let msg = client.expect("msg").await;
        deliveries += 1;
        if msg["d"] == last {
            break;
        }
    }
    let most = begun.elapsed().as_millis() / 50 + 2;
    assert!((2..=most).contains(&deliveries), "{deliveries} of {last}");
}

#[tokio::test]
async fn a_delivery_at_a_slow_rate_brings_all_that_is_there() {
    let node = TestNode::start().await;
    let mut writer = node.client("bob").await;
    let mut client = node.client("ada").await;
    client
        .sub("orders:1", json!({"mode": "latest", "hz": 1}))
        .await;
    client.expect("live").await;
    let text = "x".repeat(400);
    let values: Vec<Value> = (0..300)
        .map(|n| keyed("orders:1", n, text.as_str()))
        .collect();
    for message in values.chunks(50) {
        writer.send_all(message).await;
    }
    writer.drained().await;
    let written = Instant::now();
    let mut keys = BTreeSet::new();
    while keys.len() < 300 {
        let msg = client.expect("msg").await;
        keys.insert(msg["k"].as_str().unwrap().to_owned());
    }
    // 130 KB in portions of one a second would take eight.
    assert!(written.elapsed().as_secs() < 4, "{:?}", written.elapsed());
}

#[tokio::test]
async fn hz_of_every_delays_but_leaves_nothing_out() {
    let node = TestNode::start().await;
    let mut writer = node.client("bob").await;
    let mut client = node.client("ada").await;
    client.sub("news", json!({"hz": 50})).await;
    client.expect("live").await;
    for n in 1..=200 {
        writer.publish("news", json!(n)).await;
    }
    for n in 1..=200 {
        assert_eq!(client.expect("msg").await["o"], n);
    }
}

#[tokio::test]
async fn hz_can_be_lifted_while_a_delivery_waits_for_it() {
    let node = TestNode::start().await;
    let mut client = node.client("ada").await;
    client.sub("news", json!({"hz": 1})).await;
    client.publish("news", json!(1)).await;
    client.find(|frame| frame["t"] == "msg").await;
    client.publish("news", json!(2)).await;
    let begun = Instant::now();
    client.sub("news", json!({})).await;
    client
        .find(|frame| frame["t"] == "msg" && frame["o"] == 2)
        .await;
    assert!(begun.elapsed().as_millis() < 700);
}

#[tokio::test]
async fn a_snapshot_of_a_moving_channel_and_what_follows_miss_nothing() {
    let node = TestNode::start().await;
    let mut writer = node.client("bob").await;
    let mut client = node.client("ada").await;
    for round in 0..10 {
        let channel = format!("orders:{round}");
        let before: Vec<Value> = (0..400).map(|n| keyed(&channel, n, n)).collect();
        writer.send_all(&before).await;
        writer.drained().await;
        let during: Vec<Value> = (0..400).map(|n| keyed(&channel, n, 1000 + n)).collect();
        writer.send_all(&during).await;
        let mode = if round % 2 == 0 { "latest" } else { "every" };
        let ok = client
            .sub(&channel, json!({"state": true, "mode": mode}))
            .await;
        writer.drained().await;
        let mut newest: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        let mut apply = |item: &Value| {
            let offset = item["o"].as_u64().unwrap();
            let value = (offset, item["d"].as_u64().unwrap());
            let held = newest
                .entry(item["k"].as_str().unwrap().to_owned())
                .or_default();
            if offset > held.0 {
                *held = value;
            }
        };
        let mut reached = ok["o"].as_u64().unwrap();
        loop {
            let frame = client.frame().await;
            match frame["t"].as_str().unwrap() {
                "state" => frame["items"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .for_each(&mut apply),
                "msg" => {
                    apply(&frame);
                    reached = frame["o"].as_u64().unwrap();
                }
                "live" => reached = reached.max(frame["o"].as_u64().unwrap()),
                other => panic!("{other}"),
            }
            if reached == 800 && frame["t"] != "state" {
                break;
            }
        }
        assert_eq!(newest.len(), 400);
        assert!(newest.values().all(|(_, data)| *data >= 1000));
        client.ask(json!({"t": "unsub", "ch": channel})).await;
        client.drained().await;
    }
}
