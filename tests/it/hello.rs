//! The first frame of a connection, and who is let in.

use serde_json::json;

use crate::support::{
    CONFIG, Client, ENCODINGS, JSON, MSGPACK, TestNode, now_s, token, token_with,
};

#[tokio::test]
async fn everything_may_follow_hello_without_waiting_for_welcome() {
    let node = TestNode::start().await;
    for protocol in ENCODINGS {
        let mut client = Client::connect_as(node.address(), protocol).await;
        let channel = format!("news-{protocol}");
        client
            .send_all(&[
                json!({"t": "hello", "token": token("ada")}),
                json!({"t": "sub", "i": 1, "ch": channel}),
                json!({"t": "pub", "i": 2, "ch": channel, "d": "hi"}),
            ])
            .await;
        client
            .send(json!({"t": "unsub", "i": 3, "ch": channel}))
            .await;
        assert_eq!(client.expect("welcome").await["user"], "ada");
        assert_eq!(client.expect("ok").await["i"], 1);
        let rest = client.drained().await;
        let answers: Vec<_> = rest.iter().filter(|frame| frame["t"] == "ok").collect();
        assert_eq!((&answers[0]["i"], &answers[0]["o"]), (&json!(2), &json!(1)));
        assert_eq!(answers[1]["i"], 3);
        let messages = rest.iter().filter(|frame| frame["t"] == "msg").count();
        assert_eq!(messages, 1, "{rest:?}");
    }
}

#[tokio::test]
async fn welcome_says_what_the_client_must_know() {
    let node = TestNode::start().await;
    let mut client = Client::connect(node.address()).await;
    let exp = now_s() + 60;
    let token = token_with(json!({"sub": "ada", "exp": exp}));
    let before = now_s() * 1000;
    client.send(json!({"t": "hello", "token": token})).await;
    let welcome = client.expect("welcome").await;
    assert!(welcome["session"]["id"].as_str().unwrap().len() > 8);
    assert!(welcome["session"]["key"].as_str().unwrap().len() > 16);
    assert_eq!(welcome["session"]["ttl"], 300_000);
    assert_eq!(welcome["resumed"], false);
    assert_eq!(welcome["user"], "ada");
    assert_eq!(welcome["exp"], exp * 1000);
    assert_eq!(
        welcome["max"],
        json!({"frame": 96 << 10, "data": 48 << 10, "subs": 256})
    );
    assert_eq!(welcome["f"], json!([]));
    assert!(welcome["ts"].as_u64().unwrap() >= before);
    assert!(!welcome["node"].as_str().unwrap().is_empty());
}

#[tokio::test]
async fn the_node_bounds_the_heartbeat_a_client_asks_for() {
    let node = TestNode::start().await;
    for (wish, given) in [(json!(1), 15), (json!(60), 60), (json!(100_000), 240)] {
        let mut client = Client::connect(node.address()).await;
        assert_eq!(client.hello("ada", json!({"hb": wish})).await["hb"], given);
    }
    assert_eq!(node.client("ada").await.welcome["hb"], 25);
}

#[tokio::test]
async fn a_connection_that_does_not_begin_with_hello_is_closed() {
    let node = TestNode::start().await;
    for first in [
        json!({"t": "sub", "i": 1, "ch": "news"}),
        json!({"t": "pong"}),
        json!({"t": "no such type"}),
        json!({"t": "leave"}),
    ] {
        let mut client = Client::connect(node.address()).await;
        client.send(first).await;
        assert_eq!(client.refused_with_bye().await.0, 4400);
    }
}

#[tokio::test]
async fn a_second_hello_is_an_error_and_changes_nothing() {
    let node = TestNode::start().await;
    let mut client = node.client("ada").await;
    client
        .send_all(&[
            json!({"t": "pub", "i": 1, "ch": "news", "d": 1}),
            json!({"t": "hello", "token": token("bob")}),
            json!({"t": "pub", "i": 2, "ch": "news", "d": 2}),
        ])
        .await;
    assert_eq!(client.expect("ok").await["i"], 1);
    let error = client.expect("error").await;
    assert_eq!((&error["code"], error.get("i")), (&json!(400), None));
    assert_eq!(client.expect("ok").await["o"], 2);
    client.sub("news", json!({"last": 1})).await;
    assert_eq!(client.expect("msg").await["by"], "ada");
}

#[tokio::test]
async fn the_first_subprotocol_the_node_speaks_is_chosen() {
    let node = TestNode::start().await;
    let header = "sec-websocket-protocol";
    for (offer, chosen) in [
        (format!("other, {MSGPACK}, {JSON}"), MSGPACK),
        (format!("{JSON},{MSGPACK}"), JSON),
    ] {
        let (_client, headers) = Client::connect_with(node.address(), &[(header, &offer)]).await;
        assert_eq!(headers[header], chosen);
    }
    let (mut client, headers) = Client::connect_with(node.address(), &[]).await;
    assert!(!headers.contains_key(header));
    client.hello("ada", json!({})).await;
}

#[tokio::test]
async fn an_unknown_subprotocol_is_told_after_the_upgrade() {
    let node = TestNode::start().await;
    let status =
        crate::raw::Raw::upgrade(node.address(), "Sec-WebSocket-Protocol: other\r\n").await;
    let mut client = status;
    assert_eq!(client.close_code().await, Some(4406));
}

#[tokio::test]
async fn a_foreign_origin_is_told_after_the_upgrade() {
    let node = TestNode::start().await;
    let host = node.address().to_string();
    for (origin, allowed) in [
        (format!("http://{host}"), true),
        ("https://evil.example".to_owned(), false),
        ("null".to_owned(), false),
        (format!("http://{host}.evil.example"), false),
    ] {
        let (mut client, _) = Client::connect_with(node.address(), &[("origin", &origin)]).await;
        if allowed {
            client.hello("ada", json!({})).await;
        } else {
            assert_eq!(client.refused_with_bye().await.0, 4403, "{origin}");
        }
    }
}

#[tokio::test]
async fn an_anonymous_client_is_let_in_only_where_it_is_allowed() {
    let node = TestNode::start().await;
    let mut client = Client::connect(node.address()).await;
    client.send(json!({"t": "hello"})).await;
    assert_eq!(client.refused_with_bye().await.0, 4401);

    let open = TestNode::with_auth(CONFIG, "anonymous = true").await;
    let mut client = Client::connect(open.address()).await;
    client.send(json!({"t": "hello"})).await;
    let welcome = client.expect("welcome").await;
    assert!(welcome.get("user").is_none() && welcome.get("exp").is_none());
    client.sub("chat:lobby", json!({})).await;
    let refused = client.refused(json!({"t": "sub", "ch": "news"})).await;
    assert_eq!(refused, (403, "forbidden".to_owned()));
}

#[tokio::test]
async fn an_anonymous_session_is_resumed_with_its_key_and_by_no_user() {
    let node = TestNode::with_auth(CONFIG, "anonymous = true").await;
    let mut client = Client::connect(node.address()).await;
    client
        .send(json!({"t": "hello", "subs": [{"ch": "chat:lobby"}]}))
        .await;
    client.welcome = client.expect("welcome").await;
    client.expect("ok").await;
    client.expect("live").await;
    let resume = client.cut();
    let mut thief = Client::connect(node.address()).await;
    let welcome = thief
        .hello("eve", resume.hello(crate::support::Resume::next_attempt()))
        .await;
    assert_eq!(welcome["resumed"], false);
    let mut again = Client::connect(node.address()).await;
    let hello = resume.hello(crate::support::Resume::next_attempt());
    again
        .send(crate::support::with(json!({"t": "hello"}), &hello))
        .await;
    assert_eq!(again.expect("welcome").await["resumed"], true);
    assert_eq!(again.expect("ok").await["ch"], "chat:lobby");
}

#[tokio::test]
async fn the_channels_of_the_token_are_subscribed_without_asking() {
    let node = TestNode::start().await;
    let token = token_with(json!({
        "sub": "ada", "exp": now_s() + 60, "can": {"inbox:*": ["sub"], "news": ["sub"], "$*": ["sub"]},
        "subs": ["news", "secret"],
    }));
    let mut client = Client::connect(node.address()).await;
    client
        .send(json!({"t": "hello", "token": token, "subs": [{"ch": "small:x"}]}))
        .await;
    client.expect("welcome").await;
    let answers = client.drained().await;
    let find = |channel: &str| answers.iter().find(|frame| frame["ch"] == channel).unwrap();
    assert_eq!(
        (&find("small:x")["t"], &find("small:x")["code"]),
        (&json!("unsub"), &json!(403))
    );
    assert_eq!(
        (&find("secret")["t"], &find("secret")["code"]),
        (&json!("unsub"), &json!(403))
    );
    assert_eq!(
        (&find("news")["t"], &find("news")["rec"]),
        (&json!("ok"), &json!("fresh"))
    );
}

#[tokio::test]
async fn every_entry_of_hello_is_answered_on_its_own() {
    let node = TestNode::start().await;
    for protocol in ENCODINGS {
        let mut client = Client::connect_as(node.address(), protocol).await;
        client
            .hello(
                "ada",
                json!({"subs": [
                    {"ch": "news"}, {"ch": "nowhere:1"}, {"ch": "$presence:news"},
                    {"ch": "news-2", "mode": "latest"}, {"ch": "orders:1", "mode": "latest", "state": true},
                ]}),
            )
            .await;
        let answers = client.drained().await;
        let of = |channel: &str| {
            let frames: Vec<_> = answers
                .iter()
                .filter(|frame| {
                    frame["ch"] == channel && (frame["t"] == "ok" || frame["t"] == "unsub")
                })
                .collect();
            assert_eq!(frames.len(), 1, "{channel}: {answers:?}");
            assert!(frames[0].get("i").is_none());
            frames[0].clone()
        };
        assert_eq!(of("news")["rec"], "fresh");
        assert_eq!(of("nowhere:1")["name"], "unknown_channel");
        assert_eq!(of("$presence:news")["name"], "unknown_channel");
        assert_eq!(of("news-2")["name"], "bad_request");
        assert_eq!(of("orders:1")["rec"], "fresh");
    }
}

#[tokio::test]
async fn a_hello_with_wrong_values_is_closed() {
    let node = TestNode::start().await;
    for more in [
        json!({"token": 7}),
        json!({"subs": {}}),
        json!({"subs": [{"ch": ""}]}),
        json!({"subs": vec![json!({"ch": "news"}); 257]}),
        json!({"session": {"id": "a", "key": "b"}}),
        json!({"session": {"id": "a", "key": "b", "attempt": -1}}),
        json!({"hb": "often"}),
    ] {
        let mut client = Client::connect(node.address()).await;
        let hello = crate::support::with(json!({"t": "hello", "token": token("ada")}), &more);
        client.send(hello).await;
        assert_eq!(client.refused_with_bye().await.0, 4400, "{more}");
    }
}
