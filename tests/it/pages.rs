//! History and state, read in pages.

use serde_json::{Value, json};

use crate::support::{CONFIG, Client, ENCODINGS, TestNode, now_s, token_with};

fn offsets(page: &Value) -> Vec<u64> {
    let items = page["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| item["o"].as_u64().unwrap())
        .collect()
}

#[tokio::test]
async fn history_is_read_page_by_page_in_both_directions() {
    let node = TestNode::start().await;
    let mut writer = node.client("bob").await;
    for n in 1..=25 {
        writer
            .publish_with("news", json!({"d": n, "ev": "n"}))
            .await;
    }
    for protocol in ENCODINGS {
        let mut client = Client::connect_as(node.address(), protocol).await;
        client.hello("ada", json!({})).await;
        let newest = client
            .ask(json!({"t": "history", "ch": "news", "n": 10}))
            .await;
        assert_eq!(
            (offsets(&newest), &newest["more"]),
            ((16..=25).collect(), &json!(true))
        );
        assert_eq!(newest["o"], 25);
        let epoch = newest["e"].clone();
        let item = &newest["items"][0];
        assert_eq!(
            (&item["d"], &item["by"], &item["ev"]),
            (&json!(16), &json!("bob"), &json!("n"))
        );
        assert!(item.get("ch").is_none() && item.get("e").is_none());

        let page = |direction: &str, offset: u64, n: u64| json!({"t": "history", "ch": "news", "e": epoch, direction: offset, "n": n});
        for (direction, offset, n, expected, more) in [
            ("before", 16, 10, 6..16, true),
            ("before", 6, 10, 1..6, false),
            ("before", 1, 10, 0..0, false),
            ("before", 26, 1, 25..26, true),
            ("after", 0, 10, 1..11, true),
            ("after", 15, 10, 16..26, false),
            ("after", 25, 10, 0..0, false),
            ("after", 10, 1000, 11..26, false),
        ] {
            let page = client.ask(page(direction, offset, n)).await;
            let expected: Vec<u64> = expected.collect();
            assert_eq!(offsets(&page), expected, "{direction} {offset}");
            assert_eq!(page["more"], more, "{direction} {offset}");
        }
    }
}

#[tokio::test]
async fn a_page_of_history_is_bounded_by_the_nodes_page() {
    let node = TestNode::start().await;
    let mut client = node.client("ada").await;
    let many: Vec<Value> = (0..300)
        .map(|n| json!({"t": "pub", "ch": "news", "d": n}))
        .collect();
    client.send_all(&many).await;
    for n in [json!(9_007_199_254_740_991_u64), json!(400)] {
        let page = client
            .ask(json!({"t": "history", "ch": "news", "n": n}))
            .await;
        assert_eq!(
            (offsets(&page), &page["more"]),
            ((45..=300).collect(), &json!(true))
        );
    }
    let large = "x".repeat(40_000);
    for _ in 0..20 {
        client.publish("small:x", json!(large)).await;
    }
    let page = client.ask(json!({"t": "history", "ch": "small:x"})).await;
    assert!(page["items"].as_array().unwrap().len() >= 2);
    assert!(page.to_string().len() <= 256 << 10);
}

#[tokio::test]
async fn history_that_was_trimmed_begins_where_it_still_is() {
    let node = TestNode::start().await;
    let mut client = node.client("ada").await;
    for n in 1..=10 {
        client.publish("small:x", json!(n)).await;
    }
    let page = client
        .ask(json!({"t": "history", "ch": "small:x", "after": 0, "n": 2}))
        .await;
    assert_eq!((offsets(&page), &page["more"]), (vec![7, 8], &json!(true)));
    let page = client
        .ask(json!({"t": "history", "ch": "small:x", "before": 7}))
        .await;
    assert_eq!((offsets(&page), &page["more"]), (vec![], &json!(false)));
    let none = client
        .ask(json!({"t": "history", "ch": "volatile:x"}))
        .await;
    assert_eq!((&none["items"], &none["o"]), (&json!([]), &json!(0)));
}

#[tokio::test]
async fn a_position_that_is_not_on_the_log_is_gone() {
    let node = TestNode::start().await;
    let mut client = node.client("ada").await;
    let epoch = client.publish("news", json!(1)).await["e"].clone();
    let gone = (410, "history_gone".to_owned());
    for more in [
        json!({"e": "another", "after": 0}),
        json!({"e": "another"}),
        json!({"e": epoch, "after": 2}),
        json!({"after": 2}),
    ] {
        let frame = crate::support::with(json!({"t": "history", "ch": "news"}), &more);
        assert_eq!(client.refused(frame).await, gone, "{more}");
    }
    let without_epoch = client
        .ask(json!({"t": "history", "ch": "news", "before": 1000}))
        .await;
    assert_eq!(offsets(&without_epoch), [1]);
    let both = json!({"t": "history", "ch": "news", "before": 1, "after": 1});
    assert_eq!(client.refused(both).await.0, 400);
}

#[tokio::test]
async fn state_is_read_page_by_page() {
    let config = CONFIG.replace("[limits]", "[limits]\npage = 3");
    let node = TestNode::with(&config).await;
    let mut client = node.client("ada").await;
    for n in 0..8 {
        client
            .publish_with("orders:1", json!({"k": format!("k{n}"), "d": n}))
            .await;
    }
    client
        .publish_with("orders:1", json!({"k": "k2", "d": "again"}))
        .await;
    client
        .publish_with("orders:1", json!({"k": "k4", "del": true}))
        .await;
    let (mut from, mut all) = (1, Vec::new());
    loop {
        let page = client
            .ask(json!({"t": "state", "ch": "orders:1", "from": from}))
            .await;
        assert_eq!(page["o"], 10);
        assert!(
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .all(|item| item["e"] == page["e"])
        );
        all.extend(offsets(&page));
        from = all.last().unwrap() + 1;
        if page["more"] == false {
            break;
        }
    }
    assert_eq!(all, [1, 2, 4, 6, 7, 8, 9]);
    assert_eq!(
        client.refused(json!({"t": "state", "ch": "news"})).await.0,
        400
    );
}

#[tokio::test]
async fn pages_are_refused_without_the_right() {
    let node = TestNode::start().await;
    let mut client = Client::connect(node.address()).await;
    let can = json!({"news": ["pub"], "orders:1": ["sub"], "small:*": ["history"]});
    let token = token_with(json!({"sub": "ada", "exp": now_s() + 60, "can": can}));
    client.send(json!({"t": "hello", "token": token})).await;
    client.expect("welcome").await;
    let history = |channel: &str| json!({"t": "history", "ch": channel});
    let state = |channel: &str| json!({"t": "state", "ch": channel});
    for frame in [
        history("news"),
        history("orders:1"),
        state("orders:2"),
        history("$presence:chat:x"),
    ] {
        assert_eq!(
            client.refused(frame.clone()).await,
            (403, "forbidden".to_owned()),
            "{frame}"
        );
    }
    assert_eq!(client.refused(history("nowhere:1")).await.0, 404);
    assert_eq!(client.ask(history("small:x")).await["t"], "ok");
    assert_eq!(client.ask(state("orders:1")).await["t"], "ok");
}

#[tokio::test]
async fn pages_past_the_rate_are_refused_with_a_wait() {
    let config = CONFIG.replace("reads = \"100000/s\"", "reads = \"5/s\"");
    let node = TestNode::with(&config).await;
    let mut client = node.client("ada").await;
    let mut limited = 0;
    for _ in 0..15 {
        let answer = client.ask(json!({"t": "history", "ch": "news"})).await;
        if answer["t"] == "error" {
            assert_eq!(answer["code"], 429);
            assert!(answer["retry"].as_u64().unwrap() > 0);
            limited += 1;
        }
    }
    assert!((1..=5).contains(&limited), "{limited}");
}
