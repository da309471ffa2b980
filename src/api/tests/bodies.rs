//! Bad input of every kind gets its named error, and leaves the node as it was.

use super::*;

const BAD: (u16, &str) = (400, "bad_request");

/// Publishes and checks how it is refused, and that the detail says why.
async fn check(lab: &Lab, body: impl Into<Body>, wanted: (u16, &str), says: &str) {
    let problem = lab.refused("POST", "/v1/publish", body, wanted).await;
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(says), "{detail:?} does not say {says:?}");
}

#[tokio::test]
async fn a_body_that_is_not_the_shape_is_refused() {
    let lab = lab().await;
    for (body, says) in [
        ("", "EOF"),
        ("{", "EOF"),
        ("[]", "expected struct Item"),
        ("{\"channel\":\"c\",\"data\":1} x", "trailing"),
        ("{\"channel\":\"c\"}", "`data`"),
        ("{\"data\":1}", "`channel` or `channels`"),
        (
            "{\"channel\":\"c\",\"channels\":[\"d\"],\"data\":1}",
            "either",
        ),
        ("{\"channels\":[],\"data\":1}", "1 to 100"),
        ("{\"channel\":5,\"data\":1}", "expected a string"),
        (
            "{\"channel\":\"c\",\"data\":1,\"chanel\":\"d\"}",
            "unknown field `chanel`, expected one of `channel`",
        ),
        (
            "{\"channel\":\"c\",\"channel\":\"c\",\"data\":1}",
            "duplicate field",
        ),
        (
            "{\"channel\":\"c\",\"data\":1,\"data\":2}",
            "duplicate field",
        ),
        (
            "{\"channel\":\"c\",\"data\":1,\"delete\":\"yes\"}",
            "boolean",
        ),
        ("{\"channel\":\"c\",\"delete\":true}", "`key` is missing"),
        ("{\"channel\":\"c\",\"data\":1,\"bytes\":\"\"}", "exclude"),
        ("{\"channel\":\"c\",\"bytes\":\"AP/\"}", "base64"),
        ("{\"channel\":\"c\",\"bytes\":\"AP_-\"}", "base64"),
        ("{\"channel\":\"c\",\"data\":1,\"ttl\":0}", "ttl"),
        ("{\"channel\":\"c\",\"data\":1,\"ttl\":-1}", "u64"),
        (
            "{\"channel\":\"c\",\"data\":1,\"ttl\":9007199254740992}",
            "ttl",
        ),
        (
            "{\"channel\":\"c\",\"data\":1,\"if\":{\"offset\":1}}",
            "epoch",
        ),
        (
            "{\"channel\":\"c\",\"data\":1,\"if\":{\"epoch\":\"\",\"offset\":1}}",
            "if.epoch",
        ),
        (
            "{\"channel\":\"c\",\"data\":1,\"if\":{\"epoch\":\"e\"}}",
            "offset",
        ),
        (
            "{\"channel\":\"c\",\"data\":1,\"if\":{\"offset\":0,\"o\":1}}",
            "unknown field",
        ),
    ] {
        check(&lab, body, BAD, says).await;
    }
}

#[tokio::test]
async fn data_that_one_encoding_could_not_carry_is_refused() {
    let lab = lab().await;
    let deep = format!("{}{}", "[".repeat(33), "]".repeat(33));
    let abyss = "[".repeat(60_000);
    for (data, says) in [
        ("1e999", "range of a double"),
        ("\"\\ud800\"", "lone surrogate"),
        ("{\"\\udc00\":1}", "lone surrogate"),
        ("{\"a\":1,\"\\u0061\":2}", "key twice"),
        (deep.as_str(), "deeper than 32"),
        (abyss.as_str(), "expected value"),
        ("nul", "expected"),
        ("01", "line 1"),
        ("\"\u{1}\"", "control character"),
        ("NaN", "expected value"),
    ] {
        check(
            &lab,
            format!("{{\"channel\":\"c\",\"data\":{data}}}"),
            BAD,
            says,
        )
        .await;
    }
}

#[tokio::test]
async fn names_are_checked_where_they_come_in() {
    let lab = lab().await;
    let long = "x".repeat(201);
    for (channel, wanted, says) in [
        ("", BAD, "channel: the name is empty"),
        ("a\\u0000b", BAD, "control character"),
        ("a\\nb", BAD, "control character"),
        (" a", BAD, "white space"),
        (long.as_str(), BAD, "200 bytes"),
        ("\\ud83d", BAD, "hex escape"),
        ("nowhere:1", (404, "unknown_channel"), "nowhere:1"),
        ("$sys:control", (403, "forbidden"), "`$`"),
        ("$presence:orders:1", (403, "forbidden"), "`$`"),
    ] {
        check(
            &lab,
            format!("{{\"channel\":\"{channel}\",\"data\":1}}"),
            wanted,
            says,
        )
        .await;
    }
    for field in ["key", "event", "id"] {
        for text in ["", "a\\u0007", &"x".repeat(129)] {
            let body = format!("{{\"channel\":\"c\",\"data\":1,\"{field}\":\"{text}\"}}");
            check(&lab, body, BAD, &format!("{field}: the name")).await;
        }
    }
}

#[tokio::test]
async fn bytes_that_are_no_text_are_refused() {
    let lab = lab().await;
    let body = b"{\"channel\":\"c\",\"data\":\"\xff\"}".to_vec();
    check(&lab, body, BAD, "UTF-8 from byte 23").await;
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let lab = lab().await;
    let large = (413, "too_large");
    let data = |len: usize| json!({"channel": "c", "data": "x".repeat(len - 2)}).to_string();
    assert_eq!(
        lab.call("POST", "/v1/publish", data(1024)).await.status,
        200
    );
    check(&lab, data(1025), large, "1024 bytes").await;
    check(&lab, data(1 << 20), large, "the body is over").await;
    let batch = " ".repeat((4 << 20) + 1);
    lab.refused("POST", "/v1/batch", batch, large).await;
    let bytes = json!({"channel": "c", "bytes": "A".repeat(1368)}).to_string();
    check(&lab, bytes, large, "1024 bytes").await;
}

#[tokio::test]
async fn a_batch_has_its_own_rules() {
    let lab = lab().await;
    let many: Vec<_> = vec![json!({"channel": "c", "data": 1}); 1001];
    let channels: Vec<_> = vec!["c"; 101];
    for (path, body, says) in [
        ("/v1/batch", json!({"items": []}), "1 to 1000"),
        ("/v1/batch", json!({"items": many}), "1 to 1000"),
        ("/v1/batch", json!({"items": [{"data": 1}]}), "items[0]"),
        (
            "/v1/batch",
            json!({"items": [{"channel": "c", "data": 1}, {"channels": ["c"], "data": 1}]}),
            "items[1]",
        ),
        ("/v1/batch", json!([]), "expected struct Batch"),
        (
            "/v1/publish",
            json!({"channels": channels, "data": 1}),
            "1 to 100",
        ),
    ] {
        let problem = lab.refused("POST", path, body.to_string(), BAD).await;
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(says), "{detail:?} does not say {says:?}");
    }
    assert_eq!(lab.get("/v1/channels").await["channels"], json!([]));
}

#[tokio::test]
async fn a_key_that_contradicts_the_id_is_refused() {
    let lab = lab().await;
    for (path, key, body, says) in [
        (
            "/v1/publish",
            &b"b"[..],
            json!({"channel": "c", "data": 1, "id": "a"}),
            "different",
        ),
        (
            "/v1/publish",
            b"\xff",
            json!({"channel": "c", "data": 1}),
            "UTF-8",
        ),
        (
            "/v1/publish",
            b"",
            json!({"channel": "c", "data": 1}),
            "id: the name is empty",
        ),
        (
            "/v1/batch",
            b"b",
            json!({"items": [{"channel": "c", "data": 1}]}),
            "each item",
        ),
    ] {
        let request = Request::post(path)
            .header("authorization", format!("Bearer {ALL}"))
            .header("idempotency-key", key);
        let answer = lab
            .send(request.body(body.to_string().into()).unwrap())
            .await;
        assert_eq!(answer.status, 400);
        let problem = problem(&answer);
        assert!(
            problem["detail"].as_str().unwrap().contains(says),
            "{problem}"
        );
    }
}

#[tokio::test]
async fn a_huge_unknown_field_is_not_repeated() {
    let lab = lab().await;
    let body = format!("{{\"{}\":1}}", "y".repeat(100_000));
    let answer = lab.call("POST", "/v1/publish", body).await;
    assert_eq!(answer.status, 400);
    assert!(answer.body.len() < 1_000);
}

#[tokio::test]
async fn a_request_without_end_is_answered_in_time() {
    let limit = std::time::Duration::from_millis(1);
    let late = super::super::within(limit, std::future::pending()).await;
    let (parts, body) = late.into_parts();
    let answer = Answer {
        status: parts.status,
        headers: parts.headers,
        body: body.collect().await.unwrap().to_bytes(),
    };
    assert_eq!(
        (answer.status.as_u16(), answer.header("retry-after")),
        (503, "1")
    );
    assert_eq!(problem(&answer)["retry_ms"], 1000);
}

#[tokio::test]
async fn bodies_wait_for_room() {
    let lab = lab().await;
    let chunked = |text: String| {
        Body::from_stream(futures_util::stream::iter([Ok::<_, std::io::Error>(text)]))
    };
    let batch = json!({"items": [{"channel": "c", "data": 1}]}).to_string();
    let requests = (0..64).map(|_| lab.call("POST", "/v1/batch", chunked(batch.clone())));
    for answer in futures_util::future::join_all(requests).await {
        assert_eq!(answer.status, 200);
    }
    assert_eq!(
        lab.get("/v1/channels/c/history?limit=1").await["offset"],
        64
    );
}
