//! Presence over a SIGKILL: who comes back never left, who does not is gone after the grace.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::{process::Place, support::Client};

const ROOM: &str = "chat:lobby";
const MEMBERS: &str = "$presence:chat:lobby";
/// The grace is ten seconds; what is beyond is the sweep and a slow machine.
const LEFT_BY: Duration = Duration::from_secs(13);

/// Enters the room with the hello, so that one write of the checkpoint holds all of it.
async fn enter(place: &Place, user: &str) -> Client {
    let mut client = Client::connect(place.address()).await;
    let subs = json!({"subs": [{"ch": ROOM, "me": user}]});
    client.hello(user, subs).await;
    client.find(|frame| frame["t"] == "live").await;
    client
}

#[tokio::test]
async fn after_a_kill_only_those_who_stay_away_leave() {
    let place = Place::new();
    let node = place.start();
    let mut watcher = place.client("watcher").await;
    let ok = watcher
        .sub(MEMBERS, json!({"state": true, "mode": "every"}))
        .await;
    watcher.find(|frame| frame["t"] == "live").await;
    let mut clients = Vec::new();
    let mut keys = Vec::new();
    for user in ["ada", "bob", "cyd"] {
        clients.push(enter(&place, user).await);
        keys.push(watcher.find(|frame| frame["t"] == "msg").await["k"].clone());
    }
    place.checkpoints_written(4).await;
    node.kill();

    let _node = place.start();
    let restarted = Instant::now();
    let sessions: Vec<_> = clients.into_iter().map(Client::cut).collect();
    let position = json!({"subs": [{"ch": MEMBERS, "e": ok["e"], "o": 3}]});
    let mut watcher = place.resume("watcher", &watcher.cut(), position).await;
    let begun = watcher.expect("ok").await;
    assert_eq!((&begun["rec"], &begun["o"]), (&json!("full"), &json!(3)));
    watcher.expect("live").await;
    // One remembers its subscriptions, the other leaves that to the node.
    let subs = json!({"subs": [{"ch": ROOM, "me": "ada"}]});
    let mut ada = place.resume("ada", &sessions[0], subs).await;
    let mut bob = place.resume("bob", &sessions[1], json!({})).await;
    for client in [&mut ada, &mut bob] {
        assert_eq!(client.expect("ok").await["rec"], "full");
    }
    let left = tokio::time::timeout(LEFT_BY, next_message(&mut watcher))
        .await
        .expect("a leave in time");
    assert_eq!((&left["k"], &left["del"]), (&keys[2], &json!(true)));
    assert!(restarted.elapsed() > Duration::from_secs(8));
    assert_eq!(watcher.drained().await, Vec::<Value>::new());
    let page = watcher.ask(json!({"t": "state", "ch": MEMBERS})).await;
    let members: Vec<_> = page["items"].as_array().unwrap().iter().collect();
    assert_eq!(members.len(), 2);
    assert!(
        members
            .iter()
            .all(|member| keys[..2].contains(&member["k"]))
    );
}

#[tokio::test]
async fn a_kill_before_the_membership_was_written_down_makes_no_second_member() {
    let place = Place::new();
    let node = place.start();
    let mut ada = place.client("ada").await;
    ada.sub(ROOM, json!({"me": "ada"})).await;
    let session = ada.cut();
    node.kill();
    let _node = place.start();
    let subs = json!({"subs": [{"ch": ROOM, "me": "ada"}]});
    let mut ada = place.resume("ada", &session, subs).await;
    ada.find(|frame| frame["t"] == "live").await;
    let page = ada.ask(json!({"t": "state", "ch": MEMBERS})).await;
    assert_eq!(page["items"].as_array().unwrap().len(), 1, "{page}");
}

/// The next publication, however long it takes.
async fn next_message(client: &mut Client) -> Value {
    loop {
        let message = client.socket.next().await.unwrap().unwrap();
        let frames = crate::wire::parse(message.to_text().unwrap());
        if let Some(msg) = frames.into_iter().find(|frame| frame["t"] == "msg") {
            return msg;
        }
    }
}
