//! The live demo of `tidewire dev`: the page at `/`, its tokens, and the recordings behind it.
//!
//! Owns what is served under `/` and `/demo`, in development only. The page is built from
//! `clients/demo` and committed, so that Rust alone runs it; the data is recorded, not made up
//! (`data/README.md`).

mod player;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};
use tidewire_protocol::Name;

use crate::{
    assets::{page, script, style},
    auth::{
        Right,
        mint::{NewToken, hs256},
    },
    broker::Broker,
    clock,
    config::{Config, Secret},
    tasks::Tasks,
};

pub use player::Recordings;

/// Longest name of a visitor, in bytes: it stands beside every message.
const USER_BYTES_MAX: usize = 40;
/// How long a visitor's token lives, seconds.
const TOKEN_TTL_S: u64 = 3_600;

const PAGE: &str = include_str!("assets/index.html");
const SCRIPT: &str = include_str!("assets/app.js");
const STYLE: &str = include_str!("assets/style.css");

/// The recordings cannot be read: the build is broken.
#[derive(Debug, thiserror::Error)]
#[error("the recordings of the demo cannot be read")]
pub struct DemoError(#[from] serde_json::Error);

#[derive(Debug)]
struct Demo {
    secret: Option<Secret>,
    config: Box<serde_json::value::RawValue>,
}

/// Serves the demo and begins to play its recordings.
///
/// # Errors
/// The recordings are broken.
pub fn start(
    config: &Arc<Config>,
    broker: Arc<dyn Broker>,
    tasks: &Tasks,
) -> Result<Router, DemoError> {
    let recordings = Recordings::read()?;
    let demo = Arc::new(Demo {
        secret: config.auth.hmac_secret.clone(),
        config: serde_json::value::to_raw_value(&PageConfig::of(&recordings))?,
    });
    tasks.spawn_until_stop(player::drive(
        Arc::clone(config),
        Arc::clone(&broker),
        recordings.courier,
    ));
    tasks.spawn_until_stop(player::measure(
        Arc::clone(config),
        broker,
        recordings.series,
    ));
    Ok(Router::new()
        .route("/", get(async || page(PAGE)))
        .route("/app.js", get(async || script(SCRIPT)))
        .route("/style.css", get(async || style(STYLE)))
        .route("/demo/config.json", get(page_config))
        .route("/demo/token", get(token))
        .with_state(demo))
}

#[derive(Serialize)]
struct PageConfig<'a> {
    token_url: &'static str,
    route: &'a [player::Fix],
    series: Vec<SeriesConfig<'a>>,
    sources: [SourceText<'a>; 2],
}

#[derive(Serialize)]
struct SeriesConfig<'a> {
    key: &'a str,
    name: &'a str,
    unit: &'a str,
    min: f64,
    max: f64,
}

#[derive(Serialize)]
struct SourceText<'a> {
    text: &'a str,
    licence: &'a str,
}

impl<'a> PageConfig<'a> {
    fn of(recordings: &'a Recordings) -> Self {
        let bounds = |values: &[f64]| {
            values
                .iter()
                .fold((f64::MAX, f64::MIN), |(min, max), value| {
                    (min.min(*value), max.max(*value))
                })
        };
        let series = recordings.series.series.iter().map(|series| {
            let (min, max) = bounds(&series.values);
            SeriesConfig {
                key: &series.key,
                name: &series.name,
                unit: &series.unit,
                min,
                max,
            }
        });
        Self {
            token_url: "/demo/token",
            route: &recordings.courier.points,
            series: series.collect(),
            sources: [
                SourceText {
                    text: &recordings.courier.source,
                    licence: &recordings.courier.licence,
                },
                SourceText {
                    text: &recordings.series.source,
                    licence: &recordings.series.licence,
                },
            ],
        }
    }
}

async fn page_config(State(demo): State<Arc<Demo>>) -> Response {
    (
        [(header::CONTENT_TYPE, "application/json")],
        demo.config.get().to_owned(),
    )
        .into_response()
}

#[derive(Deserialize)]
struct Visitor {
    user: String,
}

/// A visitor's token: reads the demo's channels, talks in its room.
async fn token(State(demo): State<Arc<Demo>>, Query(visitor): Query<Visitor>) -> Response {
    let valid = visitor.user.len() <= USER_BYTES_MAX && Name::new(&visitor.user).is_ok();
    let Some(secret) = demo.secret.as_ref().filter(|_| valid) else {
        return (
            StatusCode::BAD_REQUEST,
            "a visitor needs a name of at most 40 bytes",
        )
            .into_response();
    };
    let now_s = clock::now_ms() / 1000;
    let reads = vec![Right::Sub, Right::History];
    let talks = vec![Right::Sub, Right::Pub, Right::History, Right::Presence];
    let token = NewToken {
        sub: visitor.user,
        iat: now_s,
        exp: now_s + TOKEN_TTL_S,
        can: [
            (player::ORDERS.to_owned(), reads.clone()),
            (player::DASH.to_owned(), reads),
            ("chat:lobby".to_owned(), talks),
        ]
        .into(),
        ..NewToken::default()
    };
    match hs256(secret, &token) {
        Ok(token) => Json(serde_json::json!({ "token": token })).into_response(),
        Err(error) => {
            tracing::error!(%error, "a token of the demo could not be made");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
