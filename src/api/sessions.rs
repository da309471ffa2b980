//! Sessions as backends see and end them: `/v1/sessions/{session}` and
//! `/v1/users/{user}/disconnect`.
//!
//! A session with a connection here is asked itself; any other is what the store has of it.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;
use tidewire_protocol::{
    ChannelName, Epoch, ErrorCode, Name, Position,
    command::{Mode, Range},
};

use super::{
    Api,
    access::{Allowed, ToManage},
    params::{PathParams, Query},
    problem::Problem,
};
use crate::{
    broker::PageLimit,
    session::{self, Phase, decode_checkpoint},
    store::{Held, SessionId, StoreError},
};

/// Longest id of a session in bytes.
const SESSION_BYTES_MAX: usize = 48;

/// What one client is owed.
#[derive(Debug, Serialize)]
pub(super) struct Session {
    session: String,
    /// Whether it has a connection on the node that answers.
    live: bool,
    /// The node that has its connection, as far as that node said.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    /// Its user; only of a live session, and none for an anonymous one.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// The claim that holds it.
    attempt: u64,
    subscriptions: Vec<Subscription>,
}

/// A subscription: where the client stands in a channel's log, and where the log stands.
#[derive(Debug, Serialize)]
struct Subscription {
    channel: String,
    mode: &'static str,
    /// What it is doing; only of a live session.
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<&'static str>,
    /// The epoch of cursor and floor; none when the log began another life since.
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
    /// The last offset given to the client; only of a live session.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<u64>,
    /// The last offset the application acknowledged.
    floor: u64,
    head: Head,
}

#[derive(Debug, Serialize)]
struct Head {
    epoch: String,
    offset: u64,
}

impl From<Position> for Head {
    fn from(position: Position) -> Self {
        Self {
            epoch: position.epoch.to_string(),
            offset: position.offset,
        }
    }
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
    let connection = api.gateway.connection_of(&id);
    let live = connection.and_then(|connection| connection.with_session(|session| live(session)));
    if let Some(live) = live {
        let node = Some(api.gateway.node.to_string());
        return Ok(Json(Session { node, ..live }));
    }
    let held = api.gateway.store.read(&id).await.map_err(unavailable)?;
    let held = held.ok_or_else(unknown)?;
    Ok(Json(stored(&api, &id, held).await?))
}

/// `DELETE /v1/sessions/{session}`: its client is told to stay away, and nothing can be resumed.
pub(super) async fn end(
    _caller: Allowed<ToManage>,
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
    tracing::info!(session_id = %id.0, "a session was ended by a backend");
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/users/{user}/disconnect`: every session of the user that has a connection, on every
/// node.
pub(super) async fn disconnect(
    _caller: Allowed<ToManage>,
    State(api): State<Arc<Api>>,
    path: PathParams,
    query: Query,
) -> Result<Json<Disconnected>, Problem> {
    let user =
        Name::new(path.text("user")).map_err(|error| Problem::bad(format!("user: {error}")))?;
    query.finish("none")?;
    let disconnected = api.gateway.disconnect_user(&user).await?;
    tracing::info!(disconnected, "a user was disconnected by a backend");
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

const fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Every => "every",
        Mode::Latest => "latest",
    }
}

fn live(session: &session::Session) -> Session {
    let subscriptions = session.subs().map(|(_, sub)| Subscription {
        channel: sub.channel.name().to_string(),
        mode: mode_name(sub.wishes.mode),
        phase: Some(match sub.progress.phase {
            Phase::Snapshot { .. } => "snapshot",
            Phase::Replay => "replay",
            Phase::Live => "live",
        }),
        epoch: (sub.channel.epoch_at(sub.progress.place())).map(|epoch| epoch.to_string()),
        cursor: Some(sub.progress.cursor),
        floor: sub.floor,
        head: sub.channel.head().position.into(),
    });
    Session {
        session: session.id.0.to_string(),
        live: true,
        node: None,
        user: session.identity.user.as_ref().map(ToString::to_string),
        attempt: session.fence.attempt,
        subscriptions: subscriptions.collect(),
    }
}

async fn stored(api: &Api, id: &SessionId, held: Held) -> Result<Session, Problem> {
    let Held { checkpoint, node } = held;
    let stored = decode_checkpoint(&checkpoint.body).ok_or_else(|| {
        let detail = "the session's checkpoint could not be read";
        Problem::new(ErrorCode::Internal, detail)
    })?;
    let mut subscriptions = Vec::with_capacity(stored.subs.len());
    for sub in stored.subs {
        let known = sub.floor.epoch != Epoch::unknown();
        subscriptions.push(Subscription {
            channel: sub.channel.to_string(),
            mode: mode_name(sub.mode),
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
        subscriptions,
    })
}

/// Where a channel's log stands. Read from history: following it would make this node deliver it.
async fn head(api: &Api, channel: &ChannelName) -> Result<Position, Problem> {
    let limit = PageLimit { items: 1, bytes: 1 };
    let page = api.broker().history(channel, Range::Before(None), limit);
    Ok(page.await?.head.position)
}
