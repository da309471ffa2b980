//! What a channel holds: `GET /v1/channels/{channel}/history`, `/state` and `/presence`.

use std::sync::Arc;

use axum::{Json, extract::State};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;
use serde_json::value::RawValue;
use tidewire_protocol::{ErrorCode, Payload, Publication, command::Range};

use super::{
    Api,
    access::{Allowed, ToRead},
    params::{PathParams, Query},
    problem::Problem,
};
use crate::{
    broker::{BrokerError, PageLimit, StateQuery},
    config::Presence,
};

/// Most bytes of payload in one page.
const PAGE_BYTES: usize = 256 * 1024;
/// Most entries of a presence channel that are read: 1,000 members, and a count of each node.
const PRESENCE_ENTRIES_MAX: usize = 2_048;

/// One publication.
#[derive(Debug, Serialize)]
pub(super) struct Item {
    /// The epoch of its publication; only in a page of state.
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
    offset: u64,
    ts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
}

impl Item {
    fn new(publication: &Publication) -> Result<Self, Problem> {
        let (data, bytes) = match &publication.payload {
            None => (None, None),
            Some(Payload::Json(text)) => (Some(raw(text)?), None),
            Some(Payload::Bytes(bytes)) => (None, Some(STANDARD.encode(bytes))),
        };
        Ok(Self {
            epoch: None,
            offset: publication.offset,
            ts: publication.ts,
            data,
            bytes,
            key: publication.key.as_ref().map(ToString::to_string),
            event: publication.event.as_ref().map(ToString::to_string),
            id: publication.id.as_ref().map(ToString::to_string),
            by: publication.by.as_ref().map(ToString::to_string),
            deleted: publication.deleted,
            expires: publication.expires,
        })
    }
}

/// Stored text is JSON: it was checked when it was accepted.
fn raw(text: &[u8]) -> Result<Box<RawValue>, Problem> {
    let text: Result<&RawValue, _> = serde_json::from_slice(text);
    text.map(ToOwned::to_owned).map_err(|error| {
        tracing::error!(%error, "stored data is not JSON");
        Problem::new(ErrorCode::Internal, "stored data could not be read")
    })
}

/// A page of history or state.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    /// The epoch of the log.
    epoch: String,
    /// The last offset of the log when the page was read.
    offset: u64,
    /// The first offset history still holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<u64>,
    items: Vec<Item>,
    more: bool,
}

/// `GET /v1/channels/{channel}/history`.
pub(super) async fn history(
    _caller: Allowed<ToRead>,
    State(api): State<Arc<Api>>,
    path: PathParams,
    mut query: Query,
) -> Result<Json<Page>, Problem> {
    let channel = path.channel()?;
    let (before, after) = (query.integer("before")?, query.integer("after")?);
    let epoch = query.epoch()?;
    let limit = page_limit(&api, &mut query)?;
    query.finish("`before`, `after`, `epoch` and `limit`")?;
    api.namespace(&channel)?;
    let (range, seen) = match (before, after) {
        (before, None) => (
            Range::Before(before),
            before.map_or(0, |offset| offset.saturating_sub(1)),
        ),
        (None, Some(after)) => (Range::After(after), after),
        (Some(_), Some(_)) => {
            return Err(Problem::bad("`before` and `after` exclude each other"));
        }
    };
    let page = api.broker().history(&channel, range, limit).await?;
    let head = page.head.position;
    if epoch.is_some_and(|epoch| epoch != head.epoch) || seen > head.offset {
        return Err(Problem::from(BrokerError::Gone).position(head));
    }
    let items = page.items.iter().map(|publication| Item::new(publication));
    Ok(Json(Page {
        epoch: head.epoch.to_string(),
        offset: head.offset,
        first: Some(page.head.first),
        items: items.collect::<Result<_, _>>()?,
        more: page.more,
    }))
}

/// `GET /v1/channels/{channel}/state`.
pub(super) async fn state(
    _caller: Allowed<ToRead>,
    State(api): State<Arc<Api>>,
    path: PathParams,
    mut query: Query,
) -> Result<Json<Page>, Problem> {
    let channel = path.channel()?;
    let from = query.integer("from")?.unwrap_or(0);
    let limit = page_limit(&api, &mut query)?;
    query.finish("`from` and `limit`")?;
    if !api.namespace(&channel)?.state {
        return Err(Problem::bad("the channel's namespace keeps no state"));
    }
    let query = StateQuery {
        from,
        catch_up: false,
        limit,
    };
    let page = api.broker().state(&channel, query).await?;
    let items = page.items.iter().map(|item| {
        let epoch = Some(item.epoch.to_string());
        Ok::<_, Problem>(Item {
            epoch,
            ..Item::new(&item.publication)?
        })
    });
    Ok(Json(Page {
        epoch: page.head.position.epoch.to_string(),
        offset: page.head.position.offset,
        first: None,
        items: items.collect::<Result<_, _>>()?,
        more: page.more,
    }))
}

fn page_limit(api: &Api, query: &mut Query) -> Result<PageLimit, Problem> {
    let max = usize::try_from(api.limits().page.get()).unwrap_or(usize::MAX);
    Ok(PageLimit {
        items: query.limit(max, max)?,
        bytes: PAGE_BYTES,
    })
}

/// Who is in a channel.
#[derive(Debug, Serialize)]
pub(super) struct Members {
    /// How many there are, listed or not.
    count: u64,
    /// Those that are listed; none in a namespace that only counts.
    members: Vec<Member>,
}

#[derive(Debug, Serialize)]
struct Member {
    key: String,
    /// The user as the key has it: its first 100 bytes, `anonymous` without a token.
    user: String,
    data: Box<RawValue>,
}

/// `GET /v1/channels/{channel}/presence`.
pub(super) async fn presence(
    _caller: Allowed<ToRead>,
    State(api): State<Arc<Api>>,
    path: PathParams,
    query: Query,
) -> Result<Json<Members>, Problem> {
    let channel = path.channel()?;
    query.finish("none")?;
    if api.namespace(&channel)?.presence == Presence::Off {
        let detail = "the channel's namespace has no presence";
        return Err(Problem::new(ErrorCode::UnknownChannel, detail));
    }
    let channel = channel.presence();
    let mut answer = Members {
        count: 0,
        members: Vec::new(),
    };
    let mut from = 0;
    let mut seen = 0;
    loop {
        let limit = PageLimit {
            items: PRESENCE_ENTRIES_MAX - seen,
            bytes: PAGE_BYTES,
        };
        let query = StateQuery {
            from,
            catch_up: false,
            limit,
        };
        let page = api.broker().state(&channel, query).await?;
        for item in &page.items {
            answer.add(&item.publication)?;
            from = item.publication.offset + 1;
        }
        seen += page.items.len();
        if !page.more || seen >= PRESENCE_ENTRIES_MAX || page.items.is_empty() {
            return Ok(Json(answer));
        }
    }
}

/// What a node says of the members it does not list.
#[derive(serde::Deserialize)]
struct Count {
    n: u64,
}

impl Members {
    /// Adds an entry of the presence channel: a member `<user>/<n>`, or a node's count.
    fn add(&mut self, publication: &Publication) -> Result<(), Problem> {
        let (Some(key), Some(Payload::Json(text))) = (&publication.key, &publication.payload)
        else {
            return Ok(());
        };
        match key.as_str().rsplit_once('/') {
            Some((user, _)) => {
                self.count += 1;
                self.members.push(Member {
                    key: key.to_string(),
                    user: user.to_owned(),
                    data: raw(text)?,
                });
            }
            None => {
                let counted: Result<Count, _> = serde_json::from_slice(text);
                self.count += counted.map_or(0, |count| count.n);
            }
        }
        Ok(())
    }
}
