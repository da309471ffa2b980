//! Publishing: results, ids, guards, several channels, batches.

use super::*;

#[tokio::test]
async fn a_publication_is_accepted_and_read_back() {
    let lab = lab().await;
    let results = lab.publish(json!({"channel": "orders:1", "data": {"status": "paid"}, "key": "status", "event": "changed", "id": "a"})).await;
    assert_eq!(results[0]["channel"], "orders:1");
    assert_eq!(results[0]["offset"], 1);
    assert_eq!(results[0]["duplicate"], false);
    let page = lab.get("/v1/channels/orders:1/history").await;
    assert_eq!(page["epoch"], results[0]["epoch"]);
    assert_eq!(page["offset"], 1);
    let item = &page["items"][0];
    for (member, wanted) in [
        ("data", json!({"status": "paid"})),
        ("key", json!("status")),
        ("event", json!("changed")),
        ("id", json!("a")),
    ] {
        assert_eq!(item[member], wanted);
    }
    let state = lab.get("/v1/channels/orders%3A1/state").await;
    assert_eq!(state["items"][0]["key"], "status");
}

#[tokio::test]
async fn data_keeps_its_text() {
    let lab = lab().await;
    for data in [
        "null",
        "12345678901234567890",
        "1.0",
        "\"\\u0041\"",
        "{\"b\":1,  \"a\":[]}",
        "1e300",
    ] {
        let body = format!("{{\"channel\": \"c\", \"data\": {data}}}");
        assert_eq!(
            lab.call("POST", "/v1/publish", body).await.status,
            200,
            "{data}"
        );
        let page = lab.call("GET", "/v1/channels/c/history?limit=1", "").await;
        let page = String::from_utf8(page.body.to_vec()).unwrap();
        assert!(page.contains(&format!("\"data\":{data}")), "{data}: {page}");
    }
}

#[tokio::test]
async fn bytes_come_back_as_base64() {
    let lab = lab().await;
    lab.publish(json!({"channel": "c", "bytes": "AP/+"})).await;
    assert_eq!(
        lab.get("/v1/channels/c/history").await["items"][0]["bytes"],
        "AP/+"
    );
}

#[tokio::test]
async fn an_id_is_applied_once_from_body_or_header() {
    let lab = lab().await;
    let body = json!({"channel": "c", "data": 1, "id": "once"});
    let first = lab.publish(body.clone()).await;
    let again = lab.publish(body).await;
    assert_eq!(
        (&again[0]["offset"], &again[0]["duplicate"]),
        (&first[0]["offset"], &json!(true))
    );
    for header in ["once", "\"once\""] {
        let request = Request::post("/v1/publish")
            .header("authorization", format!("bearer {ALL}"))
            .header("idempotency-key", header);
        let body = json!({"channel": "c", "data": 1}).to_string();
        let answer = lab.send(request.body(body.into()).unwrap()).await;
        assert_eq!(answer.json()["results"][0]["duplicate"], true, "{header}");
    }
    let other = json!({"channel": "c", "data": 2, "id": "once"}).to_string();
    lab.refused("POST", "/v1/publish", other, (409, "id_conflict"))
        .await;
}

#[tokio::test]
async fn a_guard_holds_or_names_the_present_position() {
    let lab = lab().await;
    let absent = json!({"channel": "c", "data": 1, "if": {"offset": 0}});
    let first = lab.publish(absent.clone()).await[0].clone();
    let problem = lab
        .refused(
            "POST",
            "/v1/publish",
            absent.to_string(),
            (412, "precondition_failed"),
        )
        .await;
    assert_eq!(
        (&problem["epoch"], &problem["offset"]),
        (&first["epoch"], &json!(1))
    );
    assert_eq!(
        problem["results"][0]["error"]["name"],
        "precondition_failed"
    );
    let at = json!({"channel": "c", "data": 2, "if": {"epoch": first["epoch"], "offset": 1}});
    assert_eq!(lab.publish(at).await[0]["offset"], 2);
}

#[tokio::test]
async fn several_channels_are_answered_each_on_its_own() {
    let lab = lab().await;
    let results = lab
        .publish(json!({"channels": ["a", "nowhere:1", "$sys:x", "b"], "data": 1}))
        .await;
    let told: Vec<_> = results
        .as_array()
        .unwrap()
        .iter()
        .map(|result| (result["offset"].as_u64(), result["error"]["code"].as_u64()))
        .collect();
    assert_eq!(
        told,
        [
            (Some(1), None),
            (None, Some(404)),
            (None, Some(403)),
            (Some(1), None)
        ]
    );
}

#[tokio::test]
async fn all_refused_for_one_reason_is_that_problem() {
    let lab = lab().await;
    let one_reason = json!({"channels": ["x:1", "y:1"], "data": 1}).to_string();
    let problem = lab
        .refused("POST", "/v1/publish", one_reason, (404, "unknown_channel"))
        .await;
    assert_eq!(problem["results"].as_array().unwrap().len(), 2);
    let two_reasons = lab
        .publish(json!({"channels": ["x:1", "$y"], "data": 1}))
        .await;
    assert_eq!(two_reasons[1]["error"]["name"], "forbidden");
}

#[tokio::test]
async fn a_batch_is_answered_in_its_order() {
    let lab = lab().await;
    let body = json!({"items": [
        {"channel": "orders:1", "key": "k", "data": 1},
        {"channel": "orders:1", "data": "\u{0}"},
        {"channel": "orders:1", "data": 2, "key": ""},
        {"channel": "orders:1", "key": "k", "delete": true},
        {"channel": "orders:2", "key": "k", "delete": true, "data": "bye", "ttl": 1000},
    ]});
    let answer = lab.call("POST", "/v1/batch", body.to_string()).await.json();
    let offsets: Vec<_> = answer["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["offset"].as_u64())
        .collect();
    assert_eq!(offsets, [Some(1), Some(2), None, Some(3), Some(1)]);
    assert_eq!(
        lab.get("/v1/channels/orders:1/state").await["items"],
        json!([])
    );
}
