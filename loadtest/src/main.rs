//! `tidewire-load`: loads a hub and judges every delivery.
//!
//! Reads the command line and runs one scenario; the exit code says whether anything failed it.

mod crowd;
mod full;
mod hub;
mod judge;
mod light;
mod limits;
mod message;
mod meter;
mod publish;
mod report;
mod run;
mod sampler;
mod scenario;
mod stage;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use scenario::{
    chat::Chat, dashboard::Dashboard, deploy::Deploy, fanout::Fanout, idle::Idle, jitter::Jitter,
    kill::Kill, million::Million, orders::Orders, slow::Slow, spike::Spike, storm::Storm,
};

/// Loads a Tidewire hub and judges every delivery.
///
/// It starts nodes of its own (embedded storage, or several on a redis-server of their own), brings
/// readers and publishers, and numbers every message. A message that is lost, repeated or
/// disordered fails the run by name, and so does one the hub does not acknowledge: the exit code is
/// one. Latency runs from the moment a message was meant to be sent. One line a second while it
/// runs; in the end a report as JSON and as a page of its own.
#[derive(Debug, Parser)]
#[command(name = "tidewire-load", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    scenario: Play,
    #[command(flatten)]
    common: run::Common,
}

const EXAMPLES: &str = "Examples:
  tidewire-load fanout                                  1,000 readers of one channel
  tidewire-load fanout --readers 5000 --channels 1000 --rate 2000
  tidewire-load kill                                    3 nodes, one is killed
  tidewire-load jitter --clients 500 --seconds 60
  tidewire-load fanout --url ws://10.0.0.7:8080 --token \"$TOKEN\"";

#[derive(Debug, Subcommand)]
enum Play {
    Idle(Idle),
    Fanout(Fanout),
    Orders(Orders),
    Chat(Chat),
    Dashboard(Dashboard),
    Spike(Spike),
    Jitter(Jitter),
    Storm(Storm),
    Kill(Kill),
    Deploy(Deploy),
    Slow(Slow),
    Million(Million),
    /// A part of a crowd, started by `million`.
    #[command(hide = true)]
    Crowd,
}

fn main() -> ExitCode {
    let Arguments { scenario, common } = Arguments::parse();
    let runtime = tokio::runtime::Runtime::new();
    let played = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        let played = runtime.block_on(async {
            match &scenario {
                Play::Idle(scenario) => run::run(&common, scenario).await,
                Play::Fanout(scenario) => run::run(&common, scenario).await,
                Play::Orders(scenario) => run::run(&common, scenario).await,
                Play::Chat(scenario) => run::run(&common, scenario).await,
                Play::Dashboard(scenario) => run::run(&common, scenario).await,
                Play::Spike(scenario) => run::run(&common, scenario).await,
                Play::Jitter(scenario) => run::run(&common, scenario).await,
                Play::Storm(scenario) => run::run(&common, scenario).await,
                Play::Kill(scenario) => run::run(&common, scenario).await,
                Play::Deploy(scenario) => run::run(&common, scenario).await,
                Play::Slow(scenario) => run::run(&common, scenario).await,
                Play::Million(scenario) => run::run(&common, scenario).await,
                Play::Crowd => crowd::run().await.map(|()| true),
            }
        });
        runtime.shutdown_background();
        played
    });
    match played {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
