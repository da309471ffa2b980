//! `tidewire config`: shows what is in force and where it came from.

use std::path::PathBuf;

use super::output;
use crate::config::{self, Config, Sources, print};

/// Print the effective configuration and where each value came from.
///
/// Exits with 1 and names every error at once if the configuration is wrong. Secrets are not shown.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tidewire config --config tidewire.toml
  TIDEWIRE__LIMITS__FRAME=64KiB tidewire config
  tidewire config --table        every key with its default, as in the README")]
pub(super) struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the table of all keys and their defaults instead.
    #[arg(long)]
    table: bool,
}

/// How long moving everyone takes, against the window.
pub(super) fn drain(config: &Config) -> String {
    let (connections, rate) = (config.limits.connections.get(), config.drain.rate.get());
    format!(
        "{connections} connections at {rate} a second are moved in {}s, within the window of {}s",
        connections.div_ceil(rate),
        config.drain.window.as_secs()
    )
}

pub(super) fn run(arguments: Arguments) -> anyhow::Result<()> {
    if arguments.table {
        output::line(print::table().trim_end())?;
        return Ok(());
    }
    let loaded = config::load(Sources::of_process(arguments.config))?;
    output::line(print::effective(&loaded.entries).trim_end())?;
    output::note(&format!("drain: {}", drain(&loaded.config)));
    for warning in loaded.config.warnings() {
        output::note(&format!("warning: {warning}"));
    }
    Ok(())
}
