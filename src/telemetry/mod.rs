//! What operators see: log lines, metrics and spans.
//!
//! Called by `cli` once for the process (`init_logs`) and by `node` for each node (`Metrics`, `Tracer`).
//! Never decides anything.

pub mod broker_clock;
pub mod labels;
pub mod metrics;
pub mod otlp;
pub mod process;
pub mod sample;
pub mod spans;
pub mod tally;

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, filter::ParseError, util::SubscriberInitExt};

use crate::config::{Log, LogFormat};

/// Why log lines cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is not one.
    #[error("log.level is not a filter")]
    Filter(#[from] ParseError),
    /// The process has a subscriber already.
    #[error("log lines are set up already")]
    Again(#[from] tracing_subscriber::util::TryInitError),
}

/// Begins writing log lines of this process to standard error.
///
/// # Errors
/// The filter is wrong, or this was called before.
pub fn init_logs(config: &Log) -> Result<(), LogError> {
    let lines = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(&config.level.0)?)
        .with_writer(std::io::stderr);
    match config.format {
        LogFormat::Json => lines.json().flatten_event(true).finish().try_init()?,
        LogFormat::Pretty => {
            let colours = std::io::stderr().is_terminal();
            lines
                .with_ansi(colours)
                .with_target(false)
                .finish()
                .try_init()?;
        }
    }
    Ok(())
}
