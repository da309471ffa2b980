//! All scenarios of chaos, as large and as long as one wants: `scripts/chaos` is its front.
//!
//! Prints a table; ends with 1 where a promise was broken and with 2 where it was asked for what
//! it does not know.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    clippy::unused_async,
    reason = "a program of tests: it prints, fails by panicking, and awaits every helper alike"
)]

mod harness;
mod measure;
#[expect(dead_code, reason = "whole nodes in one process use the rest")]
#[path = "../it/support.rs"]
mod support;
#[path = "../it/wire.rs"]
mod wire;

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use harness::{
    report,
    run::{Plan, run},
    scenario::{SCENARIOS, Scenario, named},
};

const USAGE: &str = "scripts/chaos [--all | pairs | NAME…] [--seed S] [--runs N] [--clients N] \
[--publishers N] [--rate PUBLICATIONS-A-SECOND] [--seconds N] [--program PATH] [--list]";

/// What was asked for.
#[derive(Default)]
struct Asked {
    scenarios: Vec<Scenario>,
    measurements: Vec<&'static str>,
    /// Pairs of faults, another for each seed.
    pairs: bool,
    seed: Option<u64>,
    /// How often, each time with the seed after the last.
    runs: Option<u64>,
    clients: Option<usize>,
    publishers: Option<usize>,
    rate: Option<f64>,
    seconds: Option<f64>,
    program: Option<PathBuf>,
    list: bool,
}

impl Asked {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut asked = Self::default();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match &*word {
                "--all" => {
                    asked.scenarios.extend(SCENARIOS);
                    asked.measurements.extend(measure::NAMES);
                }
                "--list" => asked.list = true,
                "pairs" => asked.pairs = true,
                "--runs" => asked.runs = Some(number(&value()?)?),
                "--seed" => asked.seed = Some(number(&value()?)?),
                "--clients" => asked.clients = Some(number(&value()?)?),
                "--publishers" => asked.publishers = Some(number(&value()?)?),
                "--rate" => asked.rate = Some(number(&value()?)?),
                "--seconds" => asked.seconds = Some(number(&value()?)?),
                "--program" => asked.program = Some(value()?.into()),
                name => asked.add(name)?,
            }
        }
        let has_runs = asked.pairs || !asked.scenarios.is_empty();
        if !has_runs && asked.measurements.is_empty() && !asked.list {
            return Err("which one?".to_owned());
        }
        Ok(asked)
    }

    fn add(&mut self, name: &str) -> Result<(), String> {
        if let Some(scenario) = named(name) {
            self.scenarios.push(*scenario);
        } else if let Some(name) = measure::NAMES.iter().find(|known| **known == name) {
            self.measurements.push(name);
        } else {
            return Err(format!("nothing is called {name}; see --list"));
        }
        Ok(())
    }

    fn program(&self) -> PathBuf {
        let built = || PathBuf::from(env!("CARGO_BIN_EXE_tidewire"));
        self.program.clone().unwrap_or_else(built)
    }

    /// Every run that was asked for, in its order.
    fn plans(&self) -> Vec<Plan> {
        let drawn = || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            u64::from(now.subsec_micros()) % 99_991
        };
        let mut plans = Vec::new();
        for run in 0..self.runs.unwrap_or(1) {
            let seed = || self.seed.unwrap_or_else(drawn) + run;
            for scenario in &self.scenarios {
                plans.push(self.plan(*scenario, seed()));
            }
            if self.pairs {
                let seed = seed();
                plans.push(self.plan(Scenario::pair(seed), seed));
            }
        }
        plans
    }

    fn plan(&self, scenario: Scenario, seed: u64) -> Plan {
        let mut plan = Plan::of(scenario, seed, self.program());
        plan.clients = self.clients.unwrap_or(plan.clients);
        plan.publishers = self.publishers.unwrap_or(plan.publishers);
        plan.rate = self.rate.unwrap_or(plan.rate);
        plan.seconds = self.seconds.unwrap_or(plan.seconds);
        plan
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_no| format!("{text} is no number that fits there"))
}

fn list() {
    println!(
        "{:<20} {:<11} {:<16} may lose",
        "scenario", "redis", "faults"
    );
    for scenario in SCENARIOS {
        println!(
            "{:<20} {:<11} {:<16} {}",
            scenario.name,
            format!("{:?}", scenario.layout),
            scenario.faults,
            if scenario.may_lose {
                "the tail"
            } else {
                "nothing"
            }
        );
    }
    println!("measurements: {}", measure::NAMES.join(", "));
}

/// Runs what was asked for, one after another; answers how many broke a promise.
async fn campaign(asked: &Asked) -> usize {
    let mut rows = Vec::new();
    let mut broken = 0;
    for plan in asked.plans() {
        eprintln!("{} seed {}", plan.scenario.title(), plan.seed);
        let outcome = run(&plan).await;
        let row = report::row(&plan, &outcome);
        eprintln!("{row}");
        rows.push(row);
        if !outcome.is_good() {
            broken += 1;
            eprint!("{}", report::details(&outcome));
        }
    }
    if !rows.is_empty() {
        println!("{}\n{}", report::head(), rows.join("\n"));
    }
    for name in &asked.measurements {
        println!("{}", measure::measure(name, &asked.program()).await);
    }
    broken
}

fn main() -> ExitCode {
    let asked = match Asked::read(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if asked.list {
        list();
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    // Not on a worker: the processes die with the thread that started them.
    let broken = runtime.block_on(campaign(&asked));
    if broken == 0 {
        ExitCode::SUCCESS
    } else {
        println!("{broken} runs broke a promise");
        ExitCode::from(1)
    }
}
