//! The one place that reads configuration: a TOML file, `TIDEWIRE__…` variables over it, the
//! command line over both.
//!
//! Owns the layers, the report of every error at once and the origin of each value. Called by
//! `cli`; the parts of the node get their own section and never read anything themselves.

mod check;
pub mod error;
pub mod namespaces;
pub mod print;
pub mod reader;
pub mod secret;
pub mod sections;
pub mod setting;
#[cfg(test)]
mod tests;
mod tree;
pub mod units;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

pub use error::ConfigErrors;
pub use namespaces::{Namespace, Namespaces, PRESENCE_TTL_MS, Presence};
pub use secret::Secret;
pub use sections::{
    Drain, Limits, Log, LogFilter, LogFormat, Redis, Session, Storage, Sync, Tls, Tracing,
};
pub use units::{ByteSize, Percent, Rate};

use crate::auth;
use error::{ConfigError, Problem};
use ipnet::IpNet;
use reader::{Reader, Report};
use tree::{Origin, Table};

/// The file in the data folder that keeps a generated `cluster_secret`.
const CLUSTER_SECRET_FILE: &str = "cluster_secret";
/// Largest configuration file in bytes: thousands of namespaces and keys.
const FILE_BYTES_MAX: u64 = 1 << 20;

setting::section! {
    /// Where the node listens and what it keeps.
    pub struct Node {
        /// Address for clients, and for everything else while `internal_listen` is unset.
        listen: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080),
        /// Address for /metrics, /admin and the HTTP API instead; unset: the same port, with a warning.
        internal_listen: Option<SocketAddr> = None,
        /// Networks of proxies whose X-Forwarded-For says who the client is, such as "10.0.0.0/8"; unset: none is believed.
        trusted_proxies: Vec<IpNet> = Vec::new(),
        /// Folder of the embedded storage.
        data_dir: PathBuf = PathBuf::from("./tidewire-data"),
        /// Signs session keys; the same on every node; unset: generated and kept in data_dir.
        cluster_secret: Option<Secret> = None,
        /// The secret before the last change, still accepted in session keys.
        cluster_secret_previous: Option<Secret> = None,
    }
}

/// The whole configuration of a node.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    /// The keys at the top.
    pub node: Node,
    /// `[auth]`: who clients are.
    pub auth: auth::Config,
    /// `[[api_keys]]`: what backends may do.
    pub api_keys: Vec<auth::ApiKeyConfig>,
    /// `[session]`.
    pub session: Session,
    /// `[namespaces.*]`.
    pub namespaces: Namespaces,
    /// `[limits]`.
    pub limits: Limits,
    /// `[drain]`.
    pub drain: Drain,
    /// `[storage]`.
    pub storage: Storage,
    /// `[redis]`.
    pub redis: Redis,
    /// `[tls]`.
    pub tls: Tls,
    /// `[log]`.
    pub log: Log,
    /// `[tracing]`.
    pub tracing: Tracing,
    /// Set by `tidewire dev` alone: the demo runs, and only this machine may connect to a
    /// loopback address.
    pub development: bool,
}

/// Where to read from, lowest layer first.
#[derive(Debug, Default)]
pub struct Sources {
    /// A document of the program itself, under the file: its name and text.
    pub built_in: Option<(&'static str, &'static str)>,
    /// The file, if there is one; it replaces the built-in document.
    pub file: Option<PathBuf>,
    /// The environment: every variable, ours are picked out.
    pub env: Vec<(String, String)>,
    /// Arguments of the command line: dotted key, name of the flag, text.
    pub flags: Vec<(&'static str, &'static str, String)>,
}

impl Sources {
    /// A file, the process's environment and arguments.
    pub fn of_process(file: Option<PathBuf>) -> Self {
        let env = std::env::vars_os()
            .filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)));
        Self {
            file,
            env: env.collect(),
            ..Self::default()
        }
    }

    /// Lays an argument over the rest, if it was given.
    #[must_use]
    pub fn flag(mut self, key: &'static str, name: &'static str, text: Option<String>) -> Self {
        self.flags.extend(text.map(|text| (key, name, text)));
        self
    }
}

/// A configuration and where its values came from.
#[derive(Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Each key with value and origin, for [`print::effective`].
    pub entries: Vec<reader::Entry>,
}

/// Reads every layer and checks the whole.
///
/// # Errors
/// Everything that is wrong, each with its key and where it came from.
pub fn load(sources: Sources) -> Result<Loaded, ConfigErrors> {
    let mut report = Report::default();
    let mut table = Table::new();
    if let Some(path) = &sources.file {
        table = read_file(path, &mut report.errors);
    } else if let Some((name, text)) = sources.built_in {
        table = tree::from_toml(text, name, &mut report.errors);
    }
    tree::overlay_env(&mut table, sources.env.into_iter(), &mut report.errors);
    for (key, name, text) in sources.flags {
        tree::set(
            &mut table,
            key,
            Origin::Flag(name),
            text,
            &mut report.errors,
        );
    }
    let (config, names) = read(table, &mut report);
    namespaces::check(names, &mut report);
    check::check(&config, &mut report);
    if report.errors.is_empty() {
        Ok(Loaded {
            config,
            entries: report.entries,
        })
    } else {
        Err(ConfigErrors(report.errors))
    }
}

/// Takes every key; also answers the namespaces' names and where each came from.
fn read(table: Table, report: &mut Report) -> (Config, Vec<(String, Origin)>) {
    Reader::top(table, report, |reader| {
        let node = setting::Section::read(reader);
        let auth = reader.section("auth");
        let api_keys = reader.list("api_keys");
        let session = reader.section("session");
        let (namespaces, names) = Namespaces::read(reader);
        let config = Config {
            node,
            auth,
            api_keys,
            session,
            namespaces,
            limits: reader.section("limits"),
            drain: reader.section("drain"),
            storage: reader.section("storage"),
            redis: reader.section("redis"),
            tls: reader.section("tls"),
            log: reader.section("log"),
            tracing: reader.section("tracing"),
            development: false,
        };
        (config, names)
    })
}

fn read_file(path: &Path, errors: &mut Vec<ConfigError>) -> Table {
    let shown = tree::shown(path);
    let text = std::fs::metadata(path).and_then(|about| {
        if about.len() > FILE_BYTES_MAX {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        std::fs::read_to_string(path)
    });
    match text {
        Ok(text) => tree::from_toml(&text, &shown, errors),
        Err(error) => {
            errors.push(ConfigError {
                key: String::new(),
                origin: Origin::Flag("--config"),
                problem: Problem::Unreadable(error),
            });
            Table::new()
        }
    }
}

impl Config {
    /// The secret that signs session keys: the configured one, or the one kept in the data
    /// folder, drawn at the first start.
    ///
    /// # Errors
    /// The data folder cannot hold it.
    pub fn cluster_secret(&self) -> Result<Secret, secret::SecretError> {
        match &self.node.cluster_secret {
            Some(secret) => Ok(secret.clone()),
            None => secret::load_or_create(&self.node.data_dir, CLUSTER_SECRET_FILE),
        }
    }
}
