//! Who calls: the API key of a request and what it may be used for.
//!
//! An extractor per scope; it comes first among a handler's arguments, so that nothing else of a
//! request is looked at before its key.

use std::{marker::PhantomData, sync::Arc};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header::AUTHORIZATION, request::Parts},
};
use tidewire_protocol::ErrorCode;

use super::{Api, problem::Problem};
use crate::{
    auth::{ApiKey, Scope},
    clock,
};

/// A scope as a type.
pub(super) trait Needs {
    const SCOPE: Scope;
    const NAME: &'static str;
}

#[derive(Debug)]
pub(super) struct ToPublish;
#[derive(Debug)]
pub(super) struct ToRead;
#[derive(Debug)]
pub(super) struct ToManage;

impl Needs for ToPublish {
    const SCOPE: Scope = Scope::Publish;
    const NAME: &'static str = "publish";
}

impl Needs for ToRead {
    const SCOPE: Scope = Scope::Read;
    const NAME: &'static str = "read";
}

impl Needs for ToManage {
    const SCOPE: Scope = Scope::Manage;
    const NAME: &'static str = "manage";
}

/// The key of a request that may be used for this.
#[derive(Debug)]
pub(super) struct Allowed<N> {
    pub key: ApiKey,
    scope: PhantomData<N>,
}

impl<N: Needs> FromRequestParts<Arc<Api>> for Allowed<N> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        let key = bearer(&parts.headers).ok_or_else(|| {
            let detail = "an API key is required: `Authorization: Bearer <key>`";
            Problem::new(ErrorCode::Unauthenticated, detail)
                .challenge(r#"Bearer realm="tidewire""#.to_owned())
        })?;
        let operators = &api.gateway.operators;
        let operator = operators.verify(key, clock::wall_ms());
        let operator = operator.map(|operator| ApiKey::of_operator(&operator.key_id));
        let known = operator.or_else(|| api.api_keys.check(key).cloned());
        let key = known.ok_or_else(|| {
            let challenge = r#"Bearer realm="tidewire", error="invalid_token""#;
            Problem::new(ErrorCode::Unauthenticated, "the API key is not known")
                .challenge(challenge.to_owned())
        })?;
        if !key.allows(N::SCOPE) {
            let scope = N::NAME;
            let detail = format!("the API key lacks the scope `{scope}`");
            let challenge = r#"Bearer realm="tidewire", error="insufficient_scope""#;
            return Err(Problem::new(ErrorCode::Forbidden, detail)
                .challenge(format!(r#"{challenge}, scope="{scope}""#)));
        }
        Ok(Self {
            key,
            scope: PhantomData,
        })
    }
}

/// What a request shows in its `Authorization` header.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| key.trim_matches(' '))
}
