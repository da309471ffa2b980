//! `GET /v1/openapi.json`: the description of the API, written by hand and kept honest by a test.

use axum::{
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};

/// OpenAPI 3.1.
pub(super) const DOCUMENT: &str = include_str!("openapi.json");

/// Serves it to anyone: it tells nothing of this node.
pub(super) async fn document() -> Response {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}
