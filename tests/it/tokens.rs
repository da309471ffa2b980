//! Tokens: forged, expired, refreshed, and ended on a living connection.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::support::{API_KEY, Client, SECRET, TestNode, now_s, token, token_with};

async fn close_code_of(node: &TestNode, token: &str) -> u16 {
    let mut client = Client::connect(node.address()).await;
    client.send(json!({"t": "hello", "token": token})).await;
    client.refused_with_bye().await.0
}

#[tokio::test]
async fn a_token_that_is_not_valid_opens_nothing() {
    let node = TestNode::start().await;
    let claims = json!({"sub": "ada", "exp": now_s() + 60});
    let signed = |header: Header, secret: &str| {
        jsonwebtoken::encode(
            &header,
            &claims,
            &EncodingKey::from_secret(secret.as_bytes()),
        )
        .unwrap()
    };
    let good = token("ada");
    let mut parts = good.split('.');
    let (head, body, signature) = (
        parts.next().unwrap(),
        parts.next().unwrap(),
        parts.next().unwrap(),
    );
    let unsigned = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    let tokens = [
        signed(Header::default(), "another secret that is long enough too"),
        signed(Header::new(Algorithm::HS512), SECRET),
        signed(
            Header {
                kid: Some("unknown".into()),
                ..Header::default()
            },
            SECRET,
        ),
        token_with(json!({"sub": "ada", "exp": now_s() - 3600})),
        token_with(json!({"sub": "ada", "exp": now_s() + 60, "nbf": now_s() + 3600})),
        token_with(json!({"sub": "ada"})),
        token_with(json!({"exp": now_s() + 60})),
        token_with(json!({"sub": "", "exp": now_s() + 60})),
        token_with(json!({"sub": "ada", "exp": -1})),
        token_with(json!({"sub": "ada", "exp": "soon"})),
        token_with(json!({"sub": "ada", "exp": now_s() + 60, "can": {"*": ["everything"]}})),
        format!("{unsigned}.{body}."),
        format!("{head}.{body}."),
        format!(
            "{head}.{body}.{}",
            signature.chars().rev().collect::<String>()
        ),
        format!("{head}.{body}"),
        String::new(),
        "{}".to_owned(),
    ];
    for token in tokens {
        assert_eq!(close_code_of(&node, &token).await, 4401, "{token}");
    }
}

#[tokio::test]
async fn a_fresh_token_of_the_same_user_goes_on() {
    let node = TestNode::start().await;
    let mut client = node.client("ada").await;
    client.sub("news", json!({})).await;
    let exp = now_s() + 7200;
    let fresh = token_with(json!({"sub": "ada", "exp": exp, "can": {"*": ["sub", "pub"]}}));
    let ok = client.ask(json!({"t": "auth", "token": fresh})).await;
    assert_eq!((&ok["t"], &ok["exp"]), (&json!("ok"), &json!(exp * 1000)));
    client.publish("news", json!(1)).await;
    client.find(|frame| frame["t"] == "msg").await;
    let refused = client.refused(json!({"t": "history", "ch": "news"})).await;
    assert_eq!(refused.0, 403);
}

#[tokio::test]
async fn a_bad_token_or_that_of_another_user_changes_nothing() {
    let node = TestNode::start().await;
    let mut client = node.client("ada").await;
    client.sub("news", json!({})).await;
    let auth = |token: &str| json!({"t": "auth", "token": token});
    assert_eq!(
        client.refused(auth("nonsense")).await,
        (401, "unauthenticated".to_owned())
    );
    let expired = token_with(json!({"sub": "ada", "exp": now_s() - 3600}));
    assert_eq!(client.refused(auth(&expired)).await.0, 401);
    assert_eq!(
        client.refused(auth(&token("bob"))).await,
        (403, "forbidden".to_owned())
    );
    client.publish("news", json!(1)).await;
    client.find(|frame| frame["t"] == "msg").await;
}

#[tokio::test]
async fn rights_a_fresh_token_lost_are_withdrawn_before_its_answer() {
    let node = TestNode::start().await;
    let mut client = node.client("ada").await;
    let mut writer = node.client("bob").await;
    for channel in ["news", "orders:1", "chat:lobby"] {
        client.sub(channel, json!({})).await;
    }
    let fresh =
        token_with(json!({"sub": "ada", "exp": now_s() + 60, "can": {"orders:*": ["sub"]}}));
    client.drained().await;
    client
        .send(json!({"t": "auth", "i": 99, "token": fresh}))
        .await;
    let unsub = client.expect("unsub").await;
    assert_eq!(
        (&unsub["ch"], &unsub["code"]),
        (&json!("news"), &json!(403))
    );
    assert_eq!(client.expect("ok").await["i"], 99);
    for channel in ["news", "orders:1", "chat:lobby"] {
        writer.publish(channel, json!(1)).await;
    }
    let mut channels = Vec::new();
    for _ in 0..2 {
        channels.push(
            client.expect("msg").await["ch"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    channels.sort();
    assert_eq!(channels, ["chat:lobby", "orders:1"]);
    let pub_refused = client
        .refused(json!({"t": "pub", "ch": "orders:1", "d": 1}))
        .await;
    assert_eq!(pub_refused.0, 403);
}

#[tokio::test]
async fn a_token_that_ends_is_announced_in_time() {
    let node = TestNode::start().await;
    let mut client = Client::connect(node.address()).await;
    let exp = now_s() + 2;
    let token = token_with(json!({"sub": "ada", "exp": exp}));
    client.send(json!({"t": "hello", "token": token})).await;
    client.expect("welcome").await;
    let auth = client.expect("auth").await;
    assert_eq!(auth["exp"], exp * 1000);
}

#[tokio::test]
async fn a_token_past_its_grace_closes_unless_a_fresh_one_came() {
    let node = TestNode::start().await;
    let ending = || token_with(json!({"sub": "ada", "exp": now_s() - 29}));
    let mut late = Client::connect(node.address()).await;
    let mut fresh = Client::connect(node.address()).await;
    late.send(json!({"t": "hello", "token": ending()})).await;
    fresh.send(json!({"t": "hello", "token": ending()})).await;
    late.expect("welcome").await;
    fresh.expect("welcome").await;
    let ok = fresh.ask(json!({"t": "auth", "token": token("ada")})).await;
    assert_eq!(ok["t"], "ok");
    assert_eq!(late.refused_with_bye().await.0, 4401);
    fresh.publish("news", json!(1)).await;
}

#[tokio::test]
async fn a_resumed_session_has_the_rights_of_its_new_token() {
    let node = TestNode::start().await;
    let mut client = node.client("ada").await;
    client.sub("news", json!({})).await;
    client.sub("orders:1", json!({})).await;
    let resume = client.cut();
    let mut again = Client::connect(node.address()).await;
    let token = token_with(json!({"sub": "ada", "exp": now_s() + 60, "can": {"news": ["sub"]}}));
    let hello = resume.hello(crate::support::Resume::next_attempt());
    again
        .send(crate::support::with(
            json!({"t": "hello", "token": token}),
            &hello,
        ))
        .await;
    assert_eq!(again.expect("welcome").await["resumed"], true);
    let answers = again.drained().await;
    let of = |channel: &str| answers.iter().find(|frame| frame["ch"] == channel).unwrap();
    assert_eq!(of("news")["t"], "ok");
    assert_eq!(
        (&of("orders:1")["t"], &of("orders:1")["code"]),
        (&json!("unsub"), &json!(403))
    );
}

async fn revoke(node: &TestNode, body: Value) -> (u16, Value) {
    let url = format!("http://{}/v1/tokens/revoke", node.address());
    let request = reqwest::Client::new()
        .post(url)
        .bearer_auth(API_KEY)
        .json(&body);
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

fn claims(user: &str, issued_s: u64, id: &str) -> Value {
    json!({"sub": user, "iat": issued_s, "exp": now_s() + 3600, "jti": id, "can": {"*": ["sub"]}})
}

/// Says hello with these claims; the code of the refusal, if it was refused.
async fn let_in(node: &TestNode, claims: &Value) -> Option<u16> {
    let mut client = Client::connect(node.address()).await;
    client
        .send(json!({"t": "hello", "token": token_with(claims.clone())}))
        .await;
    let frame = client.frame().await;
    (frame["t"] == "bye").then(|| u16::try_from(frame["code"].as_u64().unwrap()).unwrap())
}

#[tokio::test]
async fn a_revoked_token_is_shut_out_at_once_and_after_a_restart() {
    let mut node = TestNode::start().await;
    let (old, other) = (
        claims("ada", now_s() - 60, "one"),
        claims("ada", now_s() - 60, "two"),
    );
    let mut living = Client::connect(node.address()).await;
    living
        .send(json!({"t": "hello", "token": token_with(old.clone())}))
        .await;
    living.expect("welcome").await;
    assert_eq!(
        revoke(&node, json!({"token_id": "one"})).await,
        (200, json!({"disconnected": 1}))
    );
    assert_eq!(living.closed().await.0, Some(4401));
    assert_eq!(let_in(&node, &old).await, Some(4401));
    assert_eq!(
        let_in(&node, &other).await,
        None,
        "another token of the user"
    );
    node.restart().await;
    assert_eq!(let_in(&node, &old).await, Some(4401));
    assert_eq!(let_in(&node, &other).await, None);
}

#[tokio::test]
async fn a_revoked_user_needs_a_token_issued_later() {
    let node = TestNode::start().await;
    let old = claims("ada", now_s() - 60, "one");
    assert_eq!(let_in(&node, &old).await, None);
    assert_eq!(revoke(&node, json!({"user": "ada"})).await.0, 200);
    assert_eq!(let_in(&node, &old).await, Some(4401));
    assert_eq!(
        let_in(&node, &claims("ada", now_s() + 2, "new")).await,
        None
    );
    assert_eq!(
        let_in(&node, &claims("bob", now_s() - 60, "his")).await,
        None
    );
    let mut bob = node.client("bob").await;
    let refused = bob
        .refused(json!({"t": "auth", "token": token_with(old)}))
        .await;
    assert_eq!(refused.0, 401, "a refresh is looked at too");
    for body in [
        json!({}),
        json!({"user": "a", "token_id": "b"}),
        json!({"user": ""}),
        json!({"user": "a", "ttl": 0}),
    ] {
        assert_eq!(revoke(&node, body).await.0, 400);
    }
}
