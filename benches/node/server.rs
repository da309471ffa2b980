//! The processes that are measured, and what the kernel says about them.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;
use tempfile::TempDir;

const SECRET: &str = "a secret of benchmarks that is long enough";
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
    child: Child,
    pub address: SocketAddr,
    _folder: TempDir,
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
        let config = folder.path().join("tidewire.toml");
        let text = format!(
            "listen = \"{address}\"\ndata_dir = {:?}\n[auth]\nhmac_secret = {SECRET:?}\n[limits]\ncommands = \"1000000/s\"\nconnections_per_ip = 100000\nhandshakes = \"1000000/s\"\n[log]\nlevel = \"warn\"\n[namespaces.default]\nhistory_size = 100\nhistory_ttl = \"1h\"\nmax_rate = \"1000000/s\"\n[namespaces.state]\nhistory_size = 100\nstate = true\nmax_rate = \"1000000/s\"\n",
            folder.path().join("data"),
        );
        fs::write(&config, text).unwrap();
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
                command.args(["serve", "--config"]).arg(&config)
            }
            Program::Floor => command.args(["floor", &host, &port]),
            Program::Peer(_) => command.args([&host, &port]),
        };
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        let server = Self {
            child,
            address,
            _folder: folder,
        };
        let listens = async {
            while tokio::net::TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
        };
        tokio::time::timeout(START_MAX, listens)
            .await
            .expect("the program listens");
        server
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
        let text = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
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
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
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
