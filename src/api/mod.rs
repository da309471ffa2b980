//! HTTP for backends: publish, history, state, presence, sessions; and what operators probe.
//!
//! Owns the routes below `/v1` and the shapes of their answers. Called by the node's HTTP
//! router; works on the two seams and on the gateway's sessions. Never serves a browser, never
//! waits for a client, and answers every refusal with a problem of RFC 9457.

pub mod access;
mod body;
mod channels;
mod nodes;
mod openapi;
mod ops;
mod params;
mod problem;
mod publish;
mod read;
mod sessions;
#[cfg(test)]
mod tests;
mod tokens;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodRouter, delete, get, post},
};
use tidewire_protocol::{ChannelName, ErrorCode, Name};
use tokio::sync::{Semaphore, SemaphorePermit};

pub use self::ops::ops_router;
use self::problem::{Problem, Refusal};
use crate::{
    auth::ApiKeys,
    broker::Broker,
    config::{Limits, Namespace},
    control::{Answers, Question},
    gateway::Gateway,
    telemetry::labels::Rejection,
};

/// A request is answered within this, however slow its sender or the broker.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Questions to other nodes asked at once: each is a publication that every node reads.
const QUESTIONS_MAX: usize = 4;
/// Bodies held at once, KiB: sixteen batches, hundreds of single publications.
const BODIES_KIB_MAX: usize = 64 * 1024;

/// What the API works with.
#[derive(Debug)]
pub struct Api {
    gateway: Arc<Gateway>,
    api_keys: ApiKeys,
    /// Questions to other nodes that may still be asked; those past it wait for their turn.
    questions: Semaphore,
    /// KiB of bodies that may still come in; those past it wait for their turn.
    room: Semaphore,
}

impl Api {
    /// The API of a node, open to the API keys of its configuration.
    pub fn new(gateway: Arc<Gateway>) -> Self {
        let api_keys = ApiKeys::new(&gateway.config.api_keys);
        Self {
            gateway,
            api_keys,
            questions: Semaphore::new(QUESTIONS_MAX),
            room: Semaphore::new(BODIES_KIB_MAX),
        }
    }

    /// Asks nodes for what only they know.
    async fn ask(&self, question: Question, nodes: Vec<Name>) -> Result<Answers, Refusal> {
        let _turn = self.turn().await?;
        Ok(self.gateway.control.ask(question, nodes).await)
    }

    /// The same of every other node.
    async fn ask_others(&self, question: Question) -> Result<Answers, Refusal> {
        let _turn = self.turn().await?;
        Ok(self.gateway.ask_others(question).await)
    }

    async fn turn(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        let closed = |_closed| Refusal::new(ErrorCode::Unavailable, "the node leaves");
        self.questions.acquire().await.map_err(closed)
    }

    fn broker(&self) -> &dyn Broker {
        self.gateway.feed.broker()
    }

    fn limits(&self) -> &Limits {
        &self.gateway.config.limits
    }

    /// The settings of a channel.
    fn namespace(&self, channel: &ChannelName) -> Result<&Namespace, Refusal> {
        self.gateway.namespaces.resolve(channel).ok_or_else(|| {
            let text = format!("no namespace is configured for {channel}");
            Refusal::new(ErrorCode::UnknownChannel, text)
        })
    }
}

/// Every route below `/v1`; the test of the OpenAPI document reads them here.
fn routes() -> [(&'static str, MethodRouter<Arc<Api>>); 14] {
    [
        ("/publish", post(publish::publish)),
        ("/batch", post(publish::batch)),
        ("/channels", get(channels::list)),
        (
            "/channels/{channel}",
            get(channels::show).delete(channels::forget),
        ),
        ("/channels/{channel}/history", get(read::history)),
        (
            "/channels/{channel}/history/{offset}",
            delete(channels::blank),
        ),
        ("/channels/{channel}/state", get(read::state)),
        ("/channels/{channel}/presence", get(read::presence)),
        ("/sessions", get(sessions::list)),
        (
            "/sessions/{session}",
            get(sessions::show).delete(sessions::end),
        ),
        ("/users/{user}/disconnect", post(sessions::disconnect)),
        ("/tokens/revoke", post(tokens::revoke)),
        ("/nodes", get(nodes::list)),
        ("/nodes/{node}/drain", post(nodes::drain)),
    ]
}

/// The API. Everything below `/v1` that is no route, of this router or of one it is merged with,
/// is answered with a problem.
pub fn router(api: Arc<Api>) -> Router {
    let mut v1 = Router::new().route("/openapi.json", get(openapi::document));
    for (path, methods) in routes() {
        v1 = v1.route(path, methods);
    }
    let v1 = v1
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn(in_time))
        .layer(middleware::from_fn_with_state(Arc::clone(&api), counted))
        .with_state(api);
    Router::new().nest("/v1", v1)
}

async fn no_route() -> Problem {
    Problem::not_found("not_found", "there is nothing at this path")
}

async fn no_method() -> Problem {
    Problem::method_not_allowed()
}

/// Counts what is refused.
async fn counted(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    if let Some(code) = response.extensions().get::<ErrorCode>() {
        api.gateway.metrics.rejected.count(Rejection::of(*code));
    }
    response
}

/// Ends a request that takes too long.
async fn in_time(request: Request, next: Next) -> Response {
    within(REQUEST_TIMEOUT, next.run(request)).await
}

/// The response, or after `limit` a problem: what was asked for may still have been done.
async fn within(limit: Duration, response: impl Future<Output = Response>) -> Response {
    match tokio::time::timeout(limit, response).await {
        Ok(response) => response,
        Err(_elapsed) => Problem::new(
            ErrorCode::Unavailable,
            "not answered in time; it may have taken effect: repeat it with the same id",
        )
        .into_response(),
    }
}
