//! Tokens that backends withdraw: `/v1/tokens/revoke`.

use std::sync::Arc;

use axum::{Json, body::Body, extract::State};
use serde::{Deserialize, Serialize};
use tidewire_protocol::Name;

use super::{
    Api,
    access::{Allowed, ToManage},
    body,
    problem::Problem,
};
use crate::control::{TTL_MS_MAX, Target};

/// Largest body: two names and a number.
const BODY_BYTES: usize = 4 * 1024;
/// How long tokens are shut out where nothing is said: the life of most.
const TTL_MS_DEFAULT: u64 = 24 * 3_600_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Revoke {
    user: Option<String>,
    token_id: Option<String>,
    ttl: Option<u64>,
}

/// How many connections were ended.
#[derive(Debug, Serialize)]
pub(super) struct Revoked {
    disconnected: usize,
}

/// `POST /v1/tokens/revoke`: a user's tokens issued so far, or the token with an id.
pub(super) async fn revoke(
    _caller: Allowed<ToManage>,
    State(api): State<Arc<Api>>,
    body: Body,
) -> Result<Json<Revoked>, Problem> {
    let body = body::read(&api, body, BODY_BYTES).await?;
    let wanted: Revoke = body::parse(&body)?;
    let name = |what: &str, text: &str| match Name::new(text) {
        Ok(name) => Ok(Box::<str>::from(name.as_str())),
        Err(error) => Err(Problem::bad(format!("{what}: {error}"))),
    };
    let target = match (&wanted.user, &wanted.token_id) {
        (Some(user), None) => Target::User(name("user", user)?),
        (None, Some(id)) => Target::Token(name("token_id", id)?),
        (None, None) | (Some(_), Some(_)) => {
            return Err(Problem::bad("give either `user` or `token_id`"));
        }
    };
    let ttl_ms = wanted.ttl.unwrap_or(TTL_MS_DEFAULT);
    if ttl_ms == 0 || ttl_ms > TTL_MS_MAX {
        let text = format!("ttl: from 1 to {TTL_MS_MAX} ms");
        return Err(Problem::bad(text));
    }
    match api.gateway.revoke(target, ttl_ms).await {
        Ok(disconnected) => {
            tracing::info!(disconnected, "tokens were revoked by a backend");
            Ok(Json(Revoked { disconnected }))
        }
        Err(error) => Err(Problem::new(error.code(), error.to_string())),
    }
}
