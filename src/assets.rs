//! The files of the pages in the binary, and the headers they are served with.
//!
//! Called by `demo` and `admin`; a page loads nothing from anywhere else and stands in no frame.

use axum::{
    http::header,
    response::{IntoResponse, Response},
};

/// What a page may load: itself only.
const CONTENT_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self' ws: wss:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// A page.
pub fn page(text: &'static str) -> Response {
    asset("text/html; charset=utf-8", text)
}

/// A page's script.
pub fn script(text: &'static str) -> Response {
    asset("text/javascript; charset=utf-8", text)
}

/// A page's looks.
pub fn style(text: &'static str) -> Response {
    asset("text/css; charset=utf-8", text)
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, text).into_response()
}
