//! Two nodes as processes on one Redis: what a kill and a drain of one leave to the other.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    process::{Place, run, text, tidewire},
    redis::RedisServer,
    support::{Client, Resume, SECRET, with},
};

const ROOM: &str = "chat:lobby";
const MEMBERS: &str = "$presence:chat:lobby";
/// Members of a killed node have left by then.
const LEFT_BY: Duration = Duration::from_secs(20);

fn place(redis: &RedisServer, more: &str) -> Place {
    let secret = format!("cluster_secret = {SECRET:?}");
    Place::with(&secret, &format!("{more}\n{}", redis.section()))
}

/// Waits until the node knows of two.
async fn knows_both(place: &Place) {
    let known = async {
        loop {
            let answer = reqwest::get(place.url("/readyz")).await.unwrap();
            let ready: Value = answer.json().await.unwrap();
            if ready["nodes"] == 2 {
                return;
            }
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(10), known).await;
    in_time.expect("the nodes know each other");
}

async fn next_message(client: &mut Client) -> Value {
    loop {
        let message = client.socket.next().await.unwrap().unwrap();
        let frames = crate::wire::parse(message.to_text().unwrap());
        if let Some(msg) = frames.into_iter().find(|frame| frame["t"] == "msg") {
            return msg;
        }
    }
}

#[tokio::test]
async fn members_of_a_killed_node_leave_in_time_and_who_resumes_never_left() {
    let redis = RedisServer::start();
    let (killed, living) = (place(&redis, ""), place(&redis, ""));
    let node = killed.start();
    let _other = living.start();
    knows_both(&living).await;
    let mut watcher = living.client("watcher").await;
    watcher
        .sub(MEMBERS, json!({"state": true, "mode": "every"}))
        .await;
    watcher.find(|frame| frame["t"] == "live").await;
    watcher.frames.clear();
    let subs = json!({"subs": [{"ch": ROOM, "me": "here"}]});
    let mut clients = Vec::new();
    for user in ["ada", "bob"] {
        let mut client = killed.client(user).await;
        client.sub(ROOM, json!({"me": "here"})).await;
        clients.push(client);
        watcher.expect("msg").await;
    }
    killed.checkpoints_written(2).await;
    node.kill();
    let dead = Instant::now();
    let ada = clients.remove(0).cut();
    let mut ada = living.resume("ada", &ada, subs).await;
    ada.find(|frame| frame["t"] == "live").await;
    let left = tokio::time::timeout(LEFT_BY, next_message(&mut watcher))
        .await
        .expect("a leave in time");
    eprintln!(
        "the member left {} ms after the kill",
        dead.elapsed().as_millis()
    );
    assert!(left["k"].as_str().unwrap().starts_with("bob/"), "{left}");
    assert_eq!((&left["del"], &left["o"]), (&json!(true), &json!(3)));
    let page = watcher.ask(json!({"t": "state", "ch": MEMBERS})).await;
    assert_eq!(page["items"].as_array().unwrap().len(), 1, "{page}");
}

#[tokio::test]
async fn sigterm_moves_clients_to_the_other_node_loses_nothing_and_exits_0() {
    let redis = RedisServer::start();
    let (leaving, staying) = (place(&redis, ""), place(&redis, ""));
    let node = leaving.start();
    let _other = staying.start();
    knows_both(&leaving).await;
    let mut publisher = staying.client("bob").await;
    let mut clients = Vec::new();
    for number in 0..20 {
        let mut client = leaving.client(&format!("user-{number}")).await;
        let ok = client.sub("news", json!({})).await;
        clients.push((client, ok["e"].clone()));
    }
    publisher.publish("news", json!(1)).await;
    node.signal(Signal::TERM);
    node.line("moving clients");
    let (first, _others) = clients.split_at_mut(5);
    for (number, (old, epoch)) in first.iter_mut().enumerate() {
        let told = old.find(|frame| frame["t"] == "move").await;
        assert!(told["in"].as_u64().unwrap() < 1_000, "{told}");
        publisher.publish("news", json!("meanwhile")).await;
        let seen = old
            .find(|frame| frame["t"] == "msg" && frame["o"] == number as u64 + 2)
            .await;
        let hello = old.resume().hello(Resume::next_attempt());
        let position = json!({"subs": [{"ch": "news", "e": epoch, "o": seen["o"]}]});
        let mut new = Client::connect(staying.address()).await;
        let user = format!("user-{number}");
        let welcome = new.hello(&user, with(hello, &position)).await;
        assert_eq!(welcome["resumed"], true);
        assert_eq!(new.expect("ok").await["rec"], "full");
        assert_eq!(new.expect("live").await["n"], 0);
        let (code, _) = old.closed().await;
        assert_eq!(code, Some(4409));
    }
    // The others go as they please: their connections end, and the node does not wait out its window.
    let begun = Instant::now();
    drop(clients);
    assert_eq!(node.ended().await.code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn doctor_names_what_is_unsafe_and_says_what_to_change() {
    let redis = RedisServer::start();
    let place = place(&redis, "");
    let doctor = || {
        let mut command = tidewire(&["doctor", "--config"]);
        command.arg(place.config());
        command.env("TIDEWIRE__LIMITS__CONNECTIONS", "100");
        run(&mut command)
    };
    let unsafe_one = doctor();
    let said = text(&unsafe_one.stdout);
    assert_eq!(unsafe_one.status.code(), Some(1), "{said}");
    let line = said.lines().find(|line| line.contains("persistence"));
    let line = line.unwrap_or_else(|| panic!("{said}"));
    assert!(line.starts_with("UNSAFE  redis"), "{line}");
    assert!(line.contains("set appendonly yes"), "{line}");
    for part in ["ok      clock", "ok      open files", "ok      data folder"] {
        assert!(said.contains(part), "{part}: {said}");
    }

    redis.set("appendonly", "yes");
    let safe = doctor();
    let said = text(&safe.stdout);
    assert_eq!(safe.status.code(), Some(0), "{said}");
    assert!(!said.contains("UNSAFE"), "{said}");

    drop(redis);
    let mut away = tidewire(&["doctor", "--config"]);
    away.arg(place.config());
    away.env("TIDEWIRE__REDIS__START_PATIENCE", "200ms");
    let away = run(&mut away);
    assert_eq!(away.status.code(), Some(1));
    assert!(text(&away.stdout).contains("UNSAFE  redis"));
    assert!(!text(&away.stdout).contains(SECRET));
}
