//! `/readyz` while Redis stands still: it says so, and nobody is sent away.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    process::Place,
    redis::RedisServer,
    support::{PATIENCE, SECRET},
};

/// What was promised to operators.
const SAID_WITHIN: Duration = Duration::from_secs(3);

async fn ready(place: &Place) -> (u16, Value) {
    let answer = reqwest::get(place.url("/readyz")).await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// Asks until broker and store are both up, or both down.
async fn until(place: &Place, up: bool) -> (u16, Value) {
    let asked = async {
        loop {
            let (status, body) = ready(place).await;
            if body["broker"]["up"] == up && body["store"]["up"] == up {
                return (status, body);
            }
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, asked).await;
    in_time.unwrap_or_else(|_| panic!("up: {up} is not said"))
}

#[tokio::test]
async fn readyz_says_within_3_s_that_redis_stands_still_and_connections_stay() {
    let redis = RedisServer::start();
    let secret = format!("cluster_secret = {SECRET:?}");
    let place = Place::with(&secret, &redis.section());
    let _node = place.start();
    let mut client = place.client("ada").await;
    client.sub("news", json!({})).await;
    client.expect("live").await;
    let (status, body) = until(&place, true).await;
    assert_eq!((status, &body["ready"]), (200, &json!(true)), "{body}");
    assert!(body["broker"]["round_trip_ms"].as_f64().unwrap() > 0.0);

    redis.signal(Signal::STOP);
    let frozen = Instant::now();
    let (status, body) = until(&place, false).await;
    let said = frozen.elapsed();
    assert!(said < SAID_WITHIN, "after {said:?}: {body}");
    // Redis is away for every node: nothing is gained by going elsewhere.
    assert_eq!((status, &body["ready"]), (200, &json!(true)), "{body}");
    assert_eq!(body["broker"]["round_trip_ms"], Value::Null);
    client.find(|frame| frame["t"] == "stale").await;
    let (_, body) = ready(&place).await;
    assert_eq!(body["connections"], 1, "{body}");
    assert!(body["stale_since"].is_u64(), "{body}");

    redis.signal(Signal::CONT);
    until(&place, true).await;
    // The connection of before still delivers.
    client.frames.clear();
    let published = async {
        loop {
            let answer = client.ask(json!({"t": "pub", "ch": "news", "d": 1})).await;
            if answer["t"] == "ok" {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, published).await.unwrap();
    client.find(|frame| frame["t"] == "msg").await;
}
