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
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use crate::{
    config::units::millis,
    gateway::Gateway,
    store::{CheckpointStore, SessionId},
};

/// A probe's round trip through broker or store may take this long: with [`PROBE_FRESH`] before
/// it, an outage is told within 3 s.
const PROBE_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Whoever asks within this is told what the last one was: nobody has the node publish by asking.
const PROBE_FRESH: Duration = Duration::from_secs(1);
/// A session that never exists.
const PROBE: &str = "$sys:probe";

/// What the probes work with.
#[derive(Debug)]
struct Ops {
    gateway: Arc<Gateway>,
    probed: Mutex<Option<(Instant, Probes)>>,
}

/// The probes of a node.
pub fn ops_router(gateway: Arc<Gateway>) -> Router {
    let ops = Ops {
        gateway,
        probed: Mutex::default(),
    };
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(ops))
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
    draining: bool,
    /// How long moving every connection away would take, seconds.
    drain_seconds: f64,
    #[serde(flatten)]
    load: Load,
    #[serde(flatten)]
    probes: Probes,
    /// Since when the broker is out of reach, Unix ms; none: it answers.
    stale_since: Option<u64>,
    /// How long ago this node last knew all orders of the others, ms; none: not yet. Past 30 s it
    /// decides nothing about rights.
    control_ms_ago: Option<u64>,
    /// Nodes that live, this one included.
    nodes: usize,
    /// What endangers promises although everything works; `tidewire doctor` tells it too.
    findings: Vec<String>,
}

#[derive(Serialize)]
struct Load {
    connections: usize,
    connections_max: u32,
    /// Sessions with a connection here.
    sessions: usize,
    /// Hellos that wait for their turn.
    waiting: usize,
    /// Whether the memory is over its mark.
    over_memory: bool,
}

/// Round trips through the seams.
#[derive(Debug, Clone, Copy, Serialize)]
struct Probes {
    /// A publication, heard again by this node.
    broker: Probe,
    store: Probe,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Probe {
    up: bool,
    /// None where there was no answer in time.
    round_trip_ms: Option<f64>,
}

/// 503 only when new connections should go elsewhere: a broker that is down is down for the
/// other nodes as well, and sending everyone away would make an outage of a delay.
async fn readyz(State(ops): State<Arc<Ops>>) -> Response {
    let probes = ops.probes().await;
    let gateway = &ops.gateway;
    let (admission, control) = (&gateway.admission, &gateway.control);
    let ready = !admission.is_closed();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let connections = admission.connections();
    let body = Ready {
        ready,
        node: gateway.node.to_string(),
        draining: admission.is_draining(),
        drain_seconds: connections as f64 / f64::from(gateway.config.drain.rate.get()),
        load: Load {
            connections,
            connections_max: gateway.config.limits.connections.get(),
            sessions: gateway.sessions(),
            waiting: gateway.waiting(),
            over_memory: admission.is_over_memory(),
        },
        probes,
        stale_since: gateway.feed.logs().doubts().stale_since(),
        control_ms_ago: control.verified_ago().map(millis),
        nodes: control.nodes.living(),
        findings: gateway.feed.broker().findings(),
    };
    (status, Json(body)).into_response()
}

impl Ops {
    /// The round trips, asked for at most once a second however many ask.
    async fn probes(&self) -> Probes {
        let mut probed = self.probed.lock().await;
        if let Some((at, probes)) = *probed
            && at.elapsed() < PROBE_FRESH
        {
            return probes;
        }
        let (broker, store) = tokio::join!(
            probe(self.gateway.control.probe()),
            probe(store(&*self.gateway.store))
        );
        let probes = Probes { broker, store };
        *probed = Some((Instant::now(), probes));
        probes
    }
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

async fn metrics(State(ops): State<Arc<Ops>>) -> Response {
    let text = ops.gateway.metrics.render();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
