//! Sessions as backends see and end them: `/v1/sessions`, `/v1/sessions/{session}` and
//! `/v1/users/{user}/disconnect`.
//!
//! A session with a connection is asked itself, on whichever node it is; any other is what the
//! store has of it.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;
use tidewire_protocol::{ChannelName, Epoch, ErrorCode, Name, Position, command::Range};

use super::{
    Api,
    access::{Allowed, ToManage},
    params::{PathParams, Query},
    problem::Problem,
};
use crate::{
    broker::PageLimit,
    control::{Question, Wanted},
    gateway::known::{FOUND_MAX, Found, FoundAll, Living, Subscription, mode_name},
    session::{Event, decode_checkpoint},
    store::{Held, SessionId, StoreError},
};

/// Longest id of a session in bytes.
const SESSION_BYTES_MAX: usize = 48;
/// Longest user or beginning of one that is looked for.
const NAME_BYTES_MAX: usize = 128;
/// Sessions of one answer, unless asked otherwise.
const PAGE: usize = 20;

/// What one client is owed, and what happened to it.
#[derive(Debug, Serialize)]
pub(super) struct Session {
    session: String,
    /// Whether it has a connection, on whichever node.
    live: bool,
    /// The node that has its connection, as far as that node said.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    /// Its user; only of a live session, and none for an anonymous one.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// The claim that holds it.
    attempt: u64,
    /// What its client was told on this connection; only of a live session.
    #[serde(skip_serializing_if = "Option::is_none")]
    gaps: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rewinds: Option<u32>,
    events: Vec<Event>,
    subscriptions: Vec<Subscription>,
}

impl Session {
    fn live(id: &SessionId, living: Living) -> Self {
        Self {
            session: id.0.to_string(),
            live: true,
            node: Some(living.node),
            user: living.user,
            attempt: living.attempt,
            gaps: Some(living.gaps),
            rewinds: Some(living.rewinds),
            events: living.events,
            subscriptions: living.subscriptions,
        }
    }
}

/// Sessions with a connection that were looked for.
#[derive(Debug, Serialize)]
pub(super) struct Sessions {
    sessions: Vec<Found>,
    more: bool,
    /// Nodes that did not answer: there may be more.
    silent: Vec<String>,
}

/// How many sessions were ended on this node; other nodes follow within 5 s.
#[derive(Debug, Serialize)]
pub(super) struct Disconnected {
    disconnected: usize,
}

/// `GET /v1/sessions/{session}`.
pub(super) async fn show(
    _caller: Allowed<ToManage>,
    State(api): State<Arc<Api>>,
    path: PathParams,
    query: Query,
) -> Result<Json<Session>, Problem> {
    let id = session_id(&path)?;
    query.finish("none")?;
    let gateway = &api.gateway;
    if let Some(living) = gateway.living(&id) {
        return Ok(Json(Session::live(&id, living)));
    }
    let held = gateway.store.read(&id).await.map_err(unavailable)?;
    let held = held.ok_or_else(unknown)?;
    if let Some(node) = held.node.clone()
        && gateway.control.nodes.is_living(&node)
    {
        let session = id.0.to_string();
        let question = Question::Session { session };
        let answers = api.ask(question, vec![node]).await?;
        if let Some(living) = answers.of::<Living>().next() {
            return Ok(Json(Session::live(&id, living)));
        }
    }
    Ok(Json(stored(&api, &id, held).await?))
}

/// `GET /v1/sessions`: sessions with a connection on any node.
pub(super) async fn list(
    _caller: Allowed<ToManage>,
    State(api): State<Arc<Api>>,
    mut query: Query,
) -> Result<Json<Sessions>, Problem> {
    let (user, session) = (query.text("user"), query.text("session"));
    let exact = query.text("exact").is_some_and(|text| text == "true");
    let limit = query.limit(PAGE, FOUND_MAX)?;
    query.finish("`user`, `session`, `exact` and `limit`")?;
    let long = |text: &Option<String>| {
        text.as_ref()
            .is_some_and(|text| text.len() > NAME_BYTES_MAX)
    };
    if long(&user) || long(&session) {
        let detail = format!("user and session: at most {NAME_BYTES_MAX} bytes");
        return Err(Problem::bad(detail));
    }
    let wanted = Wanted {
        user,
        session,
        exact,
        limit,
    };
    let mut all = api.gateway.find(&wanted);
    let answers = api.ask_others(Question::Sessions(wanted)).await?;
    for found in answers.of::<FoundAll>() {
        all.more |= found.more;
        all.sessions.extend(found.sessions);
    }
    all.sessions
        .sort_by_key(|found| std::cmp::Reverse(found.since));
    all.more |= all.sessions.len() > limit;
    all.sessions.truncate(limit);
    Ok(Json(Sessions {
        sessions: all.sessions,
        more: all.more,
        silent: answers.silent.iter().map(ToString::to_string).collect(),
    }))
}

/// `DELETE /v1/sessions/{session}`: its client is told to stay away, and nothing can be resumed.
pub(super) async fn end(
    caller: Allowed<ToManage>,
    State(api): State<Arc<Api>>,
    path: PathParams,
    query: Query,
) -> Result<StatusCode, Problem> {
    let id = session_id(&path)?;
    query.finish("none")?;
    if !api.gateway.disconnect(&id).await {
        let store = &api.gateway.store;
        let held = store.read(&id).await.map_err(unavailable)?;
        let held = held.ok_or_else(unknown)?;
        if let Some(node) = &held.node {
            api.gateway.control.end_session(node, &id).await?;
        }
        let fence = held.checkpoint.fence;
        match store.remove(&id, fence).await {
            Ok(()) => {}
            // Claimed meanwhile: its new connection is the one to end.
            Err(StoreError::Fenced { .. }) if api.gateway.disconnect(&id).await => {}
            Err(error) => return Err(unavailable(error)),
        }
    }
    let key_id = caller.key.id();
    tracing::info!(session_id = %id.0, %key_id, "a session was ended by a backend");
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/users/{user}/disconnect`: every session of the user that has a connection, on every
/// node.
pub(super) async fn disconnect(
    caller: Allowed<ToManage>,
    State(api): State<Arc<Api>>,
    path: PathParams,
    query: Query,
) -> Result<Json<Disconnected>, Problem> {
    let user =
        Name::new(path.text("user")).map_err(|error| Problem::bad(format!("user: {error}")))?;
    query.finish("none")?;
    let disconnected = api.gateway.disconnect_user(&user).await?;
    let key_id = caller.key.id();
    tracing::info!(disconnected, %key_id, "a user was disconnected by a backend");
    Ok(Json(Disconnected { disconnected }))
}

fn session_id(path: &PathParams) -> Result<SessionId, Problem> {
    let text = path.text("session");
    if text.len() > SESSION_BYTES_MAX {
        return Err(unknown());
    }
    Ok(SessionId(Arc::from(text)))
}

fn unknown() -> Problem {
    Problem::not_found("unknown_session", "the session is unknown or has expired")
}

fn unavailable(error: StoreError) -> Problem {
    Problem::new(ErrorCode::Unavailable, error.to_string())
}

async fn stored(api: &Api, id: &SessionId, held: Held) -> Result<Session, Problem> {
    let Held { checkpoint, node } = held;
    let stored = decode_checkpoint(&checkpoint.body).ok_or_else(|| {
        let detail = "the session's checkpoint could not be read";
        Problem::new(ErrorCode::Internal, detail)
    })?;
    let mut subscriptions = Vec::with_capacity(stored.subs.len());
    for sub in &stored.subs {
        let known = sub.floor.epoch != Epoch::unknown();
        subscriptions.push(Subscription {
            channel: sub.channel.to_string(),
            mode: mode_name(sub.mode).to_owned(),
            phase: None,
            epoch: known.then(|| sub.floor.epoch.to_string()),
            cursor: None,
            floor: sub.floor.offset,
            head: head(api, &sub.channel).await?.into(),
        });
    }
    Ok(Session {
        session: id.0.to_string(),
        live: false,
        node: node.map(|node| node.to_string()),
        user: None,
        attempt: checkpoint.fence.attempt,
        gaps: None,
        rewinds: None,
        events: stored.events,
        subscriptions,
    })
}

/// Where a channel's log stands. Read from history: following it would make this node deliver it.
async fn head(api: &Api, channel: &ChannelName) -> Result<Position, Problem> {
    let limit = PageLimit { items: 1, bytes: 1 };
    let page = api.broker().history(channel, Range::Before(None), limit);
    Ok(page.await?.head.position)
}
