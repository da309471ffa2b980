//! Where a subscription begins, how it is moved and ended.

use serde_json::{Value, json};

use crate::support::{CONFIG, Client, ENCODINGS, TestNode};

async fn fill(node: &TestNode, channel: &str, count: u64) -> Client {
    let mut writer = node.client("bob").await;
    let many: Vec<Value> = (1..=count)
        .map(|n| json!({"t": "pub", "ch": channel, "d": n}))
        .collect();
    for batch in many.chunks(500) {
        writer.send_all(batch).await;
    }
    writer.drained().await;
    writer
}

fn offsets(frames: &[Value], kind: &str) -> Vec<u64> {
    let of_kind = frames.iter().filter(|frame| frame["t"] == kind);
    of_kind.map(|frame| frame["o"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn from_now_brings_nothing_old() {
    let node = TestNode::start().await;
    let mut writer = fill(&node, "news", 5).await;
    let mut client = node.client("ada").await;
    let ok = client.sub("news", json!({})).await;
    assert_eq!((&ok["rec"], &ok["o"]), (&json!("fresh"), &json!(5)));
    let live = client.expect("live").await;
    assert_eq!((&live["o"], &live["n"]), (&json!(5), &json!(0)));
    writer.publish("news", json!(6)).await;
    assert_eq!(client.expect("msg").await["o"], 6);
}

#[tokio::test]
async fn last_n_brings_what_there_is_and_no_false_gap() {
    let node = TestNode::start().await;
    fill(&node, "news", 5).await;
    fill(&node, "small:x", 50).await;
    for protocol in ENCODINGS {
        let mut client = Client::connect_as(node.address(), protocol).await;
        client.hello("ada", json!({})).await;
        for (channel, last, expected) in [
            ("news", 2, 4..6),
            ("news", 1000, 1..6),
            ("small:x", 3, 48..51),
            ("small:x", 40, 47..51),
            ("volatile:x", 10, 0..0),
        ] {
            let ok = client.sub(channel, json!({"last": last})).await;
            assert_eq!(ok["rec"], "fresh");
            let mut frames = Vec::new();
            let live = loop {
                let frame = client.frame().await;
                if frame["t"] == "live" {
                    break frame;
                }
                frames.push(frame);
            };
            let expected: Vec<u64> = expected.collect();
            assert_eq!(offsets(&frames, "msg"), expected, "{channel} {last}");
            assert_eq!(frames.len(), expected.len(), "{frames:?}");
            assert_eq!(live["n"], expected.len());
            client.ask(json!({"t": "unsub", "ch": channel})).await;
        }
    }
}

#[tokio::test]
async fn last_n_of_an_expired_history_is_no_gap() {
    let config = CONFIG.replace(
        "history_size = 4\nhistory_ttl = \"1h\"",
        "history_size = 4\nhistory_ttl = \"100ms\"",
    );
    let node = TestNode::with(&config).await;
    let mut writer = fill(&node, "small:x", 4).await;
    let begun = std::time::Instant::now();
    while begun.elapsed().as_millis() < 150 {
        writer.drained().await;
    }
    let mut client = node.client("ada").await;
    let ok = client.sub("small:x", json!({"last": 4})).await;
    assert_eq!(ok["o"], 4);
    assert_eq!(client.expect("live").await["n"], 0);
}

#[tokio::test]
async fn last_n_reads_history_the_tail_does_not_hold() {
    let node = TestNode::start().await;
    fill(&node, "news", 700).await;
    let mut client = node.client("ada").await;
    client.sub("news", json!({"last": 600})).await;
    for n in 101..=700 {
        assert_eq!(client.expect("msg").await["o"], n);
    }
    assert_eq!(client.expect("live").await["n"], 600);
}

#[tokio::test]
async fn a_snapshot_comes_in_pages_of_rising_offsets_without_what_is_gone() {
    let node = TestNode::start().await;
    let mut writer = node.client("bob").await;
    let keys: Vec<Value> = (0..700)
        .map(|n| json!({"t": "pub", "ch": "orders:1", "k": format!("k{n}"), "d": n}))
        .collect();
    writer.send_all(&keys).await;
    writer
        .publish_with("orders:1", json!({"k": "k5", "del": true}))
        .await;
    writer
        .publish_with("orders:1", json!({"k": "k6", "d": "again"}))
        .await;
    writer
        .publish_with("orders:1", json!({"k": "short", "d": 1, "ttl": 1}))
        .await;
    let ok = writer
        .publish_with("orders:1", json!({"k": "long", "d": 1, "ttl": 60_000}))
        .await;
    let head = ok["o"].as_u64().unwrap();
    assert_eq!(head, 704);
    let begun = std::time::Instant::now();
    while begun.elapsed().as_millis() < 5 {
        writer.drained().await;
    }
    for protocol in ENCODINGS {
        let mut client = Client::connect_as(node.address(), protocol).await;
        client.hello("ada", json!({})).await;
        let ok = client.sub("orders:1", json!({"state": true})).await;
        assert_eq!((&ok["rec"], &ok["o"]), (&json!("fresh"), &json!(head)));
        let (mut items, mut pages) = (Vec::new(), 0);
        loop {
            let page = client.expect("state").await;
            items.extend(page["items"].as_array().unwrap().clone());
            pages += 1;
            if page["more"] == false {
                break;
            }
        }
        assert!(pages > 1);
        assert_eq!(client.expect("live").await["n"], 0);
        let offsets: Vec<u64> = items
            .iter()
            .map(|item| item["o"].as_u64().unwrap())
            .collect();
        assert!(offsets.is_sorted_by(|a, b| a < b));
        let keys: std::collections::BTreeSet<_> = items
            .iter()
            .map(|item| item["k"].as_str().unwrap())
            .collect();
        assert_eq!((keys.len(), items.len()), (700, 700));
        assert!(!keys.contains("k5") && !keys.contains("short"));
        let long = items.iter().find(|item| item["k"] == "long").unwrap();
        assert_eq!(
            long["exp"].as_u64().unwrap(),
            long["ts"].as_u64().unwrap() + 60_000
        );
        assert!(items.iter().all(|item| item["e"] == ok["e"]));
    }
}

#[tokio::test]
async fn a_snapshot_of_an_empty_channel_is_one_empty_page() {
    let node = TestNode::start().await;
    let mut client = node.client("ada").await;
    client.sub("orders:1", json!({"state": true})).await;
    let page = client.expect("state").await;
    assert_eq!((&page["items"], &page["more"]), (&json!([]), &json!(false)));
    client.expect("live").await;
}

#[tokio::test]
async fn state_follows_a_position_that_history_no_longer_reaches() {
    let node = TestNode::start().await;
    let mut writer = node.client("bob").await;
    let mut client = node.client("ada").await;
    let ok = client.sub("tiny:x", json!({})).await;
    client.ask(json!({"t": "unsub", "ch": "tiny:x"})).await;
    for n in 1..=20 {
        writer
            .publish_with("tiny:x", json!({"k": format!("k{}", n % 10), "d": n}))
            .await;
    }
    client.drained().await;
    let begun = client
        .sub("tiny:x", json!({"e": ok["e"], "o": 0, "state": true}))
        .await;
    assert_eq!((&begun["rec"], &begun["o"]), (&json!("full"), &json!(0)));
    let mut frames = Vec::new();
    loop {
        let frame = client.frame().await;
        let done = frame["t"] == "live";
        frames.push(frame);
        if done {
            break;
        }
    }
    if frames[0]["t"] == "gap" {
        assert_eq!(
            (&frames[0]["from"], &frames[0]["to"]),
            (&json!(1), &json!(16))
        );
        let items = frames[1]["items"].as_array().unwrap();
        let state: Vec<_> = items
            .iter()
            .map(|item| item["o"].as_u64().unwrap())
            .collect();
        assert_eq!(state, (11..=16).collect::<Vec<u64>>());
        assert_eq!(offsets(&frames, "msg"), [17, 18, 19, 20]);
    } else {
        assert_eq!(offsets(&frames, "msg"), (1..=20).collect::<Vec<u64>>());
    }
}

#[tokio::test]
async fn a_gap_names_exactly_what_is_gone_and_the_next_message_follows_it() {
    let mut node = TestNode::start().await;
    fill(&node, "small:x", 1).await;
    let mut client = node.client("ada").await;
    let ok = client.sub("small:x", json!({})).await;
    fill(&node, "small:x", 9).await;
    drop(client);
    node.restart().await;
    for protocol in ENCODINGS {
        let mut client = Client::connect_as(node.address(), protocol).await;
        client.hello("ada", json!({})).await;
        let begun = client.sub("small:x", json!({"e": ok["e"], "o": 1})).await;
        assert_eq!((&begun["rec"], &begun["o"]), (&json!("full"), &json!(1)));
        let gap = client.expect("gap").await;
        assert_eq!(
            (&gap["from"], &gap["to"], &gap["reason"]),
            (&json!(2), &json!(6), &json!("expired"))
        );
        for n in 7..=10 {
            assert_eq!(client.expect("msg").await["o"], n);
        }
        let live = client.expect("live").await;
        assert_eq!((&live["o"], &live["n"]), (&json!(10), &json!(4)));
    }
}

#[tokio::test]
async fn a_position_not_on_the_log_starts_over() {
    let node = TestNode::start().await;
    let mut writer = fill(&node, "news", 3).await;
    let epoch = writer.publish("news", json!(4)).await["e"].clone();
    let mut client = node.client("ada").await;
    for (e, o) in [
        (json!("another"), 2),
        (epoch.clone(), 5),
        (epoch, 9_007_199_254_740_991_u64),
    ] {
        let ok = client.sub("news", json!({"e": e, "o": o})).await;
        assert_eq!((&ok["rec"], &ok["o"]), (&json!("reset"), &json!(4)));
        assert_eq!(client.expect("live").await["n"], 0);
        let ok = client.sub("news", json!({"e": e, "o": o, "last": 2})).await;
        assert_eq!((&ok["rec"], &ok["o"]), (&json!("reset"), &json!(2)));
        assert_eq!(client.expect("msg").await["o"], 3);
        assert_eq!(client.expect("msg").await["o"], 4);
        client.expect("live").await;
    }
}

#[tokio::test]
async fn a_deleted_channel_starts_over_under_its_readers() {
    let node = TestNode::start().await;
    let mut writer = node.client("bob").await;
    for protocol in ENCODINGS {
        let mut client = Client::connect_as(node.address(), protocol).await;
        client.hello("ada", json!({})).await;
        let first = client.sub("orders:1", json!({"state": true})).await;
        writer
            .publish_with("orders:1", json!({"k": "a", "d": 1}))
            .await;
        client.find(|frame| frame["t"] == "msg").await;
        client.drained().await;
        node.delete("orders:1").await;
        let reset = client.expect("ok").await;
        assert!(reset.get("i").is_none());
        assert_eq!((&reset["rec"], &reset["o"]), (&json!("reset"), &json!(0)));
        assert_ne!(reset["e"], first["e"]);
        assert_eq!(client.expect("state").await["items"], json!([]));
        client.expect("live").await;
        writer
            .publish_with("orders:1", json!({"k": "b", "d": 2}))
            .await;
        assert_eq!(client.expect("msg").await["o"], 1);
        client.ask(json!({"t": "unsub", "ch": "orders:1"})).await;
    }
}

#[tokio::test]
async fn a_channel_without_history_tells_what_its_reader_missed() {
    let node = TestNode::start().await;
    let mut writer = node.client("bob").await;
    let epoch = writer.publish("volatile:x", json!(1)).await["e"].clone();
    for n in 2..=5 {
        writer.publish("volatile:x", json!(n)).await;
    }
    let mut client = node.client("ada").await;
    let ok = client.sub("volatile:x", json!({"e": epoch, "o": 2})).await;
    assert_eq!(ok["rec"], "full");
    let gap = client.expect("gap").await;
    assert_eq!(
        (&gap["from"], &gap["to"], &gap["reason"]),
        (&json!(3), &json!(5), &json!("not_kept"))
    );
    client.expect("live").await;
    writer.publish("volatile:x", json!(6)).await;
    assert_eq!(client.expect("msg").await["o"], 6);
}

#[tokio::test]
async fn a_gap_of_a_channel_without_history_is_healed_by_its_state() {
    let node = TestNode::start().await;
    let mut writer = node.client("bob").await;
    let mut epoch = Value::Null;
    for n in 1..=5 {
        epoch = writer
            .publish_with("bare:x", json!({"k": "a", "d": n}))
            .await["e"]
            .clone();
    }
    let mut client = node.client("ada").await;
    client
        .sub("bare:x", json!({"e": epoch, "o": 1, "state": true}))
        .await;
    assert_eq!(client.expect("gap").await["to"], 5);
    assert_eq!(client.expect("state").await["items"][0]["d"], 5);
    assert_eq!(client.expect("live").await["o"], 5);
}

#[tokio::test]
async fn a_sub_with_a_start_moves_the_cursor_of_one_that_is_held() {
    let node = TestNode::start().await;
    fill(&node, "news", 10).await;
    let mut client = node.client("ada").await;
    let ok = client.sub("news", json!({})).await;
    client.expect("live").await;
    let moved = client.sub("news", json!({"e": ok["e"], "o": 7})).await;
    assert_eq!((&moved["rec"], &moved["o"]), (&json!("full"), &json!(7)));
    for n in 8..=10 {
        assert_eq!(client.expect("msg").await["o"], n);
    }
    assert_eq!(client.expect("live").await["n"], 3);
    client.sub("news", json!({"last": 1})).await;
    assert_eq!(client.expect("msg").await["o"], 10);
    client.expect("live").await;
    client.publish("news", json!(11)).await;
    assert_eq!(client.expect("msg").await["o"], 11);
    assert_eq!(client.drained().await, Vec::<Value>::new());
}

#[tokio::test]
async fn wishes_are_replaced_in_place_and_answered_like_any_sub() {
    let node = TestNode::start().await;
    let mut client = node.client("ada").await;
    client.sub("orders:1", json!({})).await;
    client.expect("live").await;
    for (n, wish) in [
        json!({"mode": "latest"}),
        json!({"mode": "latest", "hz": 1000}),
        json!({"mode": "every"}),
        json!({"mode": "every", "hz": 1000}),
    ]
    .into_iter()
    .enumerate()
    {
        let ok = client.sub("orders:1", wish).await;
        assert_eq!((&ok["rec"], &ok["o"]), (&json!("full"), &json!(n)));
        let live = client.expect("live").await;
        assert_eq!((&live["o"], &live["n"]), (&json!(n), &json!(0)));
        client.publish("orders:1", json!(n)).await;
        assert_eq!(client.expect("msg").await["o"], n + 1);
    }
}

#[tokio::test]
async fn wishes_that_change_during_a_replay_do_not_announce_its_end() {
    let node = TestNode::start().await;
    let data = "x".repeat(2000);
    let mut writer = node.client("bob").await;
    let many: Vec<Value> = (0..40)
        .map(|_| json!({"t": "pub", "ch": "news", "d": data}))
        .collect();
    for _ in 0..20 {
        writer.send_all(&many).await;
    }
    writer.drained().await;
    let mut client = node.client("ada").await;
    client
        .send_all(&[
            json!({"t": "sub", "ch": "news", "i": 1001, "last": 800}),
            json!({"t": "sub", "ch": "news", "i": 1002, "hz": 1000}),
        ])
        .await;
    let mut seen = 0;
    while seen < 800 {
        let frame = client.frame().await;
        match frame["t"].as_str().unwrap() {
            "msg" => seen = frame["o"].as_u64().unwrap(),
            "live" => assert_eq!(seen, 800, "live before the replay ended: {frame}"),
            _ => {}
        }
    }
    client.find(|frame| frame["t"] == "live").await;
}

#[tokio::test]
async fn after_the_answer_to_unsub_nothing_comes_until_the_next_ok() {
    let node = TestNode::start().await;
    let mut writer = node.client("bob").await;
    let mut client = node.client("ada").await;
    for round in 0..20 {
        client.sub("news", json!({"last": 3})).await;
        let flood: Vec<Value> = (0..50)
            .map(|n| json!({"t": "pub", "ch": "news", "d": n}))
            .collect();
        writer.send_all(&flood).await;
        client
            .send(json!({"t": "unsub", "ch": "news", "i": 5000 + round}))
            .await;
        writer.drained().await;
        let all = client.drained().await;
        let answer = all
            .iter()
            .position(|frame| frame["i"] == 5000 + round)
            .unwrap();
        let mut after = all[answer..].iter().filter(|frame| frame["ch"] == "news");
        assert_eq!(after.next(), None);
    }
}

#[tokio::test]
async fn pipelined_changes_of_one_channel_take_effect_in_order() {
    let node = TestNode::start().await;
    for protocol in ENCODINGS {
        let mut client = Client::connect_as(node.address(), protocol).await;
        client.hello("ada", json!({})).await;
        let channel = format!("news-{protocol}");
        let mut frames = Vec::new();
        for n in 0..30 {
            frames.push(json!({"t": "sub", "ch": channel, "i": 1000 + 3 * n}));
            frames.push(json!({"t": "pub", "ch": channel, "d": n, "i": 1001 + 3 * n}));
            frames.push(json!({"t": "unsub", "ch": channel, "i": 1002 + 3 * n}));
        }
        frames.push(json!({"t": "sub", "ch": channel, "i": 2000}));
        frames.push(json!({"t": "sub", "ch": channel, "i": 2001, "last": 2}));
        client.send_all(&frames).await;
        client.publish(&channel, json!("end")).await;
        let all = client.drained().await;
        let answered: Vec<_> = all.iter().filter_map(|frame| frame["i"].as_u64()).collect();
        let expected: Vec<u64> = (1000..1090).chain([2000, 2001]).collect();
        assert_eq!(answered, expected);
        let after = all.iter().position(|frame| frame["i"] == 2001).unwrap();
        assert_eq!(offsets(&all[after..], "msg"), [29, 30, 31]);
        let mut open = false;
        for frame in &all {
            match (frame["t"].as_str().unwrap(), frame["i"].as_u64()) {
                ("ok", Some(i)) if i == 2000 || i % 3 == 1 => open = true,
                ("ok", Some(i)) if i < 2000 && i % 3 == 0 => open = false,
                ("msg", _) => assert!(open, "{frame}"),
                _ => {}
            }
        }
    }
}

#[tokio::test]
async fn a_session_holds_256_subscriptions_and_no_more() {
    let node = TestNode::start().await;
    let mut writer = node.client("bob").await;
    let mut client = node.client("ada").await;
    let subs: Vec<Value> = (0..300)
        .map(|n| json!({"t": "sub", "ch": format!("c{n}"), "i": 1000 + n}))
        .collect();
    let mut answers = Vec::new();
    for batch in subs.chunks(200) {
        client.send_all(batch).await;
        answers.extend(client.drained().await);
    }
    let granted = answers.iter().filter(|frame| frame["t"] == "ok").count();
    let refused: Vec<_> = answers
        .iter()
        .filter(|frame| frame["t"] == "error")
        .collect();
    assert_eq!((granted, refused.len()), (256, 44));
    assert!(refused.iter().all(|error| error["code"] == 413));
    for n in [0, 63, 64, 127, 128, 191, 192, 255] {
        writer.publish(&format!("c{n}"), json!(n)).await;
        assert_eq!(client.expect("msg").await["d"], n);
    }
    client.sub("c255", json!({"last": 1})).await;
    client.ask(json!({"t": "unsub", "ch": "c7"})).await;
    client.sub("c299", json!({})).await;
    assert_eq!(
        client.refused(json!({"t": "sub", "ch": "c298"})).await.0,
        413
    );
}

#[tokio::test]
async fn what_cannot_be_subscribed_says_why() {
    let node = TestNode::start().await;
    let mut client = node.client("ada").await;
    for (frame, code, name) in [
        (json!({"ch": "nowhere:1"}), 404, "unknown_channel"),
        (json!({"ch": "$sys:nodes"}), 404, "unknown_channel"),
        (json!({"ch": "news", "state": true}), 400, "bad_request"),
        (json!({"ch": "news", "mode": "latest"}), 400, "bad_request"),
        (json!({"ch": "news", "me": {}}), 400, "bad_request"),
        (
            json!({"ch": "orders:1", "state": true, "last": 3}),
            400,
            "bad_request",
        ),
        (json!({"ch": "news", "o": 3}), 400, "bad_request"),
        (json!({"ch": "news", "e": "x"}), 400, "bad_request"),
        (json!({"ch": "news", "hz": 0}), 400, "bad_request"),
        (json!({"ch": "news", "hz": 1001}), 400, "bad_request"),
        (
            json!({"ch": "news", "mode": "sometimes"}),
            400,
            "bad_request",
        ),
        (
            json!({"ch": "chat:x", "me": "x".repeat(2000)}),
            413,
            "too_large",
        ),
    ] {
        let asked = crate::support::with(json!({"t": "sub"}), &frame);
        assert_eq!(
            client.refused(asked).await,
            (code, name.to_owned()),
            "{frame}"
        );
    }
    let ok = client.ask(json!({"t": "unsub", "ch": "never had"})).await;
    assert_eq!(ok["t"], "ok");
}
