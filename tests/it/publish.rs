//! What clients publish, what comes of it, and what is refused.

use serde_json::{Value, json};

use crate::support::{CONFIG, Client, ENCODINGS, JSON, MSGPACK, TestNode, now_s, token_with};

#[tokio::test]
async fn a_publication_is_acknowledged_with_its_position_and_comes_back_to_its_writer() {
    let node = TestNode::start().await;
    let mut client = node.client("ada").await;
    let ok = client.sub("news", json!({})).await;
    client.expect("live").await;
    let wish = json!({"d": {"a": [1, 2.5, null, "x"]}, "ev": "said", "id": "p1", "k": "key", "ttl": 60_000});
    let done = client.publish_with("news", wish).await;
    assert_eq!((&done["e"], &done["o"]), (&ok["e"], &json!(1)));
    assert!(done.get("dup").is_none());
    let msg = client.expect("msg").await;
    let ts = msg["ts"].as_u64().unwrap();
    assert!(ts / 1000 <= now_s() && ts / 1000 + 5 >= now_s());
    assert_eq!(
        msg,
        json!({"t": "msg", "ch": "news", "o": 1, "d": {"a": [1, 2.5, null, "x"]}, "k": "key", "ev": "said",
               "id": "p1", "ts": ts, "by": "ada", "exp": ts + 60_000})
    );
}

#[tokio::test]
async fn an_id_is_applied_once_for_each_channel_and_publisher() {
    let mut node = TestNode::start().await;
    let mut ada = node.client("ada").await;
    let mut again = node.client("ada").await;
    let mut bob = node.client("bob").await;
    let once = |data: Value| json!({"id": "p1", "d": data});
    let first = ada.publish_with("news", once(json!({"a": 1}))).await;
    for client in [&mut ada, &mut again] {
        let repeated = client.publish_with("news", once(json!({"a": 1}))).await;
        assert_eq!(
            (&repeated["o"], &repeated["dup"]),
            (&json!(1), &json!(true))
        );
        assert_eq!(repeated["e"], first["e"]);
        let conflict = client
            .refused(json!({"t": "pub", "ch": "news", "id": "p1", "d": 2}))
            .await;
        assert_eq!(conflict, (409, "id_conflict".to_owned()));
    }
    assert_eq!(bob.publish_with("news", once(json!(2))).await["o"], 2);
    assert_eq!(ada.publish_with("small:x", once(json!(2))).await["o"], 1);
    node.restart().await;
    let mut ada = node.client("ada").await;
    let repeated = ada.publish_with("news", once(json!({"a": 1}))).await;
    assert_eq!(
        (&repeated["o"], &repeated["dup"]),
        (&json!(1), &json!(true))
    );
}

#[tokio::test]
async fn an_id_is_looked_up_before_the_guard() {
    let node = TestNode::start().await;
    let mut client = node.client("ada").await;
    let guarded = json!({"id": "p1", "d": 1, "if": {"o": 0}});
    assert_eq!(client.publish_with("news", guarded.clone()).await["o"], 1);
    assert_eq!(client.publish_with("news", guarded).await["dup"], true);
}

#[tokio::test]
async fn a_guard_holds_only_for_the_very_last_publication() {
    let node = TestNode::start().await;
    let mut client = node.client("ada").await;
    for (channel, key) in [("news", None), ("orders:1", Some("a"))] {
        let publish = |guard: Value| {
            let mut frame = json!({"t": "pub", "ch": channel, "d": 1, "if": guard});
            if let Some(key) = key {
                frame["k"] = json!(key);
            }
            frame
        };
        let first = client.ask(publish(json!({"o": 0}))).await;
        assert_eq!(first["o"], 1);
        let refused = client.ask(publish(json!({"o": 0}))).await;
        assert_eq!(
            (&refused["code"], &refused["name"]),
            (&json!(412), &json!("precondition_failed"))
        );
        assert_eq!((&refused["e"], &refused["o"]), (&first["e"], &json!(1)));
        assert!(refused.get("retry").is_none());
        let wrong_epoch = client.ask(publish(json!({"e": "another", "o": 1}))).await;
        assert_eq!(wrong_epoch["code"], 412);
        let second = client.ask(publish(json!({"e": first["e"], "o": 1}))).await;
        assert_eq!(second["o"], 2);
        let stale = client.ask(publish(json!({"e": first["e"], "o": 1}))).await;
        assert_eq!((&stale["code"], &stale["o"]), (&json!(412), &json!(2)));
    }
    client
        .publish_with("orders:1", json!({"k": "a", "del": true}))
        .await;
    let absent = client
        .publish_with("orders:1", json!({"k": "a", "d": 2, "if": {"o": 0}}))
        .await;
    assert_eq!(absent["t"], "ok", "a removed key is absent: {absent}");
    let unknown = client
        .publish_with(
            "orders:2",
            json!({"k": "a", "d": 2, "if": {"e": "x", "o": 3}}),
        )
        .await;
    assert_eq!(unknown["code"], 412);
}

#[tokio::test]
async fn a_removed_key_leaves_a_tombstone_and_comes_back_when_published() {
    let node = TestNode::start().await;
    let mut client = node.client("ada").await;
    client.sub("orders:1", json!({})).await;
    client
        .publish_with("orders:1", json!({"k": "a", "d": 1}))
        .await;
    client
        .publish_with("orders:1", json!({"k": "a", "del": true}))
        .await;
    let msg = client.find(|frame| frame["del"] == true).await;
    assert_eq!((&msg["k"], msg.get("d")), (&json!("a"), None));
    let page = client.ask(json!({"t": "state", "ch": "orders:1"})).await;
    assert_eq!(page["items"], json!([]));
    client
        .publish_with("orders:1", json!({"k": "a", "d": 3}))
        .await;
    let page = client.ask(json!({"t": "state", "ch": "orders:1"})).await;
    assert_eq!(page["items"][0]["d"], 3);
    let no_key = client
        .refused(json!({"t": "pub", "ch": "orders:1", "del": true}))
        .await;
    assert_eq!(no_key.0, 400);
}

#[tokio::test]
async fn a_life_of_any_length_ends_at_an_instant_clients_can_hold() {
    let node = TestNode::start().await;
    let mut client = node.client("ada").await;
    client.sub("news", json!({})).await;
    for ttl in [1, 9_007_199_254_740_991_u64] {
        client
            .publish_with("news", json!({"d": 1, "ttl": ttl}))
            .await;
        let msg = client.find(|frame| frame["t"] == "msg").await;
        let exp = msg["exp"].as_u64().unwrap();
        assert!(
            exp > msg["ts"].as_u64().unwrap() && exp <= 9_007_199_254_740_991,
            "{msg}"
        );
    }
    let zero = client
        .refused(json!({"t": "pub", "ch": "news", "d": 1, "ttl": 0}))
        .await;
    assert_eq!(zero.0, 400);
}

#[tokio::test]
async fn bytes_and_data_are_the_same_in_both_encodings() {
    let node = TestNode::start().await;
    let mut clients = Vec::new();
    for protocol in ENCODINGS {
        let mut client = Client::connect_as(node.address(), protocol).await;
        client.hello("ada", json!({})).await;
        client.sub("news", json!({})).await;
        client.expect("live").await;
        clients.push(client);
    }
    let payloads = [
        json!({"b": "AAECAwT/"}),
        json!({"b": ""}),
        json!({"d": null}),
        json!({"d": {"n": [0, -1, 9_007_199_254_740_991_i64, 1.5, 1e300], "t": "\u{1F600}\u{0}\n\"\\", "": {}}}),
        json!({"d": "x".repeat(40_000)}),
        json!({"b": "/".repeat(60_000)}),
    ];
    let mut offset = 0;
    for writer in 0..2 {
        for payload in &payloads {
            offset += 1;
            assert_eq!(
                clients[writer].publish_with("news", payload.clone()).await["o"],
                offset
            );
            for client in &mut clients {
                let msg = client.find(|frame| frame["t"] == "msg").await;
                assert_eq!(msg["o"], offset);
                assert_eq!(
                    (msg.get("d"), msg.get("b")),
                    (payload.get("d"), payload.get("b"))
                );
            }
        }
    }
}

#[tokio::test]
async fn publications_of_a_connection_keep_their_order_under_pipelining() {
    let node = TestNode::start().await;
    let mut reader = node.client("ada").await;
    reader.sub("news", json!({})).await;
    reader.expect("live").await;
    let mut writers = Vec::new();
    for (user, protocol) in [("w0", JSON), ("w1", MSGPACK), ("w2", JSON)] {
        let mut writer = Client::connect_as(node.address(), protocol).await;
        writer.hello(user, json!({})).await;
        writers.push(tokio::spawn(async move {
            for batch in 0..10 {
                let frames: Vec<Value> = (0..20)
                    .map(|n| json!({"t": "pub", "ch": "news", "d": 20 * batch + n}))
                    .collect();
                writer.send_all(&frames).await;
            }
            writer
        }));
    }
    let mut next = std::collections::BTreeMap::new();
    for offset in 1..=600 {
        let msg = reader.expect("msg").await;
        assert_eq!(msg["o"], offset);
        let expected = next
            .entry(msg["by"].as_str().unwrap().to_owned())
            .or_insert(0);
        assert_eq!(msg["d"], *expected);
        *expected += 1;
    }
    for writer in writers {
        writer.await.unwrap();
    }
}

#[tokio::test]
async fn what_is_too_large_or_not_allowed_says_why() {
    let node = TestNode::start().await;
    let mut client = node.client("ada").await;
    for (more, code, name) in [
        (
            json!({"ch": "news", "d": "x".repeat(50_000)}),
            413,
            "too_large",
        ),
        (
            json!({"ch": "news", "b": "A".repeat(72_000)}),
            413,
            "too_large",
        ),
        (json!({"ch": "nowhere:1", "d": 1}), 404, "unknown_channel"),
        (
            json!({"ch": "$presence:chat:x", "k": "ada/1", "d": 1}),
            403,
            "forbidden",
        ),
        (
            json!({"ch": "$presence:chat:x", "k": "ada/1", "del": true}),
            403,
            "forbidden",
        ),
        (json!({"ch": "news"}), 400, "bad_request"),
        (
            json!({"ch": "news", "d": 1, "b": "AA=="}),
            400,
            "bad_request",
        ),
        (json!({"ch": "news", "b": "not base64"}), 400, "bad_request"),
        (json!({"ch": "news", "d": 1, "k": ""}), 400, "bad_request"),
        (
            json!({"ch": "news", "d": 1, "id": "x".repeat(129)}),
            400,
            "bad_request",
        ),
        (
            json!({"ch": "news", "d": 1, "ev": "a\nb"}),
            400,
            "bad_request",
        ),
        (json!({"ch": "news", "d": 1, "ttl": -1}), 400, "bad_request"),
        (json!({"ch": "news", "d": 1, "if": {}}), 400, "bad_request"),
        (
            json!({"ch": "news", "d": 1, "if": {"o": 4}}),
            400,
            "bad_request",
        ),
        (json!({"ch": 7, "d": 1}), 400, "bad_request"),
    ] {
        let frame = crate::support::with(json!({"t": "pub"}), &more);
        assert_eq!(client.refused(frame).await, (code, name.to_owned()));
    }
    assert_ne!(
        client
            .ask(json!({"t": "pub", "ch": "$sys:nodes", "d": 1}))
            .await["t"],
        "ok"
    );
    let head = client.publish("news", json!(1)).await;
    assert_eq!(head["o"], 1, "nothing that was refused left a trace");
}

#[tokio::test]
async fn without_the_right_nothing_is_published() {
    let node = TestNode::start().await;
    let mut client = Client::connect(node.address()).await;
    let can = json!({"news": ["sub", "history"], "orders:*": ["pub"]});
    let token = token_with(json!({"sub": "ada", "exp": now_s() + 60, "can": can}));
    client.send(json!({"t": "hello", "token": token})).await;
    client.expect("welcome").await;
    assert_eq!(
        client
            .refused(json!({"t": "pub", "ch": "news", "d": 1}))
            .await
            .0,
        403
    );
    assert_eq!(
        client
            .refused(json!({"t": "pub", "ch": "news:x", "d": 1}))
            .await
            .0,
        404
    );
    assert_eq!(
        client
            .refused(json!({"t": "sub", "ch": "orders:1"}))
            .await
            .0,
        403
    );
    client.publish("orders:1", json!(1)).await;
    client.sub("news", json!({})).await;
}

#[tokio::test]
async fn a_publisher_past_its_rate_is_told_when_to_come_back() {
    let config = CONFIG.replacen("max_rate = \"100000/s\"", "max_rate = \"10/s\"", 1);
    let node = TestNode::with(&config).await;
    let mut client = node.client("ada").await;
    let mut limited = 0;
    for n in 0..20 {
        let answer = client.publish_with("news", json!({"d": n})).await;
        if answer["t"] == "error" {
            assert_eq!(
                (&answer["code"], &answer["name"]),
                (&json!(429), &json!("rate_limited"))
            );
            assert!((1..=1000).contains(&answer["retry"].as_u64().unwrap()));
            limited += 1;
        }
    }
    assert!((5..=10).contains(&limited), "{limited}");
    assert_eq!(client.publish("orders:1", json!(1)).await["o"], 1);
}

#[tokio::test]
async fn a_full_state_takes_no_new_key_until_one_goes() {
    let config = CONFIG.replace(
        "history_size = 4\nhistory_ttl = \"1h\"\nstate = true",
        "state = true\nstate_keys = 3",
    );
    let node = TestNode::with(&config).await;
    let mut client = node.client("ada").await;
    for key in ["a", "b", "c"] {
        client
            .publish_with("tiny:x", json!({"k": key, "d": 1}))
            .await;
    }
    let refused = client
        .refused(json!({"t": "pub", "ch": "tiny:x", "k": "d", "d": 1}))
        .await;
    assert_eq!(refused, (413, "state_full".to_owned()));
    assert_eq!(
        client
            .publish_with("tiny:x", json!({"k": "a", "d": 2}))
            .await["t"],
        "ok"
    );
    assert_eq!(
        client.publish_with("tiny:x", json!({"d": "no key"})).await["t"],
        "ok"
    );
    client
        .publish_with("tiny:x", json!({"k": "b", "del": true}))
        .await;
    assert_eq!(
        client
            .publish_with("tiny:x", json!({"k": "d", "d": 1}))
            .await["t"],
        "ok"
    );
}
