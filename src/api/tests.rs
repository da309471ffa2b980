//! The API driven request by request over a real node.

mod auth;
mod bodies;
mod channels;
mod document;
mod ops;
mod publish;
mod sessions;

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderMap, Request, StatusCode},
};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tidewire_protocol::{ChannelName, Name};
use tower::ServiceExt as _;

use super::{Api, ops_router, router};
use crate::{
    auth::{ApiKeyConfig, Right, Scope},
    config::{ByteSize, Config, Namespace, Namespaces, Presence, Secret, secret},
    node::Node,
    presence::{Change, Membership, Owner},
    session::Member,
    store::{Fence, SessionId},
};

const ALL: &str = "key-of-everything-0123456789";
const PUBLISHER: &str = "key-of-a-publisher-0123456789";

/// A whole node on a folder of its own, its API driven without a socket.
struct Lab {
    router: Router,
    node: Node,
    secret: Secret,
    _folder: tempfile::TempDir,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |text| text.to_str().unwrap())
    }
}

async fn lab() -> Lab {
    let folder = tempfile::tempdir().unwrap();
    let key = |key: &str, scopes: &[Scope]| ApiKeyConfig {
        key: None,
        key_sha256: Some(sha256(key)),
        scopes: scopes.to_vec(),
    };
    let mut config = Config::default();
    config.node.listen = ([127, 0, 0, 1], 0).into();
    config.node.data_dir = folder.path().to_owned();
    let secret = secret::generate().unwrap();
    config.auth.source.hmac_secret = Some(secret.clone());
    config.limits.publication = ByteSize::kib(1);
    config.api_keys = vec![
        key(ALL, &[Scope::Publish, Scope::Read, Scope::Manage]),
        key(PUBLISHER, &[Scope::Publish]),
    ];
    let orders = Namespace {
        state: true,
        presence: Presence::Members,
        allow: vec![Right::Sub, Right::Presence],
        ..Namespace::default()
    };
    config.namespaces = Namespaces::new([("default", Namespace::default()), ("orders", orders)]);
    let node = Node::start(config).await.unwrap();
    let gateway = node.gateway();
    let api = Arc::new(Api::new(Arc::clone(gateway)));
    Lab {
        router: router(api).merge(ops_router(Arc::clone(gateway))),
        node,
        secret,
        _folder: folder,
    }
}

fn sha256(text: &str) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    hash.as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

impl Lab {
    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    /// Sends with the key that may do everything.
    async fn call(&self, method: &str, path: &str, body: impl Into<Body>) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {ALL}"));
        self.send(request.body(body.into()).unwrap()).await
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.call("GET", path, "").await;
        assert_eq!(answer.status, 200, "{path}: {:?}", answer.body);
        answer.json()
    }

    /// Makes somebody a member of a channel.
    async fn enter(&self, channel: &str, key: &str, me: &str) {
        let owner = Owner {
            session: SessionId(Arc::from(key)),
            fence: Fence {
                attempt: 1,
                nonce: 1,
            },
        };
        let member = Box::new(Member {
            key: Name::new(key).unwrap(),
            me: me.to_owned().into(),
        });
        let channel = ChannelName::new(channel).unwrap();
        let membership = Membership { channel, member };
        let enter = Change::Enter {
            membership,
            held: false,
        };
        let presence = &self.node.gateway().presence;
        presence.apply(&owner, vec![enter]).await;
    }

    /// Publishes and answers the results.
    async fn publish(&self, body: Value) -> Value {
        let answer = self.call("POST", "/v1/publish", body.to_string()).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        answer.json()["results"].clone()
    }

    /// Sends what must be refused, and checks that the problem is whole.
    async fn refused(
        &self,
        method: &str,
        path: &str,
        body: impl Into<Body>,
        wanted: (u16, &str),
    ) -> Value {
        let answer = self.call(method, path, body).await;
        let problem = problem(&answer);
        let got = (answer.status.as_u16(), problem["code"].as_str().unwrap());
        assert_eq!(got, wanted, "{method} {path}: {problem}");
        problem
    }
}

fn problem(answer: &Answer) -> Value {
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let problem = answer.json();
    assert_eq!(problem["status"], json!(answer.status.as_u16()));
    for member in ["type", "title", "detail", "code"] {
        let text = problem[member].as_str().unwrap();
        assert!(
            !text.is_empty() && text.chars().count() < 500,
            "{member}: {text}"
        );
    }
    problem
}
