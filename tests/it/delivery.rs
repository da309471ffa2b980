//! What reaches a reader, in which order, live and after a break.

use serde_json::json;

use crate::support::{Resume, TestNode};

#[tokio::test]
async fn a_publication_reaches_its_readers_once_and_in_order() {
    let node = TestNode::start().await;
    let mut reader = node.client("ada").await;
    let mut writer = node.client("bob").await;
    let ok = reader.sub("news", json!({})).await;
    assert_eq!((&ok["rec"], &ok["o"]), (&json!("fresh"), &json!(0)));
    assert_eq!(reader.expect("live").await["n"], 0);
    for n in 1..=100 {
        let ok = writer.publish("news", json!({"n": n})).await;
        assert_eq!(ok["o"], n);
    }
    for n in 1..=100 {
        let msg = reader.expect("msg").await;
        assert_eq!(
            (&msg["o"], &msg["d"]["n"], &msg["by"]),
            (&json!(n), &json!(n), &json!("bob"))
        );
    }
}

#[tokio::test]
async fn a_resumed_session_gets_what_it_missed_exactly_once() {
    let node = TestNode::start().await;
    let mut writer = node.client("bob").await;
    let mut reader = node.client("ada").await;
    let ok = reader.sub("news", json!({})).await;
    writer.publish("news", json!(1)).await;
    reader.expect("live").await;
    reader.expect("msg").await;
    let resume = reader.cut();
    for n in 2..=300 {
        writer.publish("news", json!(n)).await;
    }
    let mut again = crate::support::Client::connect(node.address()).await;
    let mut hello = resume.hello(Resume::next_attempt());
    hello["subs"] = json!([{"ch": "news", "e": ok["e"], "o": 1}]);
    let welcome = again.hello("ada", hello).await;
    assert_eq!(welcome["resumed"], true);
    assert_eq!(again.expect("ok").await["rec"], "full");
    for n in 2..=300 {
        assert_eq!(again.expect("msg").await["o"], n);
    }
    let live = again.expect("live").await;
    assert_eq!((&live["o"], &live["n"]), (&json!(300), &json!(299)));
}
