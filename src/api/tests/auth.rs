//! API keys: none, unknown, too narrow.

use super::*;

/// Sends with this `Authorization` and checks status and challenge.
async fn check(lab: &Lab, method: &str, path: &str, authorization: &str, wanted: (u16, &str)) {
    let mut request = Request::builder().method(method).uri(path);
    if !authorization.is_empty() {
        request = request.header("authorization", authorization);
    }
    let answer = lab.send(request.body(Body::empty()).unwrap()).await;
    problem(&answer);
    let challenge = answer.header("www-authenticate");
    assert_eq!(
        (answer.status.as_u16(), challenge),
        wanted,
        "{method} {path} {authorization}"
    );
}

#[tokio::test]
async fn a_key_is_required_known_and_wide_enough() {
    let lab = lab().await;
    let none = (401, r#"Bearer realm="tidewire""#);
    let unknown = (401, r#"Bearer realm="tidewire", error="invalid_token""#);
    let publisher = format!("Bearer {PUBLISHER}");
    let long = format!("Bearer {}", "x".repeat(5_000));
    for (method, path, scope) in [
        ("GET", "/v1/channels/c/history", "read"),
        ("GET", "/v1/channels/c/state", "read"),
        ("GET", "/v1/channels/c/presence", "read"),
        ("GET", "/v1/channels", "manage"),
        ("DELETE", "/v1/channels/c", "manage"),
        ("DELETE", "/v1/channels/c/history/1", "manage"),
        ("GET", "/v1/channels/c", "manage"),
        ("GET", "/v1/nodes", "manage"),
        ("POST", "/v1/nodes/n/drain", "manage"),
        ("GET", "/v1/sessions", "manage"),
        ("GET", "/v1/sessions/s", "manage"),
        ("DELETE", "/v1/sessions/s", "manage"),
        ("POST", "/v1/users/u/disconnect", "manage"),
    ] {
        check(&lab, method, path, "", none).await;
        check(&lab, method, path, "Basic dXNlcjpwYXNz", none).await;
        check(&lab, method, path, "Bearer guess", unknown).await;
        check(&lab, method, path, &long, unknown).await;
        let narrow =
            format!(r#"Bearer realm="tidewire", error="insufficient_scope", scope="{scope}""#);
        check(&lab, method, path, &publisher, (403, &narrow)).await;
    }
    check(&lab, "POST", "/v1/publish", "", none).await;
    check(&lab, "POST", "/v1/batch", "", none).await;
}

#[tokio::test]
async fn a_key_is_looked_at_before_anything_else() {
    let lab = lab().await;
    let unknown = (401, r#"Bearer realm="tidewire", error="invalid_token""#);
    check(
        &lab,
        "GET",
        "/v1/channels/%FF/history?x=%",
        "Bearer guess",
        unknown,
    )
    .await;
}

#[tokio::test]
async fn what_is_no_route_is_a_problem() {
    let lab = lab().await;
    lab.refused("GET", "/v1/nothing", "", (404, "not_found"))
        .await;
    lab.refused("GET", "/v1/channels/a/b/c", "", (404, "not_found"))
        .await;
    lab.refused("PUT", "/v1/publish", "", (405, "method_not_allowed"))
        .await;
}
