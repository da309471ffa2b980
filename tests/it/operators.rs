//! What operators read of the hub through its own channels, who may not, and nodes that are told
//! to leave.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    redis::RedisServer,
    support::{API_KEY, CONFIG, Client, PATIENCE, TestNode},
};

const NODES: &str = "$sys:nodes";
const PAST: &str = "$sys:history";

/// A token for the key of the tests.
async fn token(node: &TestNode) -> String {
    let url = format!("http://{}/admin/enter", node.address());
    let request = reqwest::Client::new().post(url).bearer_auth(API_KEY);
    let entered: Value = request.send().await.unwrap().json().await.unwrap();
    entered["token"].as_str().unwrap().to_owned()
}

/// An operator's connection.
async fn operator(node: &TestNode) -> Client {
    let mut client = Client::connect(node.address()).await;
    let hello = json!({"t": "hello", "token": token(node).await});
    client.send(hello).await;
    client.welcome = client.expect("welcome").await;
    client
}

/// The next rows of nodes, as they come.
async fn row(client: &mut Client, matches: impl Fn(&str, &Value) -> bool) -> Value {
    let frame = client.find(|frame| {
        let of = |item: &Value| matches(item["k"].as_str().unwrap_or_default(), &item["d"]);
        match frame["t"].as_str() {
            Some("msg") => frame["ch"] == NODES && of(frame),
            Some("state") => frame["items"].as_array().unwrap().iter().any(of),
            _ => false,
        }
    });
    frame.await
}

#[tokio::test]
async fn an_operator_sees_the_node_and_its_figures_change() {
    let node = TestNode::start().await;
    let mut page = operator(&node).await;
    page.sub(NODES, json!({"mode": "latest", "state": true}))
        .await;
    let own = page.welcome["node"].as_str().unwrap().to_owned();
    row(&mut page, |name, lease| {
        name == own && lease["row"]["broker"]["up"] == true && lease["row"]["store"]["up"] == true
    })
    .await;
    let (mut ada, mut bob) = (node.client("ada").await, node.client("bob").await);
    bob.sub("news", json!({})).await;
    ada.publish("news", json!(1)).await;
    bob.expect("live").await;
    row(&mut page, |_, lease| {
        lease["connections"] == 3 && lease["row"]["deliveries"].as_f64() > Some(0.0)
    })
    .await;
    // Rows come every second while somebody looks, not every five.
    let begun = tokio::time::Instant::now();
    for _ in 0..3 {
        row(&mut page, |_, _| true).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(9));
}

#[tokio::test]
async fn a_page_opened_later_finds_the_past() {
    let node = TestNode::start().await;
    let mut page = operator(&node).await;
    page.sub(PAST, json!({"last": 1})).await;
    page.find(|frame| frame["t"] == "msg" && frame["ch"] == PAST)
        .await;
    let answer = page.ask(json!({"t": "history", "ch": PAST, "n": 10})).await;
    let point = &answer["items"][0]["d"];
    assert_eq!(point["node"], page.welcome["node"], "{answer}");
    assert!(point["memory"].as_u64() > Some(1 << 20), "{answer}");
}

#[tokio::test]
async fn an_operator_reads_that_and_nothing_else() {
    let node = TestNode::start().await;
    let mut page = operator(&node).await;
    for (frame, code) in [
        (json!({"t": "sub", "ch": "$sys:control"}), 404),
        (json!({"t": "sub", "ch": "$presence:$sys:nodes"}), 404),
        (json!({"t": "sub", "ch": "orders:1"}), 403),
        (json!({"t": "pub", "ch": NODES, "k": "n", "d": 1}), 403),
        (json!({"t": "pub", "ch": "orders:1", "d": 1}), 403),
    ] {
        let refused = page.refused(frame.clone()).await;
        assert_eq!(refused.0, code, "{frame}: {refused:?}");
    }
    let mut ada = node.client("ada").await;
    for frame in [
        json!({"t": "sub", "ch": NODES, "mode": "latest"}),
        json!({"t": "history", "ch": PAST, "n": 1}),
        json!({"t": "state", "ch": NODES}),
    ] {
        assert_eq!(ada.refused(frame.clone()).await.0, 404, "{frame}");
    }
}

#[tokio::test]
async fn nodes_of_a_hub_see_each_other_and_one_is_told_to_leave_through_another() {
    let redis = RedisServer::start();
    let section = redis.section();
    let one = TestNode::on_redis(CONFIG, &section).await;
    let mut two = TestNode::on_redis(CONFIG, &section).await;
    one.knows_nodes(2).await;
    let ada = two.client("ada").await;
    let leaving = ada.welcome["node"].as_str().unwrap().to_owned();
    let mut page = operator(&one).await;
    page.sub(NODES, json!({"mode": "latest", "state": true}))
        .await;
    // Rows of the other node come at the page's pace as well.
    for _ in 0..3 {
        row(&mut page, |name, lease| {
            name == leaving && lease["sessions"] == 1
        })
        .await;
    }
    let call = async |path: String| {
        let url = format!("http://{}/v1/nodes{path}", one.address());
        let request = reqwest::Client::new().post(url).bearer_auth(API_KEY);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(call("/n-none/drain".to_owned()).await, 404);
    assert_eq!(call(format!("/{leaving}/drain")).await, 202);
    let told = tokio::time::timeout(PATIENCE, two.dismissed()).await;
    told.expect("the node is told");
    // Nobody is there to be moved, so the node is gone within a moment, and still said so.
    drop(ada);
    two.stop().await;
    row(&mut page, |name, lease| {
        name == leaving && lease["draining"] == true
    })
    .await;
    let past = page.ask(json!({"t": "history", "ch": PAST, "n": 10})).await;
    let said = |item: &Value| item["d"]["node"] == leaving && item["d"]["left"] == true;
    assert!(past["items"].as_array().unwrap().iter().any(said), "{past}");
}
