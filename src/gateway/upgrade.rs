//! The WebSocket handshake: from an HTTP request to a connection with its own small task.
//!
//! Refusals a client must act on happen after the upgrade, since browsers hide HTTP failures;
//! only what is no WebSocket request at all, or a node that takes nobody, is answered in HTTP.

use std::{net::IpAddr, sync::Arc};

use axum::{
    body::Body,
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tidewire_protocol::{CloseCode, Encoding};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::{
    auth::Origins,
    telemetry::labels::{CloseReason, Rejection},
};

use super::{
    Gateway,
    admission::Place,
    connection::Connection,
    forwarded, read,
    socket::{self, SocketReader, SocketWriter},
    websocket,
};

/// Where a connection comes from, a proxy where there is one; put into requests by the listener.
#[derive(Debug, Clone, Copy)]
pub struct ClientAddress(pub IpAddr);

/// What the handshake agreed on.
struct Agreed {
    accept: String,
    encoding: Option<Encoding>,
    /// The subprotocol to name: the one chosen, else the first offered, so that a browser keeps
    /// the connection long enough to read why it closes.
    subprotocol: Option<HeaderValue>,
}

/// `GET /v1/connect`.
pub async fn connect(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(ClientAddress(peer)): ConnectInfo<ClientAddress>,
    request: Request,
) -> Response {
    let allowed = origin_allowed(&gateway.origins, request.headers());
    upgrade(gateway, peer, request, allowed)
}

/// `GET /admin/connect`: the same for the page the node itself serves, and for no other.
pub async fn connect_operator(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(ClientAddress(peer)): ConnectInfo<ClientAddress>,
    request: Request,
) -> Response {
    let own_page = Origins::new(None, gateway.config.development);
    let allowed = origin_allowed(&own_page, request.headers());
    upgrade(gateway, peer, request, allowed)
}

fn upgrade(
    gateway: Arc<Gateway>,
    peer: IpAddr,
    mut request: Request,
    origin_allowed: bool,
) -> Response {
    let agreed = match agree(request.headers()) {
        Ok(agreed) => agreed,
        Err((status, text)) => return (status, text).into_response(),
    };
    let trusted = &gateway.config.node.trusted_proxies;
    let address = forwarded::client(peer, request.headers(), trusted);
    let (place, refused) = match gateway.admission.admit(address) {
        Ok(permit) => (permit, refused(&gateway, &agreed, origin_allowed)),
        Err(refusal) => {
            gateway.metrics.rejected.count(refusal.label());
            let retry_ms = gateway.admission.retry_ms(refusal);
            match gateway.admission.tell() {
                Some(place) => (place, Some((refusal.code(), Some(retry_ms)))),
                None => return overloaded(retry_ms),
            }
        }
    };
    let opening = taken_over(hyper::upgrade::on(&mut request));
    let encoding = agreed.encoding.unwrap_or(Encoding::Json);
    serve(gateway, opening, encoding, refused, place);
    switching(agreed)
}

/// Where even telling why would be too much.
fn overloaded(retry_ms: u64) -> Response {
    let seconds = (retry_ms / 1000 + 1).to_string();
    let text = "the node takes no more connections";
    let retry = [(header::RETRY_AFTER, seconds)];
    (StatusCode::SERVICE_UNAVAILABLE, retry, text).into_response()
}

/// Why the handshake itself is refused; told after the upgrade.
fn refused(gateway: &Gateway, agreed: &Agreed, origin_allowed: bool) -> Option<Refused> {
    let code = if agreed.encoding.is_none() {
        CloseCode::Version
    } else if !origin_allowed {
        CloseCode::Forbidden
    } else {
        return None;
    };
    gateway.metrics.rejected.count(Rejection::of_close(code));
    Some((code, None))
}

/// The reason of a close, and when to come back, ms.
pub type Refused = (CloseCode, Option<u64>);

fn origin_allowed(origins: &Origins, headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    origins.allows(text(header::ORIGIN), text(header::HOST))
}

fn agree(headers: &HeaderMap) -> Result<Agreed, (StatusCode, &'static str)> {
    let holds = |name: HeaderName, token: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|part| part.trim().eq_ignore_ascii_case(token))
    };
    if !holds(header::UPGRADE, "websocket") || !holds(header::CONNECTION, "upgrade") {
        return Err((
            StatusCode::UPGRADE_REQUIRED,
            "this is a WebSocket endpoint: connect with a WebSocket client",
        ));
    }
    if !holds(header::SEC_WEBSOCKET_VERSION, "13") {
        return Err((
            StatusCode::UPGRADE_REQUIRED,
            "only WebSocket version 13 is spoken here",
        ));
    }
    let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY) else {
        return Err((
            StatusCode::BAD_REQUEST,
            "the header Sec-WebSocket-Key is missing",
        ));
    };
    let offers: Vec<&str> = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(str::trim))
        .collect();
    let chosen = offers.iter().find_map(|offer| {
        [Encoding::Json, Encoding::MessagePack]
            .into_iter()
            .find(|encoding| encoding.subprotocol() == *offer)
    });
    let encoding = if offers.is_empty() {
        Some(Encoding::Json)
    } else {
        chosen
    };
    Ok(Agreed {
        accept: websocket::accept_key(key.as_bytes()),
        encoding,
        subprotocol: chosen
            .map(|encoding| HeaderValue::from_static(encoding.subprotocol()))
            .or_else(|| HeaderValue::from_str(offers.first()?).ok()),
    })
}

fn switching(agreed: Agreed) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    if let Ok(accept) = HeaderValue::from_str(&agreed.accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    if let Some(subprotocol) = agreed.subprotocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
    }
    response
}

/// The socket's halves, and what the client sent behind its request.
type Halves = (SocketReader, SocketWriter);

/// Waits until the HTTP server hands the stream over; its task ends then, and its buffers go with
/// it. None: it never does.
async fn taken_over(upgrade: OnUpgrade) -> Option<(Halves, Vec<u8>)> {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            tracing::debug!(%error, "an upgrade did not complete");
            return None;
        }
    };
    let (halves, early) = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => (socket::plain(parts.io.into_inner()), parts.read_buf),
        Err(upgraded) => match upgraded.downcast::<TokioIo<TlsStream<TcpStream>>>() {
            Ok(parts) => (socket::tls(parts.io.into_inner()), parts.read_buf),
            Err(_foreign) => {
                tracing::error!("the listener handed out a stream the gateway does not know");
                return None;
            }
        },
    };
    // Copied here: the server's bytes keep 8 KiB alive however few they are.
    Some((halves, early.to_vec()))
}

/// Serves a socket until it ends, in a small task of its own that also waits for it to be
/// `opening`; one that is `refused` is told so.
pub fn serve(
    gateway: Arc<Gateway>,
    opening: impl Future<Output = Option<(Halves, Vec<u8>)>> + Send + 'static,
    encoding: Encoding,
    refused: Option<Refused>,
    place: Place,
) {
    let tasks = gateway.tasks.clone();
    tasks.spawn(async move {
        let Some(((reader, writer), early)) = opening.await else {
            return;
        };
        let id = gateway.next_id();
        let connection = Connection::new(id, encoding, Arc::clone(&gateway), writer);
        let connection = Arc::new(connection);
        if let Some((code, retry_ms)) = refused {
            connection.close(code, retry_ms, None);
        }
        gateway.metrics.connections.increment(1.0);
        gateway.metrics.connections_opened.increment(1);
        read::run(Arc::clone(&connection), reader, early).await;
        gateway.metrics.connections.decrement(1.0);
        gateway.metrics.connections_closed.count(
            connection
                .closing()
                .map_or(CloseReason::Lost, CloseReason::Node),
        );
        drop(place);
    });
}
