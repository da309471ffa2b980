//! The layers of the configuration as one tree: file, then environment, then command line.
//!
//! Owns where each value came from. Called by `Config::load`; knows no key and no default.

use std::{collections::BTreeMap, fmt, path::Path, sync::Arc};

use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Problem};

/// What the names of environment variables begin with; `__` separates the parts of a key.
const ENV_PREFIX: &str = "TIDEWIRE__";
/// The usual name for a log filter in the Rust world; stands for `log.level`.
const ENV_LOG: &str = "RUST_LOG";

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The configuration file.
    File {
        /// Its path as given.
        path: Arc<str>,
        /// The line, counted from 1.
        line: usize,
    },
    /// An environment variable.
    Env(String),
    /// An argument of the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "file {path}:{line}"),
            Self::Env(name) => write!(f, "env {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// A value as it was written.
#[derive(Debug, Clone, PartialEq)]
pub enum Raw {
    /// A TOML string.
    Text(String),
    /// A TOML integer, in decimal digits.
    Integer(i64),
    /// A TOML boolean.
    Flag(bool),
    /// A TOML array of plain values.
    List(Vec<Self>),
    /// Text of the environment or the command line, whose type the setting decides.
    Untyped(String),
    /// Anything else TOML has; no setting takes it.
    Other(&'static str),
}

/// A value or a table, and where it came from.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where it came from; of a table: where it began.
    pub origin: Origin,
    /// What it is.
    pub value: Value,
}

/// What a node is.
#[derive(Debug, Clone)]
pub enum Value {
    /// A plain value.
    Leaf(Raw),
    /// A table, or a list of tables under the keys `0`, `1` ….
    Table(Table),
}

/// The entries of a table by key.
pub type Table = BTreeMap<String, Node>;

/// Reads a TOML document; every syntax error it has is added to `errors`.
pub fn from_toml(text: &str, path: &str, errors: &mut Vec<ConfigError>) -> Table {
    let source = Source {
        path: Arc::from(path),
        text,
    };
    let (document, failures) = DeTable::parse_recoverable(text);
    for failure in failures {
        errors.push(ConfigError {
            key: String::new(),
            origin: source.origin(failure.span().map_or(0, |span| span.start)),
            problem: Problem::Syntax(failure.message().to_owned()),
        });
    }
    source.table(document.get_ref())
}

struct Source<'a> {
    path: Arc<str>,
    text: &'a str,
}

impl Source<'_> {
    fn origin(&self, at: usize) -> Origin {
        let before = self.text.as_bytes().iter().take(at);
        Origin::File {
            path: Arc::clone(&self.path),
            line: 1 + before.filter(|byte| **byte == b'\n').count(),
        }
    }

    fn table(&self, table: &DeTable<'_>) -> Table {
        let node = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
            let key: &std::borrow::Cow<'_, str> = key.get_ref();
            let origin = self.origin(value.span().start);
            (key.clone().into_owned(), self.node(value.get_ref(), origin))
        };
        table.iter().map(node).collect()
    }

    fn node(&self, value: &DeValue<'_>, origin: Origin) -> Node {
        let value = match value {
            DeValue::Table(table) => Value::Table(self.table(table)),
            DeValue::Array(items)
                if !items.is_empty() && items.iter().all(|item| item.get_ref().is_table()) =>
            {
                let numbered = items.iter().enumerate().map(|(index, item)| {
                    let origin = self.origin(item.span().start);
                    (index.to_string(), self.node(item.get_ref(), origin))
                });
                Value::Table(numbered.collect())
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_) => Value::Leaf(raw(value)),
        };
        Node { origin, value }
    }
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.clone().into_owned()),
        DeValue::Integer(digits) => i64::from_str_radix(digits.as_str(), digits.radix())
            .map_or(Raw::Other("an integer beyond 64 bits"), Raw::Integer),
        DeValue::Boolean(flag) => Raw::Flag(*flag),
        DeValue::Array(items) => Raw::List(items.iter().map(|item| raw(item.get_ref())).collect()),
        DeValue::Float(_) => Raw::Other("a float"),
        DeValue::Datetime(_) => Raw::Other("a date"),
        DeValue::Table(_) => Raw::Other("a table"),
    }
}

/// Lays the variables that belong to the configuration over the tree. Parts of a name are
/// lower-cased; entries of a list are numbered from 0.
pub fn overlay_env(
    table: &mut Table,
    env: impl Iterator<Item = (String, String)>,
    errors: &mut Vec<ConfigError>,
) {
    let mut ours: Vec<_> = env
        .filter(|(name, _)| name.starts_with(ENV_PREFIX) || name == ENV_LOG)
        .collect();
    ours.sort();
    for (name, text) in ours {
        let key = name.strip_prefix(ENV_PREFIX).map_or_else(
            || "log.level".to_owned(),
            |rest| rest.to_lowercase().replace("__", "."),
        );
        set(table, &key, Origin::Env(name), text, errors);
    }
}

/// Sets one dotted key to a text given outside the file.
pub fn set(
    table: &mut Table,
    key: &str,
    origin: Origin,
    text: String,
    errors: &mut Vec<ConfigError>,
) {
    let (parents, last) = key.rsplit_once('.').unwrap_or(("", key));
    let mut here = table;
    for part in parents.split('.').filter(|part| !part.is_empty()) {
        let node = here.entry(part.to_owned()).or_insert_with(|| Node {
            origin: origin.clone(),
            value: Value::Table(Table::new()),
        });
        match &mut node.value {
            Value::Table(inner) => here = inner,
            Value::Leaf(_) => {
                errors.push(ConfigError {
                    key: key.to_owned(),
                    origin,
                    problem: Problem::NotATable,
                });
                return;
            }
        }
    }
    here.insert(
        last.to_owned(),
        Node {
            origin,
            value: Value::Leaf(Raw::Untyped(text)),
        },
    );
}

/// The path as it is shown in origins.
pub fn shown(path: &Path) -> String {
    path.display().to_string()
}
