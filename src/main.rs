//! The `tidewire` program.

mod auth;
mod broker;
mod cli;
mod config;
mod store;
mod telemetry;

fn main() -> std::process::ExitCode {
    cli::main()
}
