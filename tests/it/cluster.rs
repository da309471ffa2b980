//! Two nodes on one Redis: whichever a client meets, it is one hub.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::{
    redis::RedisServer,
    support::{API_KEY, CONFIG, Client, Resume, TestNode, now_s, token_with, with},
};

const ROOM: &str = "chat:lobby";
const MEMBERS: &str = "$presence:chat:lobby";
/// What a node is told takes effect within this.
const ACTS_WITHIN: Duration = Duration::from_secs(5);

struct Hub {
    one: TestNode,
    two: TestNode,
    _redis: RedisServer,
}

impl Hub {
    async fn start() -> Self {
        let redis = RedisServer::start();
        let section = redis.section();
        Self {
            one: TestNode::on_redis(CONFIG, &section).await,
            two: TestNode::on_redis(CONFIG, &section).await,
            _redis: redis,
        }
    }
}

/// A call of the HTTP API; answers status and body.
async fn call(node: &TestNode, method: &str, path: &str, body: Value) -> (u16, Value) {
    let request = reqwest::Client::new()
        .request(
            method.parse().unwrap(),
            format!("http://{}{path}", node.address()),
        )
        .bearer_auth(API_KEY);
    let request = if body.is_null() {
        request
    } else {
        request.json(&body)
    };
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.json().await.unwrap_or_default())
}

/// Goes on with a session on a node.
async fn resume(node: &TestNode, user: &str, session: &Resume, more: Value) -> Client {
    let mut client = Client::connect(node.address()).await;
    let hello = with(session.hello(Resume::next_attempt()), &more);
    let welcome = client.hello(user, hello).await;
    assert_eq!(welcome["resumed"], true, "{welcome}");
    client
}

#[tokio::test]
async fn a_resume_on_another_node_goes_on_and_closes_the_old_connection() {
    let hub = Hub::start().await;
    let mut old = hub.one.client("ada").await;
    let ok = old.sub("news", json!({})).await;
    old.publish("news", json!(1)).await;
    old.find(|frame| frame["t"] == "msg").await;
    let begun = Instant::now();
    let position = json!({"subs": [{"ch": "news", "e": ok["e"], "o": 1}]});
    let mut new = resume(&hub.two, "ada", &old.resume(), position).await;
    assert_ne!(new.welcome["node"], old.welcome["node"]);
    let (code, bye) = old.refused_with_bye().await;
    assert_eq!(code, 4409);
    assert!(bye["attempt"].as_u64().is_some(), "{bye}");
    assert!(begun.elapsed() < ACTS_WITHIN, "{:?}", begun.elapsed());
    new.publish("news", json!(2)).await;
    assert_eq!(new.find(|frame| frame["t"] == "msg").await["o"], 2);
}

#[tokio::test]
async fn an_operator_sees_and_ends_a_session_of_another_node() {
    let hub = Hub::start().await;
    hub.two.knows_nodes(2).await;
    let mut client = hub.one.client("ada").await;
    client.sub("news", json!({})).await;
    let path = format!(
        "/v1/sessions/{}",
        client.welcome["session"]["id"].as_str().unwrap()
    );
    let (status, shown) = call(&hub.two, "GET", &path, Value::Null).await;
    assert_eq!(
        (status, &shown["live"], &shown["node"]),
        (200, &json!(true), &client.welcome["node"])
    );
    let (_, own) = call(&hub.one, "GET", &path, Value::Null).await;
    assert_eq!(
        (&own["live"], &own["node"]),
        (&json!(true), &client.welcome["node"])
    );
    let begun = Instant::now();
    assert_eq!(call(&hub.two, "DELETE", &path, Value::Null).await.0, 204);
    assert_eq!(client.refused_with_bye().await.0, 4403);
    assert!(begun.elapsed() < ACTS_WITHIN);
    for node in [&hub.one, &hub.two] {
        assert_eq!(call(node, "GET", &path, Value::Null).await.0, 404);
    }
}

#[tokio::test]
async fn whichever_node_is_asked_tells_what_happened_to_a_session() {
    let hub = Hub::start().await;
    hub.one.knows_nodes(2).await;
    let mut client = hub.one.client("ada").await;
    client.sub("news", json!({})).await;
    let position = client.publish("news", json!(1)).await;
    let first = client.welcome["node"].clone();
    let session = client.cut();
    let sub = json!({"ch": "news", "e": position["e"], "o": position["o"]});
    let mut back = resume(&hub.two, "ada", &session, json!({"subs": [sub]})).await;
    // Answered after all of the hello was.
    back.publish("news", json!(2)).await;
    let path = format!("/v1/sessions/{}", session.id.as_str().unwrap());
    for node in [&hub.one, &hub.two] {
        let (status, shown) = call(node, "GET", &path, Value::Null).await;
        assert_eq!((status, &shown["live"]), (200, &json!(true)), "{shown}");
        assert_eq!(shown["node"], back.welcome["node"]);
        assert_eq!(shown["user"], "ada");
        let events = shown["events"].as_array().unwrap();
        let (began, resumed) = (&events[0], events.last().unwrap());
        assert_eq!((&began["what"], &began["node"]), (&json!("began"), &first));
        assert_eq!(resumed["what"], "resumed", "{shown}");
        assert_eq!(resumed["node"], back.welcome["node"]);
        assert_eq!(
            (&resumed["full"], &resumed["reset"]),
            (&json!(1), &json!(0))
        );
    }
}

#[tokio::test]
async fn sessions_and_readers_of_a_channel_are_found_on_every_node() {
    let hub = Hub::start().await;
    hub.one.knows_nodes(2).await;
    let mut here = hub.one.client("ada").await;
    let mut there = hub.two.client("adam").await;
    here.sub("orders:1", json!({})).await;
    there.sub("orders:1", json!({})).await;
    there
        .publish_with("orders:1", json!({"k": "status", "d": 1}))
        .await;
    let found = async |query: &str| {
        let path = format!("/v1/sessions?{query}");
        let (status, body) = call(&hub.one, "GET", &path, Value::Null).await;
        assert_eq!((status, &body["silent"]), (200, &json!([])), "{body}");
        let sessions = body["sessions"].as_array().unwrap().iter();
        sessions
            .map(|session| session["user"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(found("user=ad").await, ["adam", "ada"]);
    assert_eq!(found("user=ada&exact=true").await, ["ada"]);
    let id = there.welcome["session"]["id"].as_str().unwrap();
    assert_eq!(found(&format!("session={}", &id[..12])).await, ["adam"]);
    assert!(found("user=nobody").await.is_empty());
    let (_, channel) = call(&hub.one, "GET", "/v1/channels/orders:1", Value::Null).await;
    assert_eq!(
        (&channel["offset"], &channel["keys"]),
        (&json!(1), &json!(1))
    );
    let mut nodes = channel["nodes"].as_array().unwrap().clone();
    nodes.retain(|node| node["subscribers"] == 1);
    assert_eq!(nodes.len(), 2, "{channel}");
    assert_ne!(channel["generations"][0]["generation"], "", "{channel}");
}

#[tokio::test]
async fn a_user_is_disconnected_from_every_node_and_may_come_back() {
    let hub = Hub::start().await;
    let mut here = hub.one.client("ada").await;
    let mut there = hub.two.client("ada").await;
    let mut other = hub.two.client("bob").await;
    let begun = Instant::now();
    let (status, body) = call(&hub.one, "POST", "/v1/users/ada/disconnect", Value::Null).await;
    assert_eq!((status, body), (200, json!({"disconnected": 1})));
    for client in [&mut here, &mut there] {
        assert_eq!(client.refused_with_bye().await.0, 4403);
    }
    assert!(begun.elapsed() < ACTS_WITHIN);
    let mut back = hub.one.client("ada").await;
    back.publish("news", json!(1)).await;
    other.publish("news", json!(2)).await;
}

#[tokio::test]
async fn a_withdrawn_token_is_shut_out_of_every_node_also_of_one_that_starts_later() {
    let redis = RedisServer::start();
    let one = TestNode::on_redis(CONFIG, &redis.section()).await;
    let two = TestNode::on_redis(CONFIG, &redis.section()).await;
    let claims = json!({"sub": "ada", "jti": "t-1", "exp": now_s() + 3600});
    let withdrawn = token_with(claims);
    let hello = json!({"t": "hello", "token": withdrawn});
    let mut client = Client::connect(two.address()).await;
    client.send(hello.clone()).await;
    client.expect("welcome").await;
    let begun = Instant::now();
    let body = json!({"token_id": "t-1"});
    let (status, answer) = call(&one, "POST", "/v1/tokens/revoke", body).await;
    assert_eq!((status, answer), (200, json!({"disconnected": 0})));
    assert_eq!(client.refused_with_bye().await.0, 4401);
    assert!(begun.elapsed() < ACTS_WITHIN);
    let late = TestNode::on_redis(CONFIG, &redis.section()).await;
    for node in [&one, &two, &late] {
        let mut again = Client::connect(node.address()).await;
        again.send(hello.clone()).await;
        assert_eq!(again.refused_with_bye().await.0, 4401);
    }
    late.client("ada").await;
}

#[tokio::test]
async fn a_resume_on_another_node_says_nothing_in_the_presence() {
    let hub = Hub::start().await;
    let mut watcher = hub.two.client("watcher").await;
    watcher
        .sub(MEMBERS, json!({"state": true, "mode": "every"}))
        .await;
    watcher.find(|frame| frame["t"] == "live").await;
    watcher.frames.clear();
    let mut ada = Client::connect(hub.one.address()).await;
    ada.hello("ada", json!({"subs": [{"ch": ROOM, "me": "ada"}]}))
        .await;
    ada.find(|frame| frame["t"] == "live").await;
    let joined = watcher.expect("msg").await;
    assert_eq!(joined["d"], "ada");
    let mut new = resume(
        &hub.two,
        "ada",
        &ada.resume(),
        json!({"subs": [{"ch": ROOM, "me": "ada"}]}),
    )
    .await;
    new.find(|frame| frame["t"] == "live").await;
    assert_eq!(ada.closed().await.0, Some(4409));
    // The grace of the old connection is over after ten seconds.
    let quiet = tokio::time::timeout(Duration::from_secs(13), watcher.socket.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    new.ask(json!({"t": "unsub", "ch": ROOM})).await;
    let left = watcher.expect("msg").await;
    assert_eq!((&left["k"], &left["del"]), (&joined["k"], &json!(true)));
    assert_eq!(left["o"], joined["o"].as_u64().unwrap() + 1);
}

#[tokio::test]
async fn a_drain_moves_clients_before_it_breaks_and_loses_nothing() {
    let Hub {
        mut one,
        two,
        _redis,
    } = Hub::start().await;
    let mut publisher = two.client("bob").await;
    let mut old = one.client("ada").await;
    let ok = old.sub("news", json!({})).await;
    publisher.publish("news", json!(1)).await;
    old.find(|frame| frame["t"] == "msg").await;
    two.knows_nodes(2).await;
    one.knows_nodes(2).await;
    let begun = Instant::now();
    let leaving = one.stop();
    let moving = async {
        let told = old.find(|frame| frame["t"] == "move").await;
        assert!(told["by"].as_u64() > told["in"].as_u64(), "{told}");
        // The old connection delivers on until the new one has the session.
        publisher.publish("news", json!(2)).await;
        assert_eq!(old.find(|frame| frame["t"] == "msg").await["o"], 2);
        let position = json!({"subs": [{"ch": "news", "e": ok["e"], "o": 2}]});
        let mut new = resume(&two, "ada", &old.resume(), position).await;
        assert_eq!(new.expect("ok").await["rec"], "full");
        publisher.publish("news", json!(3)).await;
        assert_eq!(new.find(|frame| frame["t"] == "msg").await["o"], 3);
        assert_eq!(old.closed().await.0, Some(4409));
    };
    tokio::join!(leaving, moving);
    assert!(begun.elapsed() < Duration::from_secs(10), "nobody was left");
}

#[tokio::test]
async fn a_client_that_does_not_move_is_sent_away_at_the_end_of_the_window() {
    let redis = RedisServer::start();
    let config = format!("{CONFIG}connections = 100\n[drain]\nwindow = \"2s\"\nrate = 100\n");
    let mut one = TestNode::on_redis(&config, &redis.section()).await;
    let two = TestNode::on_redis(&config, &redis.section()).await;
    let mut stays = one.client("ada").await;
    one.knows_nodes(2).await;
    let leaving = one.stop();
    let staying = async {
        stays.find(|frame| frame["t"] == "move").await;
        let (code, bye) = stays.refused_with_bye().await;
        assert_eq!(code, 4512);
        assert!(bye["retry"].as_u64().is_some(), "{bye}");
    };
    let begun = Instant::now();
    tokio::join!(leaving, staying);
    assert!(begun.elapsed() >= Duration::from_secs(2));
    resume(&two, "ada", &stays.resume(), json!({})).await;
}
