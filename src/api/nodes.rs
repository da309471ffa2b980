//! The nodes of the hub: `/v1/nodes` and `/v1/nodes/{node}/drain`.
//!
//! Answers from the leases this node last saw; a node that is told to leave hears of it through
//! its own orders.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;
use tidewire_protocol::Name;

use super::{
    Api,
    access::{Allowed, ToManage},
    params::{PathParams, Query},
    problem::Problem,
};
use crate::control::Lease;

/// The nodes that live.
#[derive(Debug, Serialize)]
pub(super) struct Nodes {
    /// The node that answers.
    answered_by: String,
    /// Since when it cannot reach the broker, Unix ms: what it says of others is from before.
    #[serde(skip_serializing_if = "Option::is_none")]
    stale_since: Option<u64>,
    nodes: Vec<Node>,
}

#[derive(Debug, Serialize)]
struct Node {
    node: String,
    #[serde(flatten)]
    lease: Lease,
}

/// `GET /v1/nodes`.
pub(super) async fn list(
    _caller: Allowed<ToManage>,
    State(api): State<Arc<Api>>,
    query: Query,
) -> Result<Json<Nodes>, Problem> {
    query.finish("none")?;
    let leases = api.gateway.control.nodes.leases().into_iter();
    let node = |(node, lease): (Name, Lease)| Node {
        node: node.to_string(),
        lease,
    };
    Ok(Json(Nodes {
        answered_by: api.gateway.node.to_string(),
        stale_since: api.gateway.feed.logs().doubts().stale_since(),
        nodes: leases.map(node).collect(),
    }))
}

/// `POST /v1/nodes/{node}/drain`: the node leaves as on SIGTERM.
pub(super) async fn drain(
    caller: Allowed<ToManage>,
    State(api): State<Arc<Api>>,
    path: PathParams,
    query: Query,
) -> Result<StatusCode, Problem> {
    query.finish("none")?;
    let control = &api.gateway.control;
    let node = Name::new(path.text("node")).ok();
    let node = node.filter(|node| control.nodes.is_living(node));
    let node = node.ok_or_else(|| {
        let detail = "no node of this name lives, as far as this one knows";
        Problem::not_found("unknown_node", detail)
    })?;
    control.drain_node(&node).await?;
    tracing::info!(%node, key_id = %caller.key.id(), "a node was told to leave by an operator");
    Ok(StatusCode::ACCEPTED)
}
