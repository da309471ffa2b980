//! Readers that do not read while much is published.

use std::{collections::BTreeMap, time::Instant};

use serde_json::{Value, json};

use crate::support::{CONFIG, Client, ENCODINGS, Resume, TestNode, token, with};

/// Publishes `count` times 20 kB to a channel, in batches as large as a message may be.
async fn flood(writer: &mut Client, channel: &str, count: u64) {
    let data = "x".repeat(20_000);
    let mut sent = 0;
    while sent < count {
        let frames: Vec<Value> = (sent..count.min(sent + 4))
            .map(|n| json!({"t": "pub", "ch": channel, "k": format!("k{}", n % 7), "ev": n.to_string(), "d": data}))
            .collect();
        sent += frames.len() as u64;
        writer.send_all(&frames).await;
    }
    writer.drained().await;
}

async fn stalled(node: &TestNode, protocol: &str, channel: &str, wish: &Value) -> Client {
    let mut client = Client::connect_slow(node.address(), protocol).await;
    client.hello("slow", json!({})).await;
    client.sub(channel, wish.clone()).await;
    client.expect("live").await;
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_do_not_read_hold_up_nobody_and_get_what_history_holds() {
    let config = CONFIG.replacen("history_size = 1000", "history_size = 50", 1);
    let node = TestNode::with(&config).await;
    let mut slow = Vec::new();
    for n in 0..20 {
        slow.push(stalled(&node, ENCODINGS[n % 2], "news", &json!({})).await);
    }
    let mut prompt = node.client("ada").await;
    prompt.sub("news", json!({})).await;
    prompt.expect("live").await;
    let mut writer = node.client("bob").await;
    let begun = Instant::now();
    for batch in 0..25 {
        flood(&mut writer, "news", 40).await;
        for n in 1..=40 {
            assert_eq!(prompt.expect("msg").await["o"], 40 * batch + n);
        }
    }
    assert!(begun.elapsed().as_secs() < 10);
    for mut client in slow {
        let (mut next, mut gaps, mut after_gap) = (1, 0, 0);
        while next <= 1000 {
            let frame = client.frame().await;
            match frame["t"].as_str().unwrap() {
                "msg" => {
                    assert_eq!(frame["o"], next);
                    next += 1;
                    after_gap += 1;
                }
                "gap" => {
                    assert_eq!(
                        (&frame["from"], &frame["reason"]),
                        (&json!(next), &json!("expired"))
                    );
                    next = frame["to"].as_u64().unwrap() + 1;
                    gaps += 1;
                    after_gap = 0;
                }
                other => panic!("{other}"),
            }
        }
        assert!(gaps >= 1 && after_gap >= 50, "{gaps} {after_gap}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_reader_of_latest_ends_on_the_newest_of_every_key() {
    let node = TestNode::start().await;
    let mut writer = node.client("bob").await;
    for protocol in ENCODINGS {
        let channel = format!("orders:{protocol}");
        let mut slow = stalled(&node, protocol, &channel, &json!({"mode": "latest"})).await;
        flood(&mut writer, &channel, 600).await;
        let (mut newest, mut offset, mut count) = (BTreeMap::new(), 0, 0);
        while offset < 600 {
            let msg = slow.expect("msg").await;
            assert!(msg["o"].as_u64().unwrap() > offset);
            offset = msg["o"].as_u64().unwrap();
            newest.insert(msg["k"].as_str().unwrap().to_owned(), msg["ev"].clone());
            count += 1;
        }
        assert!(count < 300, "{count} were not conflated");
        let expected: BTreeMap<_, _> = (593..600)
            .map(|n| (format!("k{}", n % 7), json!(n.to_string())))
            .collect();
        assert_eq!(newest, expected);
    }
}

#[tokio::test]
async fn a_reader_of_a_channel_without_history_that_falls_behind_is_told() {
    let config = CONFIG.replace("[limits]", "[limits]\ntail_bytes = \"256KiB\"");
    let node = TestNode::with(&config).await;
    let mut writer = node.client("bob").await;
    let mut slow = stalled(&node, ENCODINGS[0], "volatile:x", &json!({})).await;
    flood(&mut writer, "volatile:x", 200).await;
    let (mut next, mut gaps) = (1, 0);
    while next <= 200 {
        let frame = slow.frame().await;
        if frame["t"] == "gap" {
            assert_eq!(
                (&frame["from"], &frame["reason"]),
                (&json!(next), &json!("not_kept"))
            );
            next = frame["to"].as_u64().unwrap() + 1;
            gaps += 1;
        } else {
            assert_eq!((&frame["t"], &frame["o"]), (&json!("msg"), &json!(next)));
            next += 1;
        }
    }
    assert!(gaps >= 1);
}

#[tokio::test]
async fn a_stalled_reader_that_lost_its_session_is_told_once_it_reads() {
    let node = TestNode::start().await;
    let mut writer = node.client("bob").await;
    let mut slow = stalled(&node, ENCODINGS[0], "news", &json!({})).await;
    flood(&mut writer, "news", 100).await;
    let session = slow.resume();
    let attempt = Resume::next_attempt();
    let mut new = Client::connect(node.address()).await;
    let hello = json!({"t": "hello", "token": token("slow")});
    new.send(with(hello, &session.hello(attempt))).await;
    assert_eq!(new.expect("welcome").await["resumed"], true);
    let (code, bye) = slow.refused_with_bye().await;
    assert_eq!((code, &bye["attempt"]), (4409, &json!(attempt)));
    for n in 1..=100 {
        let msg = new.find(|frame| frame["t"] == "msg").await;
        assert_eq!(msg["o"], n);
    }
}

#[tokio::test]
async fn a_client_that_asks_and_does_not_read_is_not_read_from() {
    let node = TestNode::start().await;
    let mut writer = node.client("bob").await;
    flood(&mut writer, "news", 40).await;
    let mut greedy = Client::connect_slow(node.address(), ENCODINGS[0]).await;
    greedy.hello("ada", json!({})).await;
    let ask = json!({"t": "history", "ch": "news", "after": 0});
    for i in 1..=100 {
        greedy.send(with(ask.clone(), &json!({"i": i}))).await;
    }
    for i in 1..=100 {
        let page = greedy.expect("ok").await;
        assert_eq!(page["i"], i);
    }
}
