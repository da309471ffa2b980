//! Sessions of real clients, seen and ended by a backend.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use super::*;
use crate::{auth::mint, clock};

/// The one time limit of every wait.
const PATIENCE: Duration = Duration::from_secs(10);

struct Client {
    socket: WebSocketStream<TcpStream>,
    session: String,
    /// Frames of a message that nobody asked for yet.
    waiting: VecDeque<Value>,
}

impl Client {
    /// Opens a session of `user` with a subscription to `orders:1` from the start.
    async fn open(lab: &Lab, user: &str) -> Self {
        let token = mint::NewToken {
            sub: user.to_owned(),
            exp: clock::now_ms() / 1000 + 600,
            can: BTreeMap::from([("orders:*".to_owned(), vec![Right::Sub])]),
            ..mint::NewToken::default()
        };
        let token = mint::hs256(&lab.secret, &token).unwrap();
        let address = lab.node.address();
        let stream = TcpStream::connect(address).await.unwrap();
        let (socket, _) = client_async(format!("ws://{address}/v1/connect"), stream)
            .await
            .unwrap();
        let mut client = Self {
            socket,
            session: String::new(),
            waiting: VecDeque::new(),
        };
        let hello = json!({"t": "hello", "token": token, "subs": [{"ch": "orders:1", "last": 10}]});
        let hello = Message::text(hello.to_string());
        client.socket.send(hello).await.unwrap();
        let welcome = client.next_of("welcome").await.unwrap();
        client.session = welcome["session"]["id"].as_str().unwrap().to_owned();
        client.next_of("live").await.unwrap();
        client
    }

    /// The next frame of a type; none where the connection ended before.
    async fn next_of(&mut self, wanted: &str) -> Option<Value> {
        let frame = async {
            loop {
                while let Some(frame) = self.waiting.pop_front() {
                    if frame["t"] == wanted {
                        return Some(frame);
                    }
                }
                let text = self.socket.next().await?.ok()?.into_text().unwrap();
                let frames = text
                    .lines()
                    .filter_map(|line| serde_json::from_str(line).ok());
                self.waiting.extend(frames);
            }
        };
        tokio::time::timeout(PATIENCE, frame).await.unwrap()
    }
}

/// Asks until the session is as wanted.
async fn until(lab: &Lab, session: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let shown = lab.get(&format!("/v1/sessions/{session}")).await;
        if wanted(&shown) {
            return shown;
        }
        assert!(begun.elapsed() < PATIENCE, "in vain: {what}: {shown}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_session_shows_its_cursors_against_the_heads() {
    let lab = lab().await;
    let first = lab.publish(json!({"channel": "orders:1", "data": 1})).await[0].clone();
    let mut client = Client::open(&lab, "ann").await;
    lab.publish(json!({"channel": "orders:1", "data": 2})).await;
    client.next_of("msg").await.unwrap();
    let live = until(
        &lab,
        &client.session,
        "the cursor is at the head",
        |shown| shown["subscriptions"][0]["cursor"] == 2,
    )
    .await;
    let epoch = &first["epoch"];
    assert_eq!(
        (&live["live"], &live["user"]),
        (&json!(true), &json!("ann"))
    );
    assert_eq!(
        live["subscriptions"][0],
        json!({"channel": "orders:1", "mode": "every", "phase": "live", "epoch": epoch, "cursor": 2, "floor": 0, "head": {"epoch": epoch, "offset": 2}})
    );

    let acknowledged = json!({"t": "ack", "c": {"orders:1": [epoch, 2]}}).to_string();
    client
        .socket
        .send(Message::text(acknowledged))
        .await
        .unwrap();
    until(&lab, &client.session, "the floor is raised", |shown| {
        shown["subscriptions"][0]["floor"] == 2
    })
    .await;
    drop(client.socket);
    let stored = until(
        &lab,
        &client.session,
        "the session is written down",
        |shown| shown["live"] == false,
    )
    .await;
    assert_eq!(stored["attempt"], live["attempt"]);
    assert_eq!(
        stored["subscriptions"],
        json!([{"channel": "orders:1", "mode": "every", "epoch": epoch, "floor": 2, "head": {"epoch": epoch, "offset": 2}}])
    );
}

#[tokio::test]
async fn an_ended_session_is_gone_wherever_it_was() {
    let lab = lab().await;
    let mut client = Client::open(&lab, "ann").await;
    let path = format!("/v1/sessions/{}", client.session);
    assert_eq!(lab.call("DELETE", &path, "").await.status, 204);
    assert_eq!(client.next_of("bye").await.unwrap()["code"], 4403);
    lab.refused("GET", &path, "", (404, "unknown_session"))
        .await;
    lab.refused("DELETE", &path, "", (404, "unknown_session"))
        .await;

    let away = Client::open(&lab, "ann").await;
    drop(away.socket);
    until(
        &lab,
        &away.session,
        "the session is written down",
        |shown| shown["live"] == false,
    )
    .await;
    let path = format!("/v1/sessions/{}", away.session);
    assert_eq!(lab.call("DELETE", &path, "").await.status, 204);
    lab.refused("GET", &path, "", (404, "unknown_session"))
        .await;
}

#[tokio::test]
async fn a_user_is_disconnected_and_no_other() {
    let lab = lab().await;
    let mut ann = [
        Client::open(&lab, "ann/é").await,
        Client::open(&lab, "ann/é").await,
    ];
    let bob = Client::open(&lab, "bob").await;
    let answer = lab
        .call("POST", "/v1/users/ann%2F%C3%A9/disconnect", "")
        .await;
    assert_eq!(answer.json(), json!({"disconnected": 2}));
    for client in &mut ann {
        assert_eq!(client.next_of("bye").await.unwrap()["name"], "forbidden");
    }
    until(&lab, &bob.session, "the other goes on", |shown| {
        shown["live"] == true
    })
    .await;
    let again = lab
        .call("POST", "/v1/users/ann%2F%C3%A9/disconnect", "")
        .await;
    assert_eq!(again.json(), json!({"disconnected": 0}));
}

#[tokio::test]
async fn what_is_no_session_or_user_is_refused() {
    let lab = lab().await;
    for (path, wanted) in [
        ("/v1/sessions/none", (404, "unknown_session")),
        ("/v1/sessions/%00", (404, "unknown_session")),
        ("/v1/sessions/%FF", (400, "bad_request")),
        ("/v1/sessions/none?x=1", (400, "bad_request")),
    ] {
        lab.refused("GET", path, "", wanted).await;
        lab.refused("DELETE", path, "", wanted).await;
    }
    let long = format!("/v1/sessions/{}", "x".repeat(5_000));
    lab.refused("GET", &long, "", (404, "unknown_session"))
        .await;
    for user in ["%00", "%20", "%FF"] {
        let path = format!("/v1/users/{user}/disconnect");
        lab.refused("POST", &path, "", (400, "bad_request")).await;
    }
}
