//! What answers on which port.

use serde_json::json;

use crate::{
    process::{Place, free_port},
    support::API_KEY,
};

async fn status(url: &str, post: bool) -> u16 {
    let client = reqwest::Client::new();
    let request = if post {
        client
            .post(url)
            .bearer_auth(API_KEY)
            .json(&json!({"channel": "news", "data": 1}))
    } else {
        client.get(url)
    };
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn with_an_internal_listener_backends_and_operators_are_answered_there_alone() {
    let internal = free_port();
    let place = Place::with(&format!("internal_listen = \"127.0.0.1:{internal}\""), "");
    let _node = place.start();
    let inside = format!("http://127.0.0.1:{internal}");
    for (path, post) in [
        ("/metrics", false),
        ("/healthz", false),
        ("/readyz", false),
        ("/v1/openapi.json", false),
        ("/admin", false),
        ("/v1/publish", true),
    ] {
        assert_eq!(
            status(&format!("{inside}{path}"), post).await,
            200,
            "{path}"
        );
        assert_eq!(status(&place.url(path), post).await, 404, "{path}");
    }
    assert_eq!(status(&format!("{inside}/v1/connect"), false).await, 404);
    let mut client = place.client("ada").await;
    assert_eq!(client.publish("news", json!(2)).await["o"], 2);
}
