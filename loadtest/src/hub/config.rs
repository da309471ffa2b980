//! How the nodes of a run are configured, and the tokens their clients show.
//!
//! Limits that are about abuse are out of the way, since every client comes from this machine; the
//! rest is a node's default, so that what is measured is what one gets. It starts nothing.

use std::{
    fmt::Write,
    net::SocketAddr,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;

/// Signs the tokens of a hub that lives as long as its run.
const SECRET: &str = "a secret of load runs, on loopback, for minutes";
/// Longer than any run.
const TOKEN_TTL: Duration = Duration::from_secs(24 * 3_600);

/// What every node is given besides its places. `load` keeps a history, `board` a state besides,
/// `room` tells who is there.
const LIMITS: &str = r#"
[limits]
connections_per_ip = 1000000
commands = "1000000/s"
subscribes = "1000000/s"
reads = "1000000/s"
handshakes = "1000000/s"
[log]
level = "warn"
"#;

/// What a scenario asks of the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How many nodes.
    pub nodes: usize,
    /// A Redis under them, also under one.
    pub redis: bool,
    /// Publications each channel keeps.
    pub history: usize,
    /// Connections a node moves a second when it drains; none: its default.
    pub drain_rate: Option<u32>,
}

impl Settings {
    /// One node on embedded storage with the default history.
    pub const ONE: Self = Self {
        nodes: 1,
        redis: false,
        history: 100,
        drain_rate: None,
    };
}

/// The file of one node.
pub fn file(settings: &Settings, address: SocketAddr, dir: &Path, redis: Option<&str>) -> String {
    let mut text = String::new();
    let mut line = |args: std::fmt::Arguments<'_>| {
        // Writing into a string cannot fail.
        let _never = writeln!(text, "{args}");
    };
    line(format_args!("listen = \"{address}\""));
    line(format_args!("data_dir = {:?}", dir.join("data")));
    line(format_args!(
        "cluster_secret = \"{}\"",
        "0123456789abcdef".repeat(2)
    ));
    line(format_args!("[auth]\nhmac_secret = {SECRET:?}"));
    if let Some(url) = redis {
        line(format_args!("[redis]\nurl = {url:?}"));
    }
    if let Some(rate) = settings.drain_rate {
        line(format_args!("[drain]\nrate = {rate}\nwindow = \"1h\""));
    }
    for (name, more) in [
        ("load", ""),
        ("board", "state = true"),
        ("room", "presence = \"members\""),
    ] {
        let history = settings.history;
        line(format_args!(
            "[namespaces.{name}]\nmax_rate = \"1000000/s\"\nhistory_size = {history}\n{more}"
        ));
    }
    text.push_str(LIMITS);
    text
}

/// A token of a user who may do everything with client channels; none if it cannot be signed.
pub fn token(user: &str) -> Option<String> {
    let expires = SystemTime::now() + TOKEN_TTL;
    let expires = expires.duration_since(UNIX_EPOCH).ok()?.as_secs();
    let can = json!({"*": ["sub", "pub", "history", "presence"]});
    let claims = json!({"sub": user, "exp": expires, "can": can});
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::default(), &claims, &key).ok()
}
