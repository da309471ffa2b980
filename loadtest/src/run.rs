//! One run from its beginning to its report.
//!
//! Called by `main` with the scenario that was asked for. It knows no scenario.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};

use crate::{
    hub::{Hub, Settings},
    limits::{self, Needs},
    report::Report,
    sampler::Record,
    stage::Stage,
};

/// What all scenarios are told.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// Load a hub that runs already, instead of starting one: ws://host:port; again for each node.
    /// Its limits count then; those of `tidewire help serve` that are about abuse must be raised.
    #[arg(long, global = true, value_name = "URL", help_heading = "Hub")]
    url: Vec<String>,
    /// What its clients show: a token with sub, pub and presence on `*`.
    #[arg(
        long,
        global = true,
        value_name = "TOKEN",
        env = "TIDEWIRE_LOAD_TOKEN",
        hide_env_values = true,
        help_heading = "Hub"
    )]
    token: Option<String>,
    /// How many nodes to start; several share a redis-server of the run's own.
    #[arg(long, global = true, value_name = "N", help_heading = "Hub")]
    nodes: Option<usize>,
    /// A redis-server of the run's own under one node too, instead of embedded storage.
    #[arg(long, global = true, help_heading = "Hub")]
    redis: bool,
    /// The program of the nodes; else the one beside this program, else that in PATH.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "TIDEWIRE_BIN",
        help_heading = "Hub"
    )]
    tidewire: Option<PathBuf>,
    /// Where the report goes, as .json and .html.
    #[arg(
        long,
        global = true,
        value_name = "FOLDER",
        default_value = "target/load",
        help_heading = "Report"
    )]
    out: PathBuf,
    /// No line a second.
    #[arg(long, global = true, help_heading = "Report")]
    quiet: bool,
    /// How long the last deliveries may take after the last message was sent.
    #[arg(
        long,
        global = true,
        value_name = "SECONDS",
        default_value_t = 60,
        help_heading = "Report"
    )]
    patience: u64,
}

/// What is played.
pub trait Scenario: Sync {
    /// How it is called.
    const NAME: &'static str;

    /// What the machine must allow.
    fn needs(&self) -> Needs;

    /// The hub it wants.
    fn settings(&self) -> Settings;

    /// How many streams it publishes.
    fn streams(&self) -> usize;

    /// It needs nodes that are ours: it kills or restarts them.
    fn kills(&self) -> bool {
        false
    }

    /// Connects, publishes, breaks things; returns when the last message was sent.
    fn play(&self, stage: &Arc<Stage>) -> impl Future<Output = Result<()>> + Send;
}

/// Plays a scenario; whether nothing failed it.
pub async fn run<S: Scenario>(common: &Common, scenario: &S) -> Result<bool> {
    let mut settings = scenario.settings();
    settings.nodes = common.nodes.unwrap_or(settings.nodes).max(1);
    settings.redis |= common.redis;
    if scenario.kills() && (settings.nodes < 2 || !common.url.is_empty()) {
        bail!(
            "{} kills or restarts nodes: let it start them, and at least two",
            S::NAME
        );
    }
    let needs = Needs {
        nodes: settings.nodes,
        ..scenario.needs()
    };
    limits::check(needs)?;
    let hub = if common.url.is_empty() {
        Hub::start(program(common)?, &settings).await?
    } else {
        Hub::given(common.url.clone(), common.token.clone())
    };
    let stage = Stage::new(hub, scenario.streams(), name_of_run());
    let mut record = Record::new(common.quiet);
    let playing = async {
        let played = tokio::select! {
            played = scenario.play(&stage) => played,
            _interrupted = tokio::signal::ctrl_c() => bail!("interrupted"),
        };
        stage.settle(Duration::from_secs(common.patience)).await;
        played
    };
    let played = tokio::select! {
        played = playing => played,
        () = record.run(&stage) => Ok(()),
    };
    if let Err(error) = played {
        stage.fail(format!("the run stopped: {error:#}"));
    }
    record.sample(&stage).await;
    stage.end();
    let report = Report::of(&stage, record, S::NAME, command());
    stage.clear();
    let paths = report.write(&common.out)?;
    eprint!("{}", report.summary());
    for path in paths {
        eprintln!("  {}", path.display());
    }
    Ok(report.passed)
}

/// Differs from run to run, so that channels of a hub that lives on are fresh.
fn name_of_run() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    format!("{:x}", now.unwrap_or_default().as_millis())
}

fn command() -> String {
    let words = std::env::args().skip(1);
    let mut hide = false;
    let words = words.map(|word| {
        let shown = if hide { "…".to_owned() } else { word };
        hide = shown == "--token";
        if shown.starts_with("--token=") {
            "--token=…".to_owned()
        } else {
            shown
        }
    });
    let words: Vec<String> = words.collect();
    format!("tidewire-load {}", words.join(" "))
}

fn program(common: &Common) -> Result<PathBuf> {
    if let Some(program) = &common.tidewire {
        return Ok(program.clone());
    }
    let own = std::env::current_exe()?;
    let beside = own.with_file_name("tidewire");
    if beside.is_file() {
        return Ok(beside);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("tidewire"));
    found.into_iter().find(|file| file.is_file()).with_context(|| {
        format!(
            "no tidewire program beside {} or in PATH.\nBuild it:   cargo build --release --bin tidewire\nor name it:   --tidewire FILE",
            own.display()
        )
    })
}
