//! Rules between settings: what no single value can break.
//!
//! Called by `load` once all values are read; refuses, and warns of what is allowed but unwise.

use std::time::Duration;

use tidewire_protocol::limits::{MESSAGE_BYTES_MAX, SUBSCRIPTIONS_MAX};

use super::{ByteSize, Config, error::Problem, reader::Report, setting::Setting};
use crate::redis::PARTITIONS_MAX;

/// Room beside a publication's data inside its frame: channel, key, event, id, guard and names.
const FRAME_OVERHEAD: ByteSize = ByteSize::kib(4);
/// Longest `redis.prefix`: it is in every key.
const REDIS_PREFIX_BYTES_MAX: usize = 32;
/// Most lanes: each is a connection to every server, and more than cores serve nobody.
const REDIS_LANES_MAX: u32 = 64;
/// Largest frame: what a node reads into memory for one connection.
const FRAME_MAX: ByteSize = ByteSize::mib(1);

pub(super) fn check(config: &Config, report: &mut Report) {
    limits(config, report);
    drain(config, report);
    redis(config, report);
    auth(config, report);
    if let Some(endpoint) = &config.tracing.endpoint {
        let url = reqwest::Url::parse(endpoint);
        if !url.is_ok_and(|url| matches!(url.scheme(), "http" | "https")) {
            let problem = Problem::Rule("an address such as http://localhost:4318/v1/traces");
            report.refuse("tracing.endpoint", problem);
        }
    }
    if config.tls.cert.is_some() != config.tls.key.is_some() {
        let missing = if config.tls.cert.is_none() {
            "tls.cert"
        } else {
            "tls.key"
        };
        report.refuse(missing, Problem::Rule("tls.cert and tls.key go together"));
    }
    if config.session.ttl.is_zero() {
        report.refuse(
            "session.ttl",
            Problem::Rule("a session must outlive its connection"),
        );
    }
    if config.node.cluster_secret.is_none() && config.node.cluster_secret_previous.is_some() {
        report.refuse(
            "cluster_secret_previous",
            Problem::Rule("a previous secret needs cluster_secret beside it"),
        );
    }
}

fn range<T: Setting>(path: &str, min: &T, max: &T, report: &mut Report) {
    let problem = Problem::Range {
        min: min.show().unwrap_or_default(),
        max: max.show().unwrap_or_default(),
    };
    report.refuse(path, problem);
}

fn limits(config: &Config, report: &mut Report) {
    let limits = &config.limits;
    let subscriptions_max = u32::try_from(SUBSCRIPTIONS_MAX).unwrap_or(u32::MAX);
    if limits.subscriptions.get() > subscriptions_max {
        range("limits.subscriptions", &1, &subscriptions_max, report);
    }
    if limits.frame < ByteSize::kib(1) || limits.frame > FRAME_MAX {
        range("limits.frame", &ByteSize::kib(1), &FRAME_MAX, report);
    }
    let message_max = u64::try_from(MESSAGE_BYTES_MAX).unwrap_or(u64::MAX);
    // Bytes travel as base64 in JSON, and a message to a client holds at least one publication.
    let publication_max = ByteSize(message_max * 3 / 4 - FRAME_OVERHEAD.0);
    if limits.publication.0 == 0 || limits.publication > publication_max {
        range("limits.publication", &ByteSize(1), &publication_max, report);
    } else if limits.publication > limits.frame {
        report.refuse(
            "limits.publication",
            Problem::Rule("a publication must fit into limits.frame"),
        );
    }
    let pages_max = 1_000;
    if limits.page.get() > pages_max {
        range("limits.page", &1, &pages_max, report);
    }
    if limits.tail_bytes < ByteSize(message_max) {
        report.refuse(
            "limits.tail_bytes",
            Problem::Rule("a tail must hold one message of 256KiB"),
        );
    }
    if limits.tails_bytes < limits.tail_bytes {
        report.refuse(
            "limits.tails_bytes",
            Problem::Rule("all tails must have room for one: limits.tail_bytes"),
        );
    }
}

fn drain(config: &Config, report: &mut Report) {
    let (connections, rate) = (config.limits.connections.get(), config.drain.rate.get());
    let window = config.drain.window;
    let seconds = u64::from(connections.div_ceil(rate));
    if seconds > window.as_secs() {
        let problem = Problem::Drain {
            connections,
            rate,
            window,
        };
        report.refuse("drain.window", problem);
    }
}

fn redis(config: &Config, report: &mut Report) {
    let redis = &config.redis;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if redis.prefix.len() > REDIS_PREFIX_BYTES_MAX || !redis.prefix.bytes().all(plain) {
        report.refuse(
            "redis.prefix",
            Problem::Rule("a prefix is 1 to 32 letters, digits, `-` or `_`"),
        );
    }
    if redis
        .partitions
        .is_some_and(|count| count.get() > PARTITIONS_MAX)
    {
        range("redis.partitions", &1, &PARTITIONS_MAX, report);
    }
    if redis.lanes.get() > REDIS_LANES_MAX {
        range("redis.lanes", &1, &REDIS_LANES_MAX, report);
    }
    let deadlines = Duration::from_millis(10)..=Duration::from_secs(60);
    for (path, deadline) in [
        ("redis.write_deadline", redis.write_deadline),
        ("redis.read_deadline", redis.read_deadline),
    ] {
        if !deadlines.contains(&deadline) {
            range(path, deadlines.start(), deadlines.end(), report);
        }
    }
    if redis.url.is_some() && config.node.cluster_secret.is_none() {
        report.refuse(
            "cluster_secret",
            Problem::Rule("nodes on one Redis must share a secret: set the same on each of them"),
        );
    }
}

fn auth(config: &Config, report: &mut Report) {
    for (path, problem) in config.auth.problems() {
        report.refuse(&path, problem);
    }
    for (index, key) in config.api_keys.iter().enumerate() {
        for (name, problem) in key.problems() {
            report.refuse(&format!("api_keys.{index}.{name}"), problem);
        }
    }
}

impl Config {
    /// What is allowed but worth a second look, as sentences for the log at start.
    pub fn warnings(&self) -> Vec<&'static str> {
        let auth = &self.auth;
        let weak =
            |secret: &Option<super::Secret>| secret.as_ref().is_some_and(super::Secret::is_weak);
        let keyless = auth.hmac_secret.is_none() && auth.jwks_url.is_none() && auth.keys.is_empty();
        let plain_keys = auth
            .jwks_url
            .as_deref()
            .is_some_and(crosses_network_unprotected);
        let found = [
            (
                self.node.internal_listen.is_none(),
                "internal_listen is not set: /metrics, /admin and the HTTP API answer on the public port",
            ),
            (
                keyless && !auth.anonymous,
                "no client can connect: set auth.hmac_secret, auth.jwks_url, [[auth.keys]] or auth.anonymous",
            ),
            (
                plain_keys,
                "auth.jwks_url is not https: whoever sits between can make tokens",
            ),
            (
                weak(&auth.hmac_secret),
                "auth.hmac_secret is shorter than 32 bytes and may be guessed",
            ),
            (
                weak(&self.node.cluster_secret) || weak(&self.node.cluster_secret_previous),
                "cluster_secret is shorter than 32 bytes and may be guessed",
            ),
            (
                self.api_keys.is_empty(),
                "no [[api_keys]]: the HTTP API refuses every request",
            ),
        ];
        found
            .into_iter()
            .filter(|(holds, _)| *holds)
            .map(|(_, text)| text)
            .collect()
    }
}

/// Whether fetching from there could be tampered with on the way.
fn crosses_network_unprotected(url: &str) -> bool {
    reqwest::Url::parse(url).is_ok_and(|url| {
        let host = url.host_str().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let here = host == "localhost"
            || bare
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback());
        url.scheme() == "http" && !here
    })
}
