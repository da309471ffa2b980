//! The command line: arguments in, exit code out.
//!
//! Owns what each command prints and the setting up of the process. Called by `main`; the node
//! itself begins at `serve::run`.

mod client;
mod dev;
mod doctor;
mod output;
mod publish;
mod serve;
mod show;
mod tail;
mod token;
mod top;

use std::{future::Future, io, process::ExitCode, time::SystemTime};

use anyhow::Context;
use clap::{Parser, Subcommand};

const EXAMPLES: &str = "Examples:
  tidewire dev                                       everything on this machine, nothing to configure
  tidewire serve --config tidewire.toml              a production node
  tidewire publish orders:42 '{\"at\":\"gate\"}' --key status
  tidewire tail orders:42 --state                    follow a channel, its state first
  tidewire token --user ada --can 'chat:*=sub,pub'   make a token
  tidewire top                                       nodes in a live table";

/// A real-time WebSocket hub whose sessions never break.
#[derive(Debug, Parser)]
#[command(name = "tidewire", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Dev(dev::Arguments),
    Serve(serve::Arguments),
    Config(show::Arguments),
    Doctor(doctor::Arguments),
    Publish(publish::Arguments),
    Tail(tail::Arguments),
    Token(token::Arguments),
    Top(top::Arguments),
}

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Somebody else in the process may have installed a provider; then theirs is used.
    let _already = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider().install_default();
    let done = match arguments.command {
        Command::Dev(arguments) => dev::run(arguments),
        Command::Serve(arguments) => serve::serve(arguments),
        Command::Config(arguments) => show::run(arguments),
        Command::Doctor(arguments) => doctor::run(arguments),
        Command::Publish(arguments) => publish::run(arguments),
        Command::Tail(arguments) => tail::run(arguments),
        Command::Token(arguments) => token::run(arguments),
        Command::Top(arguments) => top::run(arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::note(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether the reader of our output has gone, as `head` does when it has seen enough.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Runs a command that talks to a node, on this thread.
fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(future);
    // A thread may still wait for a line of standard input; the process ends all the same.
    runtime.shutdown_background();
    result
}

/// The clock, Unix ms.
fn now_ms() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    crate::config::units::millis(since)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_sound() {
        super::Arguments::command().debug_assert();
    }
}
