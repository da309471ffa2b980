//! `tidewire doctor`: looks at what a node would stand on, before one does.
//!
//! Owns what is looked at and what is said to do. Connects to Redis as a node does and changes
//! nothing that a node would not.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ::redis::Value;
use tokio::time::{Instant, timeout};

use super::output;
use crate::{
    config::{self, Config, Sources},
    redis::{Address, Call, Redis, Script},
    tasks::Tasks,
    telemetry::{metrics::Metrics, process::max_files},
};

/// Files a node opens besides its clients' sockets: the log, Redis, the listener's backlog.
const OTHER_FILES: u64 = 1_024;
/// Clocks further apart than this make times that clients are shown, and the ends of tokens, wrong
/// in a way that is seen.
const SKEW_MAX: Duration = Duration::from_secs(2);
/// How long Redis is waited for: whoever asks sits in front of it.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the look at the settings of Redis may take once it is connected.
const LOOK_MAX: Duration = Duration::from_secs(2);

/// The clock of Redis.
static TIME: Script = Script::new(
    "time",
    "if redis.call('HGET', KEYS[1], 'g') ~= ARGV[1] then return {'STALE'} end
     local now = redis.call('TIME')
     return now[1] * 1000 + math.floor(now[2] / 1000)",
);

/// Check the configured Redis and this machine, and say what to change.
///
/// Looks at the settings of Redis, the limit of open files, the clock and the data folder. Exits
/// with 1 when something is unsafe.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tidewire doctor --config tidewire.toml
  TIDEWIRE__REDIS__URL=redis://10.0.0.7 tidewire doctor")]
pub(super) struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    /// Worth a second look.
    Note,
    /// Data or service is at risk.
    Unsafe,
}

/// One thing that was looked at.
#[derive(Debug)]
struct Check {
    verdict: Verdict,
    of: &'static str,
    /// What was found, and what to do about it.
    text: String,
}

impl Check {
    fn new(verdict: Verdict, of: &'static str, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { verdict, of, text }
    }

    /// Unsafe unless `holds`.
    fn of(of: &'static str, holds: bool, text: impl Into<String>) -> Self {
        let verdict = if holds { Verdict::Ok } else { Verdict::Unsafe };
        Self::new(verdict, of, text)
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Note => "note",
            Verdict::Unsafe => "UNSAFE",
        };
        write!(f, "{verdict:<7} {:<13} {}", self.of, self.text)
    }
}

pub(super) fn run(arguments: Arguments) -> anyhow::Result<()> {
    let config = config::load(Sources::of_process(arguments.config))?.config;
    let mut checks: Vec<_> = config
        .warnings()
        .into_iter()
        .map(|warning| Check::new(Verdict::Note, "configuration", warning))
        .collect();
    checks.push(drain(&config));
    checks.push(files(&config, max_files()));
    checks.push(folder(&config.node.data_dir));
    checks.extend(super::block_on(async { Ok(redis(&config).await) })?);
    for check in &checks {
        output::line(&check.to_string())?;
    }
    let dangers = checks
        .iter()
        .filter(|check| check.verdict == Verdict::Unsafe);
    match dangers.count() {
        0 => Ok(()),
        1 => anyhow::bail!("one check found something unsafe"),
        count => anyhow::bail!("{count} checks found something unsafe"),
    }
}

fn drain(config: &Config) -> Check {
    Check::new(Verdict::Ok, "drain", super::show::drain(config))
}

fn files(config: &Config, most: Option<f64>) -> Check {
    let needed = u64::from(config.limits.connections.get()) + OTHER_FILES;
    match most {
        None => Check::new(Verdict::Note, "open files", "the limit cannot be read"),
        Some(most) if most >= needed as f64 => {
            let text = format!("{most} allowed, {needed} needed");
            Check::new(Verdict::Ok, "open files", text)
        }
        Some(most) => {
            let text = format!(
                "{most} allowed, {needed} needed for limits.connections: raise it (LimitNOFILE={needed} in a unit, ulimit -n {needed} in a shell) or lower limits.connections"
            );
            Check::new(Verdict::Unsafe, "open files", text)
        }
    }
}

/// Whether the folder, or the nearest one above it that there is, can be written to.
fn folder(data_dir: &Path) -> Check {
    let there = data_dir.ancestors().find(|folder| folder.is_dir());
    let folder = there.unwrap_or(Path::new("."));
    let probe = folder.join(format!(".tidewire-doctor-{}", std::process::id()));
    let written = std::fs::write(&probe, b"x").and_then(|()| std::fs::remove_file(&probe));
    let shown = data_dir.display();
    match written {
        Ok(()) if folder == data_dir => Check::new(
            Verdict::Ok,
            "data folder",
            format!("{shown} can be written"),
        ),
        Ok(()) => Check::new(Verdict::Ok, "data folder", format!("{shown} will be made")),
        Err(error) => {
            let text = format!("{shown} cannot be written ({error}): give it to the node's user");
            Check::new(Verdict::Unsafe, "data folder", text)
        }
    }
}

async fn redis(config: &Config) -> Vec<Check> {
    let Some(address) = &config.redis.url else {
        let text = "not configured: this node runs alone, on its data folder";
        return vec![Check::new(Verdict::Ok, "redis", text)];
    };
    let tasks = Tasks::new();
    let checks = connected(config, address, &tasks).await;
    tasks.stop();
    checks
}

async fn connected(config: &Config, address: &Address, tasks: &Tasks) -> Vec<Check> {
    let metrics = match Metrics::new(&config.namespaces) {
        Ok(metrics) => Arc::new(metrics),
        Err(error) => return vec![Check::new(Verdict::Unsafe, "redis", error.to_string())],
    };
    let patient = config::Redis {
        start_patience: PATIENCE.min(config.redis.start_patience),
        ..config.redis.clone()
    };
    let opened = Redis::open(&patient, address, vec![&TIME], tasks, &metrics).await;
    let redis = match opened {
        Ok((redis, _lanes)) => redis,
        Err(error) => {
            let text = format!("{:#}", anyhow::Error::new(error));
            return vec![Check::new(Verdict::Unsafe, "redis", text)];
        }
    };
    let mut checks = vec![Check::new(
        Verdict::Ok,
        "redis",
        format!("{address} answers"),
    )];
    checks.push(clock(&redis).await);
    let mut safety = redis.safety();
    // Looked at right after the handshake: it may not have come back yet.
    let looked = timeout(LOOK_MAX, safety.wait_for(|found| !found.is_empty())).await;
    let findings = looked
        .ok()
        .and_then(|found| found.map(|found| Arc::clone(&found)).ok());
    match findings {
        None => checks.push(Check::new(
            Verdict::Ok,
            "redis",
            "its settings keep what is promised",
        )),
        Some(findings) => checks.extend(findings.iter().map(|finding| {
            let verdict = if finding.risk.is_unsafe() {
                Verdict::Unsafe
            } else {
                Verdict::Note
            };
            Check::new(verdict, "redis", finding.to_string())
        })),
    }
    checks
}

/// Compares this machine's clock with that of Redis, which stamps publications.
async fn clock(redis: &Redis) -> Check {
    let Some(partition) = redis.partitions().next() else {
        return Check::new(Verdict::Note, "clock", "there is no partition to ask");
    };
    let asked = Instant::now();
    let answer = redis
        .call(Call {
            partition,
            script: &TIME,
            keys: Vec::new(),
            args: Vec::new(),
            is_write: false,
        })
        .await;
    let Ok(Value::Int(theirs)) = answer else {
        return Check::new(Verdict::Note, "clock", "the time of Redis cannot be read");
    };
    let half = i64::try_from(asked.elapsed().as_millis() / 2).unwrap_or(i64::MAX);
    let ours = i64::try_from(super::now_ms()).unwrap_or(i64::MAX) - half;
    let apart = ours.abs_diff(theirs);
    let text = format!("{apart} ms apart from that of Redis");
    let holds = Duration::from_millis(apart) <= SKEW_MAX;
    let advice = if holds {
        ""
    } else {
        ": let both machines keep their time (chrony, ntpd)"
    };
    Check::of("clock", holds, format!("{text}{advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_files_are_unsafe_and_say_how_many_are_needed() {
        let config = Config::default();
        let check = files(&config, Some(1_024.0));
        assert_eq!(check.verdict, Verdict::Unsafe);
        assert!(check.text.contains("LimitNOFILE=101024"), "{check}");
        assert_eq!(files(&config, Some(200_000.0)).verdict, Verdict::Ok);
        assert_eq!(files(&config, None).verdict, Verdict::Note);
    }

    #[test]
    fn a_folder_that_cannot_be_had_is_unsafe_and_nothing_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("a/b");
        assert_eq!(folder(&inside).verdict, Verdict::Ok);
        assert!(!inside.exists());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!(folder(Path::new("/proc/none")).verdict, Verdict::Unsafe);
    }

    #[test]
    fn a_check_reads_as_a_line() {
        let check = Check::new(Verdict::Unsafe, "clock", "9 s apart");
        assert_eq!(check.to_string(), "UNSAFE  clock         9 s apart");
    }
}
