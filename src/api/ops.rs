//! What operators and orchestrators probe: `/healthz`, `/readyz` and `/metrics`.
//!
//! A router of its own, so that it can listen apart from clients. Never asks for a key.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;
use tidewire_protocol::ChannelName;
use tokio::time::{Instant, timeout};

use crate::{
    broker::{Broker, PageLimit, StateQuery},
    gateway::Gateway,
    store::{CheckpointStore, SessionId},
};

/// A probe's round trip through broker or store may take this long.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// A channel and a session that never exist.
const PROBE: &str = "$sys:probe";

/// The probes of a node.
pub fn ops_router(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(gateway)
}

/// The process answers; says nothing of what it depends on, so that nothing restarts it in vain.
async fn healthz() -> Json<serde_json::Value> {
    Json(serde_json::json!({ "ok": true }))
}

/// The answer of `/readyz`.
#[derive(Serialize)]
struct Ready {
    /// Whether new connections should come here: false while the node drains, is full or short
    /// of memory.
    ready: bool,
    node: String,
    connections: usize,
    /// Sessions with a connection here.
    sessions: usize,
    broker: Probe,
    store: Probe,
    /// What endangers promises although everything works.
    findings: Vec<String>,
}

#[derive(Serialize)]
struct Probe {
    up: bool,
    /// None where there was no answer in time.
    round_trip_ms: Option<f64>,
}

/// 503 only when new connections should go elsewhere: a broker that is down is down for the
/// other nodes as well, and sending everyone away would make an outage of a delay.
async fn readyz(State(gateway): State<Arc<Gateway>>) -> Response {
    let (broker, store) = tokio::join!(
        probe(broker(gateway.feed.broker())),
        probe(store(&*gateway.store))
    );
    let ready = !gateway.admission.is_closed();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = Ready {
        ready,
        node: gateway.node.to_string(),
        connections: gateway.admission.connections(),
        sessions: gateway.sessions(),
        broker,
        store,
        findings: gateway.feed.broker().findings(),
    };
    (status, Json(body)).into_response()
}

async fn broker(broker: &dyn Broker) -> bool {
    let Ok(channel) = ChannelName::new(PROBE) else {
        return false;
    };
    let query = StateQuery {
        from: 0,
        catch_up: false,
        limit: PageLimit { items: 1, bytes: 1 },
    };
    broker.state(&channel, query).await.is_ok()
}

async fn store(store: &dyn CheckpointStore) -> bool {
    store.read(&SessionId(Arc::from(PROBE))).await.is_ok()
}

async fn probe(answers: impl Future<Output = bool>) -> Probe {
    let begun = Instant::now();
    let up = timeout(PROBE_TIMEOUT, answers).await.unwrap_or(false);
    Probe {
        up,
        round_trip_ms: up.then(|| begun.elapsed().as_secs_f64() * 1_000.0),
    }
}

async fn metrics(State(gateway): State<Arc<Gateway>>) -> Response {
    let text = gateway.metrics.render();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
