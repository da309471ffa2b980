//! A program that runs beside the run: its log, its signals, its end, and what it costs.
//!
//! Killed when dropped, and by the kernel where the tool itself was killed. It must be started from
//! a thread that outlives it, so never from a task.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::usage::{self, Usage};

const POLL: Duration = Duration::from_millis(20);
/// Lines of its log that are shown when it ended by itself.
const LAST_WORDS: usize = 12;

/// A running program.
#[derive(Debug)]
pub struct Child {
    child: std::process::Child,
    log: PathBuf,
}

impl Child {
    /// Starts `program` without our environment; what it says is appended to `log`.
    pub fn start(program: &Path, arguments: &[String], log: &Path) -> Result<Self> {
        let output = File::options().create(true).append(true).open(log)?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {} with setpriv", program.display()))?;
        Ok(Self {
            child,
            log: log.to_owned(),
        })
    }

    /// Its memory and CPU; none once it is gone.
    pub fn usage(&self) -> Option<Usage> {
        usage::of(self.child.id())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(mut self) {
        self.end();
    }

    /// Waits until it ended by itself.
    pub async fn ended(mut self, patience: Duration) -> Result<ExitStatus> {
        let wait = async {
            loop {
                if let Some(status) = self.child.try_wait()? {
                    return Ok(status);
                }
                tokio::time::sleep(POLL).await;
            }
        };
        match tokio::time::timeout(patience, wait).await {
            Ok(status) => status,
            Err(_elapsed) => bail!("it did not end within {patience:?}"),
        }
    }

    /// Whether it is there.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LAST_WORDS)..].join("\n")
    }

    fn end(&mut self) {
        if self.is_running() {
            // It may end between the two: then there is nobody to kill and to wait for.
            let _gone = self.child.kill();
            let _status = self.child.wait();
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end();
    }
}
