//! The processes that are measured, and what the kernel says about them.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;
use tempfile::TempDir;

const SECRET: &str = "a secret of benchmarks that is long enough";
/// What a backend's requests carry.
pub const API_KEY: &str = "a key of benchmarks that is long enough";
/// The configuration's name in the folder.
const CONFIG: &str = "tidewire.toml";
/// Longest wait until a program listens; a node under callgrind starts slowly.
const START_MAX: Duration = Duration::from_secs(300);

/// What is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// A release node with default settings, but for limits that are about abuse.
    Node,
    /// The same under callgrind, which writes to this file.
    CountedNode(PathBuf),
    /// The bare relay of `floor`.
    Floor,
    /// A program that takes a host and a port and speaks the dialogue of `floor`.
    Peer(PathBuf),
}

/// A running process; killed when dropped.
pub struct Server {
    program: Program,
    child: Child,
    pub address: SocketAddr,
    folder: TempDir,
}

/// CPU seconds used so far.
#[derive(Debug, Clone, Copy)]
pub struct Cpu {
    pub user: f64,
    pub system: f64,
}

impl Cpu {
    /// What was used since `before`, in µs for each of `count`.
    pub fn since(self, before: Self, count: u64) -> Self {
        let each = |now: f64, then: f64| (now - then) * 1e6 / count as f64;
        Self {
            user: each(self.user, before.user),
            system: each(self.system, before.system),
        }
    }

    pub fn all(self) -> f64 {
        self.user + self.system
    }
}

impl Server {
    /// Starts a node.
    pub async fn start() -> Self {
        Self::run(&Program::Node).await
    }

    /// Starts a program and waits until it listens.
    pub async fn run(program: &Program) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = free_address();
        let text = config(address, folder.path());
        fs::write(folder.path().join(CONFIG), text).unwrap();
        let server = Self {
            program: program.clone(),
            child: spawn(program, address, folder.path()),
            address,
            folder,
        };
        server.listens().await;
        server
    }

    /// SIGKILL, and gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// How it ended, if it did by itself or by somebody else's hand.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Starts it again, on the same address and folder.
    pub async fn start_again(&mut self) {
        self.child = spawn(&self.program, self.address, self.folder.path());
        self.listens().await;
    }

    async fn listens(&self) {
        let listens = async {
            while tokio::net::TcpStream::connect(self.address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
        };
        tokio::time::timeout(START_MAX, listens)
            .await
            .expect("the program listens");
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Resident bytes.
    pub fn resident(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.trim()
            .strip_suffix(" kB")
            .unwrap()
            .trim()
            .parse::<u64>()
            .unwrap()
            * 1024
    }

    /// CPU used by all of its threads, those that ended included.
    pub fn cpu(&self) -> Cpu {
        cpu(self.child.id())
    }
}

/// CPU used by this process, the clients.
pub fn own_cpu() -> Cpu {
    cpu(std::process::id())
}

fn cpu(process: u32) -> Cpu {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = text
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let seconds = |at: usize| fields[at].parse::<f64>().unwrap() / 100.0;
    Cpu {
        user: seconds(11),
        system: seconds(12),
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(program: &Program, address: SocketAddr, folder: &Path) -> Child {
    let node = env!("CARGO_BIN_EXE_tidewire");
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let mut command = match program {
        Program::Node => Command::new(node),
        Program::CountedNode(file) => {
            let mut command = Command::new("valgrind");
            command
                .args(["--tool=callgrind", "--quiet", "--instr-atstart=no"])
                .arg(format!("--callgrind-out-file={}", file.display()))
                .arg(node);
            command
        }
        Program::Floor => Command::new(std::env::current_exe().unwrap()),
        Program::Peer(path) => Command::new(path),
    };
    match program {
        Program::Node | Program::CountedNode(_) => {
            command.args(["serve", "--config"]).arg(folder.join(CONFIG))
        }
        Program::Floor => command.args(["floor", &host, &port]),
        Program::Peer(_) => command.args([&host, &port]),
    };
    command.stdout(Stdio::null()).spawn().unwrap()
}

/// Default settings, but for limits that are about abuse.
fn config(address: SocketAddr, folder: &Path) -> String {
    format!(
        r#"listen = "{address}"
data_dir = {:?}
[auth]
hmac_secret = {SECRET:?}
[[api_keys]]
key = {API_KEY:?}
scopes = ["publish", "read"]
[limits]
commands = "1000000/s"
connections_per_ip = 100000
handshakes = "1000000/s"
[log]
level = "warn"
[namespaces.default]
history_size = 100
history_ttl = "1h"
max_rate = "1000000/s"
[namespaces.state]
history_size = 100
state = true
max_rate = "1000000/s"
"#,
        folder.join("data"),
    )
}

fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

/// A token for everything.
pub fn token() -> String {
    let exp = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
        + 3600;
    let claims = json!({"sub": "bench", "exp": exp, "can": {"*": ["sub", "pub"]}});
    jsonwebtoken::encode(
        &Header::default(),
        &claims,
        &EncodingKey::from_secret(SECRET.as_bytes()),
    )
    .unwrap()
}

/// The median; sorts.
pub fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
