//! What can be wrong with a configuration, and the report of all of it at once.
//!
//! Called by everything that reads or checks settings; never shows the text of a secret.

use std::{fmt, io, time::Duration};

use super::{tree::Origin, units::show_duration};

/// One thing that is wrong.
#[derive(Debug)]
pub struct ConfigError {
    /// The dotted key; empty where the document itself is wrong.
    pub key: String,
    /// Where the value came from.
    pub origin: Origin,
    /// What is wrong.
    pub problem: Problem,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{} ({})", self.problem, self.origin)
    }
}

/// What is wrong with a value.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// The document is not TOML.
    #[error("not TOML: {0}")]
    Syntax(String),
    /// No setting has this name.
    #[error("unknown key{}", close.as_ref().map(|close| format!("; did you mean `{close}`?")).unwrap_or_default())]
    UnknownKey {
        /// A known key that is spelt almost like it.
        close: Option<String>,
    },
    /// A value of the wrong type or form.
    #[error("expected {expected}, found {found}")]
    Expected {
        /// What the setting takes.
        expected: &'static str,
        /// What was written; never a secret.
        found: String,
    },
    /// A plain value where a table belongs.
    #[error("expected a table with keys of its own")]
    NotATable,
    /// A list whose entries are not numbered from 0.
    #[error("expected a list of tables ([[{0}]]), entries numbered 0, 1 …")]
    NotAList(String),
    /// A number outside of what the node can do.
    #[error("must be between {min} and {max}")]
    Range {
        /// Lowest value.
        min: String,
        /// Highest value.
        max: String,
    },
    /// Two settings that contradict each other, or one that another needs.
    #[error("{0}")]
    Rule(&'static str),
    /// A name no channel can have as its namespace.
    #[error("a namespace is 1 to 64 bytes without `:`, `$`, white space or control characters")]
    NamespaceName,
    /// Draining would take longer than its window.
    #[error(
        "draining {connections} connections at {rate} a second takes {}, over the window of {}; raise drain.rate or drain.window, or lower limits.connections",
        show_duration(Duration::from_secs(u64::from(connections.div_ceil(*rate)))),
        show_duration(*window)
    )]
    Drain {
        /// `limits.connections`.
        connections: u32,
        /// `drain.rate`, per second; at least 1.
        rate: u32,
        /// `drain.window`.
        window: Duration,
    },
}

/// Everything that is wrong with a configuration; at least one entry.
#[derive(Debug)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        let noun = if count == 1 { "error" } else { "errors" };
        write!(f, "the configuration has {count} {noun}:")?;
        for error in &self.0 {
            write!(f, "\n  {error}")?;
        }
        Ok(())
    }
}
