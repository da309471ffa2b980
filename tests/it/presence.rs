//! Who is in a channel.

use serde_json::{Value, json};

use crate::support::{Client, Resume, TestNode, now_s, token, token_with, with};

const ROOM: &str = "chat:lobby";
const MEMBERS: &str = "$presence:chat:lobby";

async fn watch(node: &TestNode) -> Client {
    let mut watcher = node.client("watcher").await;
    watcher
        .sub(MEMBERS, json!({"state": true, "mode": "latest"}))
        .await;
    watcher.find(|frame| frame["t"] == "live").await;
    watcher.drained().await;
    watcher
}

fn user_of(msg: &Value) -> &str {
    msg["k"].as_str().unwrap().split('/').next().unwrap()
}

async fn listed(client: &mut Client) -> Vec<(String, Value)> {
    let page = client.ask(json!({"t": "state", "ch": MEMBERS})).await;
    let items = page["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| (item["k"].as_str().unwrap().to_owned(), item["d"].clone()))
        .collect()
}

#[tokio::test]
async fn members_enter_with_their_subscription_and_leave_with_it() {
    let node = TestNode::start().await;
    let mut watcher = watch(&node).await;
    let mut ada = node.client("ada").await;
    ada.sub(ROOM, json!({"me": {"name": "Ada"}})).await;
    let entered = watcher.expect("msg").await;
    assert_eq!(
        (user_of(&entered), &entered["d"]),
        ("ada", &json!({"name": "Ada"}))
    );
    assert!(entered.get("by").is_none());
    let id = ada.welcome["session"]["id"].as_str().unwrap();
    assert!(!entered["k"].as_str().unwrap().contains(id));
    assert_eq!(listed(&mut ada).await.len(), 1);
    ada.ask(json!({"t": "unsub", "ch": ROOM})).await;
    let left = watcher.expect("msg").await;
    assert_eq!((&left["k"], &left["del"]), (&entered["k"], &json!(true)));
    assert_eq!(listed(&mut ada).await, []);
}

#[tokio::test]
async fn a_reader_without_me_is_no_member() {
    let node = TestNode::start().await;
    let mut ada = node.client("ada").await;
    ada.sub(ROOM, json!({})).await;
    assert_eq!(listed(&mut ada).await, []);
}

#[tokio::test]
async fn two_sessions_of_one_user_are_two_members() {
    let node = TestNode::start().await;
    let mut phone = node.client("ada").await;
    let mut laptop = node.client("ada").await;
    phone.sub(ROOM, json!({"me": "phone"})).await;
    laptop.sub(ROOM, json!({"me": "laptop"})).await;
    let both = listed(&mut phone).await;
    assert_eq!(both.len(), 2);
    assert_ne!(both[0].0, both[1].0);
    laptop.send(json!({"t": "leave"})).await;
    laptop.closed().await;
    let one = listed(&mut phone).await;
    assert_eq!(
        one.iter().map(|(_, me)| me.clone()).collect::<Vec<_>>(),
        [json!("phone")]
    );
}

#[tokio::test]
async fn a_resume_within_the_grace_says_nothing_to_anybody() {
    let mut node = TestNode::start().await;
    let mut watcher = watch(&node).await;
    let mut ada = node.client("ada").await;
    ada.sub(ROOM, json!({"me": "here"})).await;
    let key = watcher.expect("msg").await["k"].clone();
    let mut session = ada.cut();
    for round in 0..3 {
        let subs = match round {
            0 => json!({}),
            _ => json!({"subs": [{"ch": ROOM, "me": "here"}]}),
        };
        if round == 2 {
            node.restart().await;
            watcher = watch(&node).await;
        }
        let mut again = Client::connect(node.address()).await;
        let hello = with(session.hello(Resume::next_attempt()), &subs);
        assert_eq!(again.hello("ada", hello).await["resumed"], true);
        assert_eq!(
            listed(&mut again).await,
            [(key.as_str().unwrap().to_owned(), json!("here"))]
        );
        assert_eq!(watcher.drained().await, Vec::<Value>::new());
        session = again.cut();
    }
}

#[tokio::test]
async fn what_a_member_says_of_itself_changes_in_place() {
    let node = TestNode::start().await;
    let mut watcher = watch(&node).await;
    let mut ada = node.client("ada").await;
    ada.sub(ROOM, json!({"me": "here"})).await;
    let key = watcher.expect("msg").await["k"].clone();
    ada.sub(ROOM, json!({"me": "away"})).await;
    let changed = watcher.expect("msg").await;
    assert_eq!((&changed["k"], &changed["d"]), (&key, &json!("away")));
    ada.sub(ROOM, json!({"me": "away", "last": 3})).await;
    assert_eq!(watcher.drained().await, Vec::<Value>::new());
    ada.sub(ROOM, json!({})).await;
    let left = watcher.expect("msg").await;
    assert_eq!((&left["k"], &left["del"]), (&key, &json!(true)));
}

#[tokio::test]
async fn a_session_that_resumes_without_its_membership_leaves() {
    let node = TestNode::start().await;
    let mut watcher = watch(&node).await;
    let no_right = token_with(json!({"sub": "ada", "exp": now_s() + 60, "can": {"news": ["sub"]}}));
    for (token, subs) in [
        (token("ada"), json!([{"ch": ROOM}])),
        (token("ada"), json!([])),
        (token("ada"), json!([{"ch": ROOM, "mode": "latest"}])),
        (no_right, json!([{"ch": "room:none"}])),
    ] {
        let mut ada = node.client("ada").await;
        ada.sub(ROOM, json!({"me": "here"})).await;
        let key = watcher.expect("msg").await["k"].clone();
        let session = ada.cut();
        let mut again = Client::connect(node.address()).await;
        let hello = with(
            session.hello(Resume::next_attempt()),
            &json!({"subs": subs}),
        );
        again
            .send(with(json!({"t": "hello", "token": token}), &hello))
            .await;
        assert_eq!(again.expect("welcome").await["resumed"], true);
        let left = watcher.expect("msg").await;
        assert_eq!((&left["k"], &left["del"]), (&key, &json!(true)), "{subs}");
        assert_eq!(listed(&mut watcher).await, []);
    }
}

#[tokio::test]
async fn a_right_that_is_lost_ends_the_membership() {
    let config = crate::support::CONFIG.replace("allow = [\"sub\"]", "");
    let node = TestNode::with(&config).await;
    let mut watcher = watch(&node).await;
    let mut ada = node.client("ada").await;
    ada.sub(ROOM, json!({"me": "here"})).await;
    watcher.expect("msg").await;
    let less = token_with(json!({"sub": "ada", "exp": now_s() + 60}));
    ada.ask(json!({"t": "auth", "token": less})).await;
    assert_eq!(watcher.expect("msg").await["del"], true);

    let mut bob = node.client("bob").await;
    bob.sub(ROOM, json!({"me": "here"})).await;
    watcher.expect("msg").await;
    let session = bob.cut();
    let mut again = Client::connect(node.address()).await;
    let less = token_with(json!({"sub": "bob", "exp": now_s() + 60}));
    let hello = session.hello(Resume::next_attempt());
    again
        .send(with(json!({"t": "hello", "token": less}), &hello))
        .await;
    assert_eq!(again.expect("welcome").await["resumed"], true);
    assert_eq!(again.expect("unsub").await["code"], 403);
    assert_eq!(watcher.expect("msg").await["del"], true);
}

#[tokio::test]
async fn a_channel_that_only_counts_says_how_many_and_not_who() {
    let config = crate::support::CONFIG.replace("\"members\"", "\"count\"");
    let node = TestNode::with(&config).await;
    let mut watcher = watch(&node).await;
    let mut ada = node.client("ada").await;
    let mut bob = node.client("bob").await;
    ada.sub(ROOM, json!({"me": "ada"})).await;
    assert_eq!(watcher.expect("msg").await["d"], json!({"n": 1}));
    bob.sub(ROOM, json!({"me": "bob"})).await;
    let two = watcher.expect("msg").await;
    assert_eq!(
        (&two["d"], &two["k"]),
        (&json!({"n": 2}), &ada.welcome["node"])
    );
    for (client, left) in [(&mut ada, json!({"n": 1})), (&mut bob, Value::Null)] {
        client.ask(json!({"t": "unsub", "ch": ROOM})).await;
        assert_eq!(
            watcher.expect("msg").await.get("d").unwrap_or(&Value::Null),
            &left
        );
    }
}

#[tokio::test]
async fn members_are_seen_only_with_the_right() {
    let node = TestNode::start().await;
    let can = json!({"*": ["sub", "pub", "history"], "$*": ["sub", "presence"], MEMBERS: ["sub"]});
    let token = token_with(json!({"sub": "ada", "exp": now_s() + 60, "can": can}));
    let mut ada = Client::connect(node.address()).await;
    ada.send(json!({"t": "hello", "token": token})).await;
    ada.expect("welcome").await;
    for frame in [
        json!({"t": "sub", "ch": MEMBERS, "state": true}),
        json!({"t": "state", "ch": MEMBERS}),
        json!({"t": "history", "ch": MEMBERS}),
    ] {
        assert_eq!(ada.refused(frame).await, (403, "forbidden".to_owned()));
    }
    ada.sub(ROOM, json!({"me": "here"})).await;
}
