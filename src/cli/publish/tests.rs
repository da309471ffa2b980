//! Publishing against a real HTTP server on the loopback interface.

use std::{
    future::IntoFuture,
    io::{Cursor, Write},
    net::Ipv4Addr,
    sync::Arc,
};

use axum::{Json, Router, extract::State, http::HeaderMap, http::StatusCode, routing::post};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;

use super::{Template, lines, many, one, send::Sender};
use crate::cli::client::Target;

/// An API that keeps what it was sent and fails the first `failures` requests.
#[derive(Debug, Default)]
struct Api {
    items: Mutex<Vec<Value>>,
    requests: Mutex<usize>,
    failures: usize,
}

async fn publish(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> (StatusCode, Json<Value>) {
    if headers
        .get("authorization")
        .and_then(|value| value.to_str().ok())
        != Some("Bearer secret")
    {
        return (
            StatusCode::UNAUTHORIZED,
            Json(json!({"title": "unauthenticated", "detail": "no such key"})),
        );
    }
    let mut requests = api.requests.lock();
    *requests += 1;
    if *requests <= api.failures {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({"title": "unavailable"})),
        );
    }
    let items = match body.get("items") {
        Some(items) => items.as_array().unwrap().clone(),
        None => vec![body],
    };
    let mut kept = api.items.lock();
    let results: Vec<_> = items
        .into_iter()
        .map(|item| {
            if item["data"] == "refuse me" {
                return json!({"channel": item["channel"], "error": {"code": 413, "name": "too_large", "text": "no"}});
            }
            kept.push(item.clone());
            json!({"channel": item["channel"], "epoch": "e", "offset": kept.len(), "duplicate": false})
        })
        .collect();
    (StatusCode::OK, Json(json!({ "results": results })))
}

struct Server {
    api: Arc<Api>,
    url: String,
    _serving: AbortOnDropHandle<std::io::Result<()>>,
}

impl Server {
    async fn new(failures: usize) -> Self {
        let api = Arc::new(Api {
            failures,
            ..Api::default()
        });
        let routes = Router::new()
            .route("/v1/publish", post(publish))
            .route("/v1/batch", post(publish))
            .with_state(Arc::clone(&api));
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = axum::serve(listener, routes).into_future();
        Self {
            api,
            url,
            _serving: AbortOnDropHandle::new(tokio::spawn(serving)),
        }
    }

    fn sender(&self, key: &str) -> Sender {
        Sender::new(&Target::at(&self.url), key.to_owned()).unwrap()
    }

    fn data(&self) -> Vec<Value> {
        self.api
            .items
            .lock()
            .iter()
            .map(|item| item["data"].clone())
            .collect()
    }
}

fn template() -> Template {
    Template {
        channel: "orders:42".to_owned(),
        key: Some("status".to_owned()),
        event: None,
    }
}

#[tokio::test]
async fn lines_arrive_in_order_and_whole() {
    let server = Server::new(0).await;
    let text: String = (0..2_500).map(|n| format!("{{\"n\":{n}}}\n\n")).collect();
    many(&server.sender("secret"), &template(), Cursor::new(text))
        .await
        .unwrap();
    let numbers: Vec<_> = server
        .data()
        .iter()
        .map(|data| data["n"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (0..2_500).collect::<Vec<_>>());
    let ids: std::collections::HashSet<_> = server
        .api
        .items
        .lock()
        .iter()
        .map(|item| item["id"].to_string())
        .collect();
    assert_eq!(ids.len(), 2_500);
}

#[tokio::test]
async fn a_line_is_sent_before_the_next_one_comes() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut lines = lines::read(std::io::BufReader::new(reader));
    for n in 1..=3 {
        writeln!(writer, "{n}").unwrap();
        let batch = lines.next_batch().await.unwrap();
        assert_eq!((batch.len(), batch[0].number), (1, n));
    }
    drop(writer);
    assert!(lines.next_batch().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_no_json_is_published_as_text() {
    let server = Server::new(0).await;
    let sender = server.sender("secret");
    for (text, data) in [
        ("hello", json!("hello")),
        ("12", json!(12)),
        ("{\"a\":1.50}", json!({"a": 1.5})),
        ("{oops", json!("{oops")),
    ] {
        one(&sender, template().item(text, None).unwrap())
            .await
            .unwrap();
        assert_eq!(server.data().last(), Some(&data));
    }
    one(
        &sender,
        template().item("x", Some("id-1".to_owned())).unwrap(),
    )
    .await
    .unwrap();
    assert_eq!(server.api.items.lock().last().unwrap()["id"], "id-1");
    assert_eq!(server.api.items.lock().last().unwrap()["key"], "status");
}

#[tokio::test]
async fn a_node_that_is_away_for_a_moment_is_asked_again_with_the_same_ids() {
    let server = Server::new(2).await;
    one(
        &server.sender("secret"),
        template().item("1", None).unwrap(),
    )
    .await
    .unwrap();
    assert_eq!(*server.api.requests.lock(), 3);
    assert_eq!(server.data(), [json!(1)]);
}

#[tokio::test]
async fn a_wrong_key_is_told_and_not_tried_again() {
    let server = Server::new(0).await;
    let error = one(&server.sender("guess"), template().item("1", None).unwrap())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the node answered 401: unauthenticated: no such key"
    );
}

#[tokio::test]
async fn a_refused_line_does_not_stop_the_others_but_fails_the_command() {
    let server = Server::new(0).await;
    let error = many(
        &server.sender("secret"),
        &template(),
        Cursor::new("1\nrefuse me\n2\n"),
    )
    .await
    .unwrap_err();
    assert_eq!(error.to_string(), "2 lines published, 1 refused");
    assert_eq!(server.data(), [json!(1), json!(2)]);
}

#[tokio::test]
async fn a_line_that_cannot_be_sent_is_named_after_those_before_it() {
    let server = Server::new(0).await;
    let mut input = b"1\n".to_vec();
    input.extend([0xff, b'\n']);
    let error = many(&server.sender("secret"), &template(), Cursor::new(input))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "line 2 is not UTF-8");
    assert_eq!(server.data(), [json!(1)]);
    let endless = "x".repeat(2 * 1024 * 1024);
    let error = many(&server.sender("secret"), &template(), Cursor::new(endless))
        .await
        .unwrap_err();
    assert!(
        error.to_string().starts_with("line 1 is longer than"),
        "{error}"
    );
}
