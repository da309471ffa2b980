//! SIGTERM: clients are sent away politely, their sessions are there after the restart.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    process::Place,
    support::{API_KEY, Client, JSON, MSGPACK, PATIENCE},
};

#[tokio::test]
async fn sigterm_says_bye_and_the_next_start_resumes_everyone() {
    let place = Place::new();
    let node = place.start();
    let mut writer = place.client("bob").await;
    let mut reader = Client::connect_as(place.address(), MSGPACK).await;
    reader.hello("ada", json!({})).await;
    let ok = reader.sub("news", json!({})).await;
    for n in 1..=10 {
        writer.publish("news", json!(n)).await;
    }
    for n in 1..=10 {
        reader
            .find(|frame| frame["t"] == "msg" && frame["o"] == n)
            .await;
    }
    reader
        .send(json!({"t": "ack", "c": {"news": [ok["e"], 7]}}))
        .await;
    reader.drained().await;
    let mut silent = Client::connect(place.address()).await;
    let stored = [writer.resume(), reader.resume()];

    node.signal(Signal::TERM);
    for client in [&mut writer, &mut reader] {
        let (code, bye) = client.refused_with_bye().await;
        assert_eq!((code, &bye["name"]), (4512, &json!("draining")));
        assert!(bye["retry"].as_u64().is_some(), "{bye}");
    }
    let (code, _) = silent.refused_with_bye().await;
    assert_eq!(code, 4512);
    assert_eq!(node.ended().await.code(), Some(0));

    let _node = place.start();
    let [writer, reader] = stored;
    place.resume("bob", &writer, json!({})).await;
    let mut reader = place.resume("ada", &reader, json!({})).await;
    let begun = reader.expect("ok").await;
    assert_eq!(
        (&begun["e"], &begun["o"], &begun["rec"]),
        (&ok["e"], &json!(7), &json!("full"))
    );
    for n in 8..=10 {
        assert_eq!(reader.expect("msg").await["o"], n);
    }
    assert_eq!(reader.expect("live").await["n"], 3);
}

#[tokio::test]
async fn a_request_that_was_begun_is_answered_before_the_node_ends() {
    let place = Place::new();
    let node = place.start();
    let body = json!({"channel": "news", "data": 1}).to_string();
    let (begun, rest) = body.split_at(10);
    let mut socket = TcpStream::connect(place.address()).await.unwrap();
    let head = format!(
        "POST /v1/publish HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {API_KEY}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut told = [0; 25];
    socket.read_exact(&mut told).await.unwrap();
    assert!(told.starts_with(b"HTTP/1.1 100 Continue"));
    socket.write_all(begun.as_bytes()).await.unwrap();

    node.signal(Signal::TERM);
    let closed = async { while TcpStream::connect(place.address()).await.is_ok() {} };
    timeout(PATIENCE, closed)
        .await
        .expect("nobody new is let in");
    socket.write_all(rest.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.contains("\"offset\":1"), "{answer}");
    assert_eq!(node.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_sigterm_stops_at_once() {
    let place = Place::new();
    let node = place.start();
    let mut writer = place.client("bob").await;
    let mut stalled = Client::connect_slow(place.address(), JSON).await;
    stalled.hello("ada", json!({})).await;
    stalled.sub("news", json!({})).await;
    for _ in 0..100 {
        writer.publish("news", json!("x".repeat(40_000))).await;
    }
    node.signal(Signal::TERM);
    node.line("leaving");
    let second = Instant::now();
    node.signal(Signal::TERM);
    assert_eq!(node.ended().await.code(), Some(0));
    assert!(second.elapsed() < Duration::from_secs(3));
    let _node = place.start();
    place.resume("ada", &stalled.cut(), json!({})).await;
}
