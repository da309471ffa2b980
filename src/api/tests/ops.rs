//! Probes and metrics.

use super::*;

#[tokio::test]
async fn probes_answer_without_a_key() {
    let lab = lab().await;
    let probe = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    assert_eq!(lab.send(probe("/healthz")).await.status, 200);
    let ready = lab.send(probe("/readyz")).await;
    assert_eq!(ready.status, 200);
    let body = ready.json();
    assert_eq!(body["ready"], true);
    for part in ["broker", "store"] {
        assert_eq!(body[part]["up"], true, "{body}");
        assert!(body[part]["round_trip_ms"].as_f64().is_some());
    }
    lab.node.gateway().admission.drain();
    let leaving = lab.send(probe("/readyz")).await;
    assert_eq!(
        (leaving.status.as_u16(), leaving.json()["ready"].clone()),
        (503, json!(false))
    );
    assert_eq!(lab.send(probe("/healthz")).await.status, 200);
}

#[tokio::test]
async fn accepted_publications_are_counted_once() {
    let lab = lab().await;
    for _ in 0..2 {
        lab.publish(json!({"channel": "orders:1", "data": 1, "id": "same"}))
            .await;
    }
    let metrics = lab
        .send(Request::get("/metrics").body(Body::empty()).unwrap())
        .await;
    let text = String::from_utf8(metrics.body.to_vec()).unwrap();
    let wanted = "tidewire_publications_total{namespace=\"orders\",source=\"api\"} 1";
    assert!(text.contains(wanted), "{text}");
}

#[tokio::test]
async fn refusals_are_counted_by_reason() {
    let lab = lab().await;
    lab.refused("GET", "/v1/channels/$x/history", "", (403, "forbidden"))
        .await;
    lab.refused("POST", "/v1/publish", "{", (400, "bad_request"))
        .await;
    let metrics = lab
        .send(Request::get("/metrics").body(Body::empty()).unwrap())
        .await;
    let text = String::from_utf8(metrics.body.to_vec()).unwrap();
    for reason in ["forbidden", "bad_request"] {
        let wanted = format!("tidewire_rejected_total{{reason=\"{reason}\"}} 1");
        assert!(text.contains(&wanted), "{text}");
    }
}
