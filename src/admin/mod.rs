//! The operators' page at `/admin`: its files, the door to it, and what nodes say for it.
//!
//! Owns the exchange of an API key for an operator token, and the rows that nodes put into
//! `$sys:nodes` (`rows`) and `$sys:history` (`past`). The page itself is built from `clients/admin` and
//! committed. Everything else it shows comes from the HTTP API; nothing here ends or changes
//! anything.

mod past;
mod rows;
#[cfg(test)]
mod tests;

use std::{net::IpAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::{ConnectInfo, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Serialize;

pub use self::{past::farewell, rows::say};
use crate::{
    api::access::bearer,
    assets::{page, script, style},
    auth::{ApiKeys, Origins, Scope},
    clock,
    gateway::{ClientAddress, Gateway, connect_operator},
};

const PAGE: &str = include_str!("assets/index.html");
const SCRIPT: &str = include_str!("assets/app.js");
const STYLE: &str = include_str!("assets/style.css");
/// Whom the token of a development node is given to, where no key was shown.
const DEVELOPER: &str = "dev";

#[derive(Debug)]
struct Admin {
    gateway: Arc<Gateway>,
    api_keys: ApiKeys,
}

/// The page and its door. Goes where the HTTP API goes.
pub fn router(gateway: Arc<Gateway>) -> Router {
    let admin = Admin {
        api_keys: ApiKeys::new(&gateway.config.api_keys),
        gateway: Arc::clone(&gateway),
    };
    let connect = Router::new()
        .route("/admin/connect", get(connect_operator))
        .with_state(gateway);
    Router::new()
        .route("/admin", get(async || page(PAGE)))
        .route("/admin/app.js", get(async || script(SCRIPT)))
        .route("/admin/style.css", get(async || style(STYLE)))
        .route("/admin/enter", post(enter))
        .with_state(Arc::new(admin))
        .merge(connect)
}

/// What lets a page in.
#[derive(Debug, Serialize)]
struct Entered {
    token: String,
    /// When the token ends, Unix ms.
    expires: u64,
    /// The node that answers.
    node: String,
    /// Whether it is one for development, which lets anyone on this machine in.
    development: bool,
}

/// Why a page is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Missing,
    Unknown,
    Scope,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, code, detail) = match self {
            Self::Missing => (
                StatusCode::UNAUTHORIZED,
                "key_required",
                "an API key with the scope `manage` is required",
            ),
            Self::Unknown => (
                StatusCode::UNAUTHORIZED,
                "key_unknown",
                "this node knows no such API key",
            ),
            Self::Scope => (
                StatusCode::FORBIDDEN,
                "key_lacks_manage",
                "the API key lacks the scope `manage`",
            ),
        };
        let body = serde_json::json!({ "code": code, "detail": detail });
        (status, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
    }
}

/// `POST /admin/enter`: a token for an API key with the scope `manage`.
async fn enter(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(ClientAddress(address)): ConnectInfo<ClientAddress>,
    headers: HeaderMap,
) -> Response {
    match admin.key_id(address, &headers) {
        Ok(key_id) => {
            let gateway = &admin.gateway;
            let (token, operator) = gateway.operators.mint(&key_id, clock::wall_ms());
            let entered = Entered {
                token,
                expires: operator.expires_ms,
                node: gateway.node.to_string(),
                development: gateway.config.development,
            };
            ([(header::CACHE_CONTROL, "no-store")], Json(entered)).into_response()
        }
        Err(refusal) => {
            tracing::warn!(%address, ?refusal, "an operator was not let in");
            refusal.into_response()
        }
    }
}

impl Admin {
    /// Which key opens the door.
    fn key_id(&self, address: IpAddr, headers: &HeaderMap) -> Result<Arc<str>, Refusal> {
        let Some(key) = bearer(headers) else {
            let open = self.is_open_to(address, headers);
            return open.then(|| Arc::from(DEVELOPER)).ok_or(Refusal::Missing);
        };
        let key = self.api_keys.check(key).ok_or(Refusal::Unknown)?;
        key.allows(Scope::Manage)
            .then(|| Arc::clone(key.id()))
            .ok_or(Refusal::Scope)
    }

    /// A development node lets its own page in, on its own machine: no name that points here from
    /// elsewhere, and no other page.
    fn is_open_to(&self, address: IpAddr, headers: &HeaderMap) -> bool {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let own_page = Origins::new(None, true);
        self.gateway.config.development
            && address.is_loopback()
            && own_page.allows(text(header::ORIGIN), text(header::HOST))
    }
}
