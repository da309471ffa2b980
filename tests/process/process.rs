//! The program as a child process: its folder, port, log lines, signals and end.

use std::{
    io::{BufRead, BufReader, Read},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
        mpsc::{Receiver, channel},
    },
    thread,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{API_KEY, CONFIG, Client, PATIENCE, Resume, SECRET, with};

/// A free port that no outgoing connection is given, so that a node can come back to it.
pub fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 10_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = u16::try_from(std::process::id() % u32::from(COUNT)).unwrap();
    (0..COUNT)
        .map(|_| {
            let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
            FIRST + (own + step) % COUNT
        })
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .unwrap()
}

/// The program with these arguments and an environment of its own.
pub fn tidewire(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewire"));
    command.args(arguments).env_clear();
    command
}

/// Runs the program to its end.
pub fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A started program. It is killed when this is dropped.
pub struct Process {
    child: Child,
    lines: Receiver<String>,
    seen: Arc<Mutex<String>>,
}

impl Process {
    /// Starts it; `output`: follow standard output and not the log on standard error.
    pub fn start(command: &mut Command, output: bool) -> Self {
        command.stdin(Stdio::null());
        if output {
            command.stdout(Stdio::piped()).stderr(Stdio::null());
        } else {
            command.stdout(Stdio::null()).stderr(Stdio::piped());
        }
        let mut child = command.spawn().unwrap();
        let pipe: Box<dyn Read + Send> = if output {
            Box::new(child.stdout.take().unwrap())
        } else {
            Box::new(child.stderr.take().unwrap())
        };
        let (told, lines) = channel();
        let seen = Arc::new(Mutex::new(String::new()));
        let log = Arc::clone(&seen);
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                log.lock().unwrap().push_str(&format!("{line}\n"));
                if told.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, seen }
    }

    /// The next line with this text in it.
    pub fn line(&self, part: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("no {part:?} in {}", self.log()));
            if line.contains(part) {
                return line;
            }
        }
    }

    /// Everything it said.
    pub fn log(&self) -> String {
        self.seen.lock().unwrap().clone()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    pub async fn ended(mut self) -> ExitStatus {
        let ended = tokio::task::spawn_blocking(move || self.child.wait().unwrap());
        tokio::time::timeout(PATIENCE, ended)
            .await
            .expect("the process ends")
            .unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }
}

/// A folder and a port for a node that comes and goes.
pub struct Place {
    pub dir: TempDir,
    pub port: u16,
}

impl Place {
    pub fn new() -> Self {
        Self::with("", "")
    }

    /// With more keys at the top and more sections.
    pub fn with(top: &str, sections: &str) -> Self {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let data = dir.path().join("data");
        let text = format!(
            "listen = \"127.0.0.1:{port}\"\ndata_dir = {data:?}\n{top}\n\
             [auth]\nhmac_secret = {SECRET:?}\n\
             [[api_keys]]\nkey = {API_KEY:?}\nscopes = [\"publish\", \"read\", \"manage\"]\n\
             {CONFIG}\n{sections}\n"
        );
        std::fs::write(dir.path().join("tidewire.toml"), text).unwrap();
        Self { dir, port }
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("tidewire.toml")
    }

    /// The folder of the log.
    pub fn log_folder(&self) -> PathBuf {
        self.dir.path().join("data/log")
    }

    pub fn serve(&self) -> Command {
        let mut command = tidewire(&["serve", "--config"]);
        command.arg(self.config());
        command
    }

    /// Starts a node and waits until it listens.
    pub fn start(&self) -> Process {
        let node = Process::start(&mut self.serve(), false);
        node.line("listening");
        node
    }

    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    pub async fn client(&self, user: &str) -> Client {
        let mut client = Client::connect(self.address()).await;
        client.hello(user, json!({})).await;
        client
    }

    /// A connection that goes on with a session.
    pub async fn resume(&self, user: &str, session: &Resume, more: Value) -> Client {
        let mut client = Client::connect(self.address()).await;
        let hello = with(session.hello(Resume::next_attempt()), &more);
        let welcome = client.hello(user, hello).await;
        assert_eq!(welcome["resumed"], true, "{welcome}");
        assert_eq!(welcome["session"]["id"], session.id);
        client
    }

    /// Waits until the node has written this many checkpoints since it started.
    pub async fn checkpoints_written(&self, count: u32) {
        let read = async {
            loop {
                let answer = reqwest::get(self.url("/metrics")).await.unwrap();
                let text = answer.text().await.unwrap();
                let written = text
                    .lines()
                    .find_map(|line| line.strip_prefix("tidewire_store_writes_total "));
                if written.is_some_and(|written| written.parse::<u32>().unwrap() >= count) {
                    return;
                }
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, read).await;
        in_time.expect("the checkpoints are written");
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }
}

/// Every file below a folder and what it holds.
pub fn snapshot(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(snapshot(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            files.push((path, bytes));
        }
    }
    files.sort();
    files
}
