//! What a backend does over HTTP, as clients see it.

use serde_json::{Value, json};

use crate::support::{API_KEY, CONFIG, Client, TestNode};

async fn call(node: &TestNode, method: reqwest::Method, path: &str, body: Value) -> Value {
    let url = format!("http://{}{path}", node.address());
    let request = reqwest::Client::new()
        .request(method, url)
        .bearer_auth(API_KEY);
    let response = request.json(&body).send().await.unwrap();
    assert!(response.status().is_success(), "{path}: {response:?}");
    let text = response.text().await.unwrap();
    serde_json::from_str(&text).unwrap_or_default()
}

#[tokio::test]
async fn what_a_backend_publishes_reaches_readers_without_a_user() {
    let node = TestNode::start().await;
    let mut reader = node.client("ada").await;
    reader.sub("orders:1", json!({})).await;
    reader.expect("live").await;
    let body =
        json!({"channel": "orders:1", "data": {"n": 1}, "key": "a", "event": "moved", "id": "p1"});
    for duplicate in [false, true] {
        let answer = call(&node, reqwest::Method::POST, "/v1/publish", body.clone()).await;
        let result = &answer["results"][0];
        assert_eq!(
            (&result["offset"], &result["duplicate"]),
            (&json!(1), &json!(duplicate))
        );
    }
    let msg = reader.expect("msg").await;
    assert_eq!(
        (&msg["d"], &msg["k"], &msg["ev"]),
        (&json!({"n": 1}), &json!("a"), &json!("moved"))
    );
    assert!(msg.get("by").is_none());
    assert_eq!(
        reader
            .publish_with("orders:1", json!({"d": 2, "id": "p1"}))
            .await["o"],
        2
    );
}

#[tokio::test]
async fn a_channel_deleted_over_http_starts_over_under_its_readers() {
    let node = TestNode::start().await;
    let mut reader = node.client("ada").await;
    let first = reader.publish("news", json!(1)).await;
    reader.sub("news", json!({})).await;
    reader.expect("live").await;
    call(
        &node,
        reqwest::Method::DELETE,
        "/v1/channels/news",
        Value::Null,
    )
    .await;
    let reset = reader.expect("ok").await;
    assert_eq!((&reset["rec"], &reset["o"]), (&json!("reset"), &json!(0)));
    let again = reader.publish("news", json!(2)).await;
    assert_eq!(again["o"], 1);
    assert_ne!(again["e"], first["e"]);
}

#[tokio::test]
async fn a_blanked_publication_is_not_seen_again_however_it_is_read() {
    let config = CONFIG.replace("[limits]", "[limits]\ntail_bytes = \"256KiB\"");
    let node = TestNode::with(&config).await;
    let mut writer = node.client("bob").await;
    let data = "x".repeat(4000);
    let frames: Vec<Value> = (0..20)
        .map(|_| json!({"t": "pub", "ch": "news", "k": "a", "d": data}))
        .collect();
    for _ in 0..15 {
        writer.send_all(&frames).await;
    }
    writer.drained().await;
    for round in [5, 290] {
        let mut before = node.client("ada").await;
        before.sub("news", json!({"last": 300})).await;
        let msg = before
            .find(|frame| frame["t"] == "msg" && frame["o"] == round)
            .await;
        assert!(msg.get("d").is_some());
        before.find(|frame| frame["t"] == "live").await;
        let path = format!("/v1/channels/news/history/{round}");
        call(&node, reqwest::Method::DELETE, &path, Value::Null).await;
        let mut after = Client::connect(node.address()).await;
        after.hello("eve", json!({})).await;
        after.sub("news", json!({"last": 300})).await;
        for offset in 1..=300 {
            let msg = after.expect("msg").await;
            assert_eq!(msg["o"], offset);
            if offset == round {
                assert_eq!(
                    (msg.get("d"), msg.get("k"), &msg["del"]),
                    (None, None, &json!(true))
                );
            }
        }
        let page = after
            .ask(json!({"t": "history", "ch": "news", "after": round - 1, "n": 1}))
            .await;
        assert_eq!(
            (page["items"][0].get("d"), &page["items"][0]["del"]),
            (None, &json!(true))
        );
    }
}
