//! Who is let in: limits of the node and of an address, told after the upgrade.

use serde_json::json;

use crate::{
    metrics::until,
    support::{CONFIG, Client, TestNode, token},
};

async fn refused(limit: &str) -> (Option<u16>, Vec<serde_json::Value>) {
    let config = CONFIG.replace("connections_per_ip = 100000", limit);
    let node = TestNode::with(&config).await;
    let admitted = node.client("ada").await;
    let mut refused = Client::connect(node.address()).await;
    let told = refused.closed().await;
    drop(admitted);
    told
}

#[tokio::test]
async fn one_connection_too_many_is_told_when_to_come_back() {
    for (limit, code, name) in [
        ("connections = 1", 4503, "overloaded"),
        ("connections_per_ip = 1", 4429, "rate_limited"),
    ] {
        let (closed, frames) = refused(limit).await;
        assert_eq!(closed, Some(code), "{frames:?}");
        assert_eq!(frames[0]["t"], "bye");
        assert_eq!(frames[0]["name"], name);
        assert!(frames[0]["retry"].as_u64().unwrap() >= 1000, "{frames:?}");
    }
}

#[tokio::test]
async fn clients_behind_a_trusted_proxy_are_told_apart() {
    let limited = CONFIG.replace("connections_per_ip = 100000", "connections_per_ip = 1");
    let through = async |node: &TestNode, hops: &str| {
        let headers = [("x-forwarded-for", hops)];
        let (mut client, _) = Client::connect_with(node.address(), &headers).await;
        let hello = json!({"t": "hello", "token": token("ada")});
        client.send(hello).await;
        let name = client.frame().await["name"].clone();
        (client, name == "rate_limited")
    };
    let trusting = "trusted_proxies = [\"127.0.0.0/8\"]\n";
    let node = TestNode::with_head(trusting, &limited).await;
    let (_one, refused) = through(&node, "203.0.113.1").await;
    assert!(!refused);
    let (_other, refused) = through(&node, "203.0.113.2, 127.0.0.9").await;
    assert!(!refused);
    let (_again, refused) = through(&node, "198.51.100.9, 203.0.113.1").await;
    assert!(
        refused,
        "what the client wrote before the proxy is not believed"
    );

    let node = TestNode::with(&limited).await;
    let (_one, refused) = through(&node, "203.0.113.1").await;
    assert!(!refused);
    let (_other, refused) = through(&node, "203.0.113.2").await;
    assert!(refused, "nobody is believed who is not named");
}

#[tokio::test]
async fn a_place_that_was_left_is_free_again() {
    let config = CONFIG.replace("connections_per_ip = 100000", "connections = 1");
    let node = TestNode::with(&config).await;
    for _ in 0..5 {
        let mut client = node.client("ada").await;
        client.send(serde_json::json!({"t": "leave"})).await;
        assert_eq!(client.closed().await.0, Some(1000));
        until(&node, "tidewire_connections", 0.0).await;
    }
}

#[tokio::test]
async fn a_storm_is_told_to_return_over_the_time_it_needs() {
    let config = format!("{CONFIG}handshakes = \"10/s\"\n");
    let node = TestNode::with(&config).await;
    let mut welcomed = 0;
    let mut retries = Vec::new();
    for number in 0..60 {
        let mut client = Client::connect(node.address()).await;
        client
            .send(json!({"t": "hello", "token": token(&format!("user-{number}"))}))
            .await;
        let frame = client.frame().await;
        if frame["t"] == "welcome" {
            welcomed += 1;
        } else {
            assert_eq!((&frame["t"], &frame["code"]), (&json!("bye"), &json!(4503)));
            retries.push(frame["retry"].as_u64().unwrap());
        }
    }
    assert!(welcomed >= 10, "the burst passes: {welcomed}");
    assert!(retries.len() >= 20, "{retries:?}");
    // Eight places a second: the last of them comes back seconds after the first.
    let (first, last) = (retries[0], retries[retries.len() - 1]);
    assert!(last > first + 1_500, "{retries:?}");
}
