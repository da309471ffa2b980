//! `POST /v1/publish` and `/v1/batch`: what backends put into channels.
//!
//! Each publication is accepted or refused on its own; all of a request go to the broker in one
//! step. `data` is never parsed into a tree: it stays the text it came as.

use std::{borrow::Cow, sync::Arc, time::Instant};

use axum::{Json, body::Body, extract::State, http::HeaderMap};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidewire_protocol::{
    Epoch, ErrorCode, Name, Payload, Position, TraceParent,
    command::Guard,
    limits::{CHANNEL_BYTES_MAX, INTEGER_MAX},
};

use super::{
    Api,
    access::{Allowed, ToPublish},
    body::{self, Bounded},
    params,
    problem::{Problem, Refusal},
};
use crate::{
    broker::{BrokerError, Publish, Published},
    telemetry::{labels::PublicationSource, spans::Begun},
};

/// Most channels one publication goes to: a fan-out to more is a batch, or one channel more.
const CHANNELS_MAX: usize = 100;
/// Most publications of a batch: one step of the broker holds up everyone else's.
const ITEMS_MAX: usize = 1_000;
/// Bytes of a publish request besides the data: 100 escaped names of channels.
const ENVELOPE_BYTES: usize = 128 * 1024;
/// Largest batch.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The header that names the caller's trace.
const TRACEPARENT: &str = "traceparent";
/// The header that stands for `id`.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// One publication as a request describes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Item<'a> {
    channel: Option<String>,
    channels: Option<Bounded<String, CHANNELS_MAX>>,
    #[serde(borrow, default, deserialize_with = "body::raw")]
    data: Option<&'a RawValue>,
    /// Standard base64 with padding.
    #[serde(borrow)]
    bytes: Option<Cow<'a, str>>,
    key: Option<String>,
    event: Option<String>,
    id: Option<String>,
    #[serde(default)]
    delete: bool,
    ttl: Option<u64>,
    r#if: Option<Condition>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    epoch: Option<String>,
    offset: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch<'a> {
    #[serde(borrow)]
    items: Bounded<Item<'a>, ITEMS_MAX>,
}

/// What became of the publications, in the order of the request.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    results: Vec<Outcome>,
}

/// What became of one publication.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Outcome {
    Accepted {
        channel: String,
        epoch: String,
        offset: u64,
        duplicate: bool,
        acknowledged: &'static str,
    },
    Refused {
        channel: String,
        error: Fault,
    },
}

/// A channel as the request names it, and what became of the publication.
type Told = (String, Result<Published, Refusal>);

/// Why one publication was refused.
#[derive(Debug, Serialize)]
pub(super) struct Fault {
    code: u16,
    name: &'static str,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
}

/// `POST /v1/publish`.
pub(super) async fn publish(
    caller: Allowed<ToPublish>,
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Answer>, Problem> {
    let limit = api.limits().publication.bytes() / 3 * 4 + ENVELOPE_BYTES;
    let body = body::read(&api, body, limit).await?;
    let mut item: Item<'_> = body::parse(&body)?;
    item.id = one_id(&headers, item.id)?;
    let channels = match (item.channel.take(), item.channels.take()) {
        (Some(channel), None) => vec![channel],
        (None, Some(Bounded(channels))) => channels,
        (None, None) | (Some(_), Some(_)) => {
            return Err(Problem::bad("give either `channel` or `channels`"));
        }
    };
    let draft = draft(&api, &caller, item)?;
    let wanted = channels.into_iter().map(|channel| {
        let addressed = address(&api, draft.clone(), &channel);
        (channel, addressed)
    });
    answer(submit(&api, wanted.collect(), parent(&headers)).await)
}

/// `POST /v1/batch`.
pub(super) async fn batch(
    caller: Allowed<ToPublish>,
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Answer>, Problem> {
    if headers.contains_key(IDEMPOTENCY_KEY) {
        return Err(Problem::bad(
            "Idempotency-Key stands for one `id`: give each item of a batch its own",
        ));
    }
    let body = body::read(&api, body, BATCH_BYTES_MAX).await?;
    let Batch {
        items: Bounded(items),
    } = body::parse(&body)?;
    let mut wanted = Vec::with_capacity(items.len());
    for (number, mut item) in items.into_iter().enumerate() {
        let Some(channel) = item.channel.take().filter(|_| item.channels.is_none()) else {
            return Err(Problem::bad(format!(
                "items[{number}]: give `channel`, not `channels`"
            )));
        };
        let addressed = draft(&api, &caller, item).and_then(|draft| address(&api, draft, &channel));
        wanted.push((channel, addressed));
    }
    answer(submit(&api, wanted, parent(&headers)).await)
}

/// The caller's trace; W3C says to go on without where it makes no sense.
fn parent(headers: &HeaderMap) -> Option<TraceParent> {
    TraceParent::parse(headers.get(TRACEPARENT)?.to_str().ok()?)
}

/// The id of a publish request: in the body or in the header, as text or as a quoted string.
fn one_id(headers: &HeaderMap, id: Option<String>) -> Result<Option<String>, Problem> {
    let Some(header) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(id);
    };
    let header = std::str::from_utf8(header.as_bytes())
        .map_err(|_not_utf8| Problem::bad("Idempotency-Key is not UTF-8"))?;
    let bare = header
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    let header = bare.unwrap_or(header);
    match id {
        Some(id) if id != header => Err(Problem::bad(
            "`id` and Idempotency-Key say different things: give one",
        )),
        Some(_) | None => Ok(Some(header.to_owned())),
    }
}

/// A publication that was checked but for its channel.
#[derive(Debug, Clone)]
struct Draft {
    payload: Option<Payload>,
    key: Option<Name>,
    event: Option<Name>,
    id: Option<Name>,
    publisher: Arc<str>,
    delete: bool,
    ttl_ms: Option<u64>,
    guard: Option<Guard>,
}

fn draft(api: &Api, caller: &Allowed<ToPublish>, item: Item<'_>) -> Result<Draft, Refusal> {
    let payload = payload(&item)?;
    if payload.is_none() && !item.delete {
        return Err(Refusal::bad("give `data`, `bytes` or `delete`"));
    }
    let limit = api.limits().publication.bytes();
    if payload
        .as_ref()
        .is_some_and(|payload| payload.len() > limit)
    {
        let text = format!("the data is over the limit of {limit} bytes");
        return Err(Refusal::new(ErrorCode::TooLarge, text));
    }
    if item.delete && item.key.is_none() {
        return Err(Refusal::bad("`delete` removes a key: `key` is missing"));
    }
    if item.ttl.is_some_and(|ttl| ttl == 0 || ttl > INTEGER_MAX) {
        return Err(Refusal::bad("ttl: milliseconds from 1 to 2^53 - 1"));
    }
    Ok(Draft {
        payload,
        key: name("key", item.key)?,
        event: name("event", item.event)?,
        id: name("id", item.id)?,
        publisher: Arc::from(format!("k:{}", caller.key.id())),
        delete: item.delete,
        ttl_ms: item.ttl,
        guard: item.r#if.map(guard).transpose()?,
    })
}

fn payload(item: &Item<'_>) -> Result<Option<Payload>, Refusal> {
    match (item.data, &item.bytes) {
        (None, None) => Ok(None),
        (Some(data), None) => Payload::from_json_text(data.get().as_bytes())
            .map(Some)
            .map_err(|error| Refusal::bad(error.to_string())),
        (None, Some(bytes)) => {
            let bytes = STANDARD
                .decode(bytes.as_bytes())
                .map_err(|error| Refusal::bad(format!("bytes: base64 with padding: {error}")))?;
            Ok(Some(Payload::bytes(bytes.into())))
        }
        (Some(_), Some(_)) => Err(Refusal::bad("`data` and `bytes` exclude each other")),
    }
}

fn name(field: &str, text: Option<String>) -> Result<Option<Name>, Refusal> {
    let name = text.map(|text| Name::new(&text)).transpose();
    name.map_err(|error| Refusal::bad(format!("{field}: {error}")))
}

fn guard(condition: Condition) -> Result<Guard, Refusal> {
    match (condition.offset, condition.epoch) {
        (0, _) => Ok(Guard::Absent),
        (1..=INTEGER_MAX, Some(epoch)) => Ok(Guard::At(Position {
            epoch: Epoch::new(&epoch)
                .map_err(|error| Refusal::bad(format!("if.epoch: {error}")))?,
            offset: condition.offset,
        })),
        (1..=INTEGER_MAX, None) => Err(Refusal::bad(
            "if: an offset above 0 means nothing without its `epoch`",
        )),
        (_, _) => Err(Refusal::bad("if.offset: an integer of 0 to 2^53 - 1")),
    }
}

fn address(api: &Api, draft: Draft, channel: &str) -> Result<Publish, Refusal> {
    let channel = params::channel(channel)?;
    Ok(Publish {
        retention: api
            .namespace(&channel)?
            .retention(api.gateway.config.session.ttl),
        channel,
        payload: draft.payload,
        key: draft.key,
        event: draft.event,
        id: draft.id,
        publisher: draft.publisher,
        by: None,
        delete: draft.delete,
        ttl_ms: draft.ttl_ms,
        guard: draft.guard,
        trace: None,
    })
}

/// Hands what is to be published to the broker in one step and puts the answers in their places.
async fn submit(
    api: &Api,
    wanted: Vec<(String, Result<Publish, Refusal>)>,
    parent: Option<TraceParent>,
) -> Vec<Told> {
    let mut batch = Vec::with_capacity(wanted.len());
    let mut waiting = Vec::with_capacity(wanted.len());
    for (channel, item) in wanted {
        let item = item.and_then(|item| {
            let namespace = api.namespace(&item.channel)?;
            batch.push(item);
            Ok(namespace)
        });
        waiting.push((channel, item));
    }
    let answers = if batch.is_empty() {
        Vec::new()
    } else {
        publish_all(api, batch, parent).await
    };
    let mut answers = answers.into_iter();
    let told = waiting.into_iter().map(|(channel, waiting)| {
        let outcome = waiting.and_then(|namespace| {
            let answer = answers.next().unwrap_or(Err(BrokerError::Unavailable))?;
            if !answer.duplicate {
                let gateway = &api.gateway;
                gateway.count_publication(namespace, PublicationSource::Api);
            }
            Ok(answer)
        });
        (channel, outcome)
    });
    told.collect()
}

/// One step of the broker, and one span.
async fn publish_all(
    api: &Api,
    mut batch: Vec<Publish>,
    parent: Option<TraceParent>,
) -> Vec<Result<Published, BrokerError>> {
    let tracer = &api.gateway.tracer;
    let span = tracer.begin(parent);
    let trace = span.as_ref().map(Begun::context);
    for item in &mut batch {
        item.trace = trace;
    }
    let count = batch.len();
    let only = match &batch[..] {
        [only] if trace.is_some() => Some(only.channel.clone()),
        _several => None,
    };
    let begun = Instant::now();
    let answers = api.broker().publish(batch).await;
    let took = begun.elapsed().as_secs_f64();
    api.gateway.metrics.publish_seconds.record(took);
    tracer.published(span, only.as_ref(), count);
    answers
}

/// 200 with the outcome of each; where all were refused for one reason, that reason's problem.
fn answer(outcomes: Vec<Told>) -> Result<Json<Answer>, Problem> {
    let mut problem = None;
    let mut refusals = outcomes.iter().map(|(_, outcome)| outcome.as_ref().err());
    if let Some(Some(first)) = refusals.next()
        && refusals.all(|refusal| refusal.is_some_and(|refusal| refusal.code == first.code))
    {
        problem = Some(Problem::from(if outcomes.len() == 1 {
            first.clone()
        } else {
            let text = format!(
                "all {} were refused, such as: {}",
                outcomes.len(),
                first.text
            );
            Refusal::new(first.code, text)
        }));
    }
    let results = outcomes.into_iter().map(outcome).collect();
    match problem {
        None => Ok(Json(Answer { results })),
        Some(problem) => Err(problem.results(results)),
    }
}

fn outcome((channel, outcome): Told) -> Outcome {
    match outcome {
        Ok(published) => Outcome::Accepted {
            channel,
            epoch: published.position.epoch.to_string(),
            offset: published.position.offset,
            duplicate: published.duplicate,
            acknowledged: published.acknowledged.name(),
        },
        Err(refusal) => Outcome::Refused {
            channel: shown(channel),
            error: Fault {
                retry_ms: refusal.retry_ms(),
                code: refusal.code.number(),
                name: refusal.code.name(),
                text: refusal.text,
                epoch: refusal
                    .position
                    .as_ref()
                    .map(|position| position.epoch.to_string()),
                offset: refusal.position.map(|position| position.offset),
            },
        },
    }
}

/// A name that was refused, no longer than a channel's name can be.
fn shown(channel: String) -> String {
    if channel.len() <= CHANNEL_BYTES_MAX {
        return channel;
    }
    let end = channel.floor_char_boundary(CHANNEL_BYTES_MAX);
    format!("{}…", &channel[..end])
}
