//! The channels themselves: `GET /v1/channels`, and what ends or blanks their logs.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;
use tidewire_protocol::{ChannelName, ErrorCode, command::Range, limits::CHANNEL_BYTES_MAX};

use super::{
    Api,
    access::{Allowed, ToManage},
    params::{PathParams, Query},
    problem::Problem,
};
use crate::{
    broker::{
        Head, PageLimit, StateQuery,
        lineage::{Parts, Segment},
    },
    control::Question,
    gateway::known::Followed,
};

/// Channels of one page, unless asked otherwise, and at most.
const PAGE: usize = 100;
const PAGE_MAX: usize = 1_000;
/// How far the keys of a channel's state are counted.
const KEYS: StateQuery = StateQuery {
    from: 1,
    catch_up: false,
    limit: PageLimit {
        items: 1024,
        bytes: 256 * 1024,
    },
};
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

/// A channel looked at closely.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    #[serde(flatten)]
    log: Channel,
    /// The generations in its log, oldest first.
    generations: Vec<Generation>,
    /// Keys of its state, as far as one page goes; none where it keeps none.
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<usize>,
    more_keys: bool,
    /// Nodes that follow it.
    nodes: Vec<Followed>,
    /// Nodes that did not answer.
    silent: Vec<String>,
}

/// What one incarnation of the broker minted in a channel.
#[derive(Debug, Serialize)]
struct Generation {
    /// Empty where there is one for ever.
    generation: String,
    start: u64,
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

/// `GET /v1/channels/{channel}`: its log, its state, and what each node holds of it.
pub(super) async fn show(
    _caller: Allowed<ToManage>,
    State(api): State<Arc<Api>>,
    path: PathParams,
    query: Query,
) -> Result<Json<Shown>, Problem> {
    let channel = path.channel()?;
    query.finish("none")?;
    let keeps_state = api.namespace(&channel)?.state;
    let limit = PageLimit { items: 1, bytes: 1 };
    let page = api.broker().history(&channel, Range::Before(None), limit);
    let head = page.await?.head;
    let (keys, more_keys) = if keeps_state {
        let page = api.broker().state(&channel, KEYS).await?;
        (Some(page.items.len()), page.more)
    } else {
        (None, false)
    };
    let mut nodes: Vec<_> = api.gateway.followed(&channel).into_iter().collect();
    let question = Question::Channel {
        channel: channel.to_string(),
    };
    let answers = api.ask_others(question).await?;
    nodes.extend(answers.of::<Followed>());
    let segments = head.lineage.segments().iter();
    let generation = |segment: &Segment| Generation {
        generation: Parts::of(&segment.epoch).generation.to_owned(),
        start: segment.start,
    };
    Ok(Json(Shown {
        generations: segments.map(generation).collect(),
        log: Channel::new(&channel, &head),
        keys,
        more_keys,
        nodes,
        silent: answers.silent.iter().map(ToString::to_string).collect(),
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
