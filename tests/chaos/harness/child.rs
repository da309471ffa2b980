//! A program that runs beside the test: its log, its signals, its end.
//!
//! Each is a process group of its own that dies with its owner: killed when dropped, also by a
//! panic, and by the kernel where the test itself was killed. So the thread that starts one must
//! outlive it: start them from the thread of the test, never from a task.

use std::{
    fs::File,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};

/// How long a program may take to end once it was told to.
const END_PATIENCE: Duration = Duration::from_secs(200);
const POLL: Duration = Duration::from_millis(10);

/// A running program.
pub struct Child {
    child: std::process::Child,
    log: PathBuf,
}

impl Child {
    /// Starts `program` with nothing else in its environment; what it says is appended to `log`.
    pub fn start(
        program: &Path,
        arguments: &[String],
        environment: &[(&str, String)],
        log: &Path,
    ) -> Self {
        let output = File::options().create(true).append(true).open(log).unwrap();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .process_group(0)
            .spawn()
            .expect("setpriv is part of util-linux");
        Self {
            child,
            log: log.to_owned(),
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process_group(Pid::from_child(&self.child), signal).unwrap();
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(mut self) {
        self.end();
    }

    /// Waits until it ended by itself.
    pub async fn ended(mut self) -> ExitStatus {
        let wait = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(POLL).await;
            }
        };
        let ended = tokio::time::timeout(END_PATIENCE, wait).await;
        ended.unwrap_or_else(|_| panic!("{} goes on; see {:?}", self.child.id(), self.log))
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The last lines of its log, for a panic that explains itself.
    pub fn last_words(&self) -> String {
        const LINES: usize = 20;
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    fn end(&mut self) {
        if self.is_running() {
            self.signal(Signal::KILL);
            self.child.wait().unwrap();
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end();
    }
}
