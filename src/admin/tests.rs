//! The door of the page, on a whole node: who is let in, and where no key is asked for.

use axum::{
    body::{Body, Bytes},
    http::Request,
};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use super::*;
use crate::{
    auth::{ApiKeyConfig, config::Source},
    config::{Config, Secret},
    node::Node,
};

const MANAGER: &str = "key-of-a-manager-0123456789";
const PUBLISHER: &str = "key-of-a-publisher-0123456789";

struct Lab {
    node: Node,
    router: Router,
    _folder: tempfile::TempDir,
}

async fn lab(development: bool) -> Lab {
    let folder = tempfile::tempdir().unwrap();
    let key = |key: &str, scope| ApiKeyConfig {
        key: Some(Secret::new(key.to_owned())),
        key_sha256: None,
        scopes: vec![scope],
    };
    let mut config = Config::default();
    config.node.listen = ([127, 0, 0, 1], 0).into();
    config.node.data_dir = folder.path().to_owned();
    config.development = development;
    config.auth.source = Source {
        hmac_secret: Some(Secret::new("s".repeat(32))),
        ..Source::default()
    };
    config.api_keys = vec![key(MANAGER, Scope::Manage), key(PUBLISHER, Scope::Publish)];
    let node = Node::start(config).await.unwrap();
    Lab {
        router: router(Arc::clone(node.gateway())),
        node,
        _folder: folder,
    }
}

impl Lab {
    async fn send(&self, request: Request<Body>, from: [u8; 4]) -> (StatusCode, HeaderMap, Bytes) {
        let mut request = request;
        let address = ClientAddress(from.into());
        request.extensions_mut().insert(ConnectInfo(address));
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status, parts.headers, body)
    }

    /// Tries the door; answers the status and what it says.
    async fn enter(&self, headers: &[(&str, &str)], from: [u8; 4]) -> (u16, Value) {
        let mut request = Request::post("/admin/enter");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        let (status, headers, body) = self.send(request, from).await;
        assert_eq!(headers["cache-control"], "no-store");
        (status.as_u16(), serde_json::from_slice(&body).unwrap())
    }
}

const HERE: [u8; 4] = [127, 0, 0, 1];
const HOST: (&str, &str) = ("host", "127.0.0.1:8080");

#[tokio::test]
async fn a_key_that_may_manage_is_exchanged_for_a_token_and_no_other() {
    let lab = lab(false).await;
    let bearer = |key: &str| format!("Bearer {key}");
    let (status, entered) = lab
        .enter(&[HOST, ("authorization", &bearer(MANAGER))], HERE)
        .await;
    assert_eq!(status, 200, "{entered}");
    let token = entered["token"].as_str().unwrap();
    let gateway = lab.node.gateway();
    let operator = gateway.operators.verify(token, clock::now_ms()).unwrap();
    assert_eq!(entered["expires"], operator.expires_ms);
    assert!(!token.contains(MANAGER));
    let identity = gateway.operators.identify(token, clock::now_ms()).unwrap();
    assert!(identity.rights.are_of_operator());
    for (key, wanted, code) in [
        (PUBLISHER, 403, "key_lacks_manage"),
        ("key-of-nobody", 401, "key_unknown"),
        (token, 401, "key_unknown"),
    ] {
        let (status, refused) = lab
            .enter(&[HOST, ("authorization", &bearer(key))], HERE)
            .await;
        assert_eq!((status, refused["code"].as_str()), (wanted, Some(code)));
    }
    let (status, refused) = lab.enter(&[HOST], HERE).await;
    assert_eq!(
        (status, refused["code"].as_str()),
        (401, Some("key_required"))
    );
    lab.node.stop().await;
}

#[tokio::test]
async fn a_development_node_lets_its_own_page_on_its_own_machine_in_without_a_key() {
    let lab = lab(true).await;
    let own = ("origin", "http://127.0.0.1:8080");
    for (headers, from, wanted) in [
        (vec![HOST], HERE, 200),
        (vec![HOST, own], HERE, 200),
        (vec![HOST, own], [10, 0, 0, 1], 401),
        (vec![HOST, ("origin", "https://evil.example")], HERE, 401),
        (vec![("host", "evil.example:8080")], HERE, 401),
        (vec![HOST, ("authorization", "Bearer wrong")], HERE, 401),
    ] {
        let (status, said) = lab.enter(&headers, from).await;
        assert_eq!(status, wanted, "{headers:?} {said}");
    }
    lab.node.stop().await;
}

#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere_and_stands_in_no_frame() {
    let lab = lab(false).await;
    for (path, kind) in [
        ("/admin", "text/html; charset=utf-8"),
        ("/admin/app.js", "text/javascript; charset=utf-8"),
        ("/admin/style.css", "text/css; charset=utf-8"),
    ] {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let (status, headers, body) = lab.send(request, HERE).await;
        assert_eq!(status, 200, "{path}");
        assert_eq!(headers["content-type"], kind);
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"));
        assert!(!body.is_empty());
    }
    lab.node.stop().await;
}
