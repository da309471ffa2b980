//! The channels themselves: `GET /v1/channels`, and what ends or blanks their logs.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;
use tidewire_protocol::{ChannelName, ErrorCode, limits::CHANNEL_BYTES_MAX};

use super::{
    Api,
    access::{Allowed, ToManage},
    params::{PathParams, Query},
    problem::Problem,
};
use crate::broker::Head;

/// Channels of one page, unless asked otherwise, and at most.
const PAGE: usize = 100;
const PAGE_MAX: usize = 1_000;
/// Sorts after nearly every name of the hub's own channels, which a page passes over.
const AFTER_SYSTEM: &str = "$\u{10FFFF}";
/// Reads of the broker for one page: one that meets the hub's own channels, one past them, one
/// for what still was theirs.
const READS_MAX: usize = 3;

/// A page of channels in the order of their names.
#[derive(Debug, Serialize)]
pub(super) struct Channels {
    channels: Vec<Channel>,
    more: bool,
}

/// Where a channel's log stands.
#[derive(Debug, Serialize)]
pub(super) struct Channel {
    channel: String,
    epoch: String,
    offset: u64,
    /// The first offset history still holds; `offset + 1` when it holds none.
    first: u64,
}

impl Channel {
    fn new(name: &ChannelName, head: &Head) -> Self {
        Self {
            channel: name.to_string(),
            epoch: head.position.epoch.to_string(),
            offset: head.position.offset,
            first: head.first,
        }
    }
}

/// `GET /v1/channels`.
pub(super) async fn list(
    _caller: Allowed<ToManage>,
    State(api): State<Arc<Api>>,
    mut query: Query,
) -> Result<Json<Channels>, Problem> {
    let prefix = query.text("prefix").unwrap_or_default();
    let mut after = query.text("after");
    let limit = query.limit(PAGE, PAGE_MAX)?;
    query.finish("`prefix`, `after` and `limit`")?;
    for (name, text) in [("prefix", Some(&prefix)), ("after", after.as_ref())] {
        if text.is_some_and(|text| text.len() > CHANNEL_BYTES_MAX) {
            let detail = format!("{name}: at most {CHANNEL_BYTES_MAX} bytes");
            return Err(Problem::bad(detail));
        }
    }
    if prefix.starts_with('$') {
        let detail = "channels whose names start with `$` belong to the hub";
        return Err(Problem::new(ErrorCode::Forbidden, detail));
    }
    let mut found = Vec::new();
    for _ in 0..READS_MAX {
        let wanted = limit + 1 - found.len();
        let page = api
            .broker()
            .channels(&prefix, after.as_deref(), wanted)
            .await?;
        let whole = page.len() < wanted;
        let system = page.iter().any(|(name, _)| name.is_system());
        found.extend(page.into_iter().filter(|(name, _)| !name.is_system()));
        if whole || !system {
            break;
        }
        after = Some(AFTER_SYSTEM.to_owned());
    }
    let more = found.len() > limit;
    found.truncate(limit);
    let channels = found.iter().map(|(name, head)| Channel::new(name, head));
    Ok(Json(Channels {
        channels: channels.collect(),
        more,
    }))
}

/// `DELETE /v1/channels/{channel}`: also one whose namespace is not configured any more.
pub(super) async fn forget(
    _caller: Allowed<ToManage>,
    State(api): State<Arc<Api>>,
    path: PathParams,
    query: Query,
) -> Result<Json<Channel>, Problem> {
    let channel = path.channel()?;
    query.finish("none")?;
    let head = api.broker().delete(&channel).await?;
    tracing::info!(%channel, "a channel's log was deleted");
    Ok(Json(Channel::new(&channel, &head)))
}

/// `DELETE /v1/channels/{channel}/history/{offset}`.
pub(super) async fn blank(
    _caller: Allowed<ToManage>,
    State(api): State<Arc<Api>>,
    path: PathParams,
    query: Query,
) -> Result<StatusCode, Problem> {
    let channel = path.channel()?;
    let offset = path.offset()?;
    query.finish("none")?;
    api.broker().blank(&channel, offset).await?;
    Ok(StatusCode::NO_CONTENT)
}
