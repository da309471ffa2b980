//! A node as a process, and what the kernel says about it.

use std::{
    fs,
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;
use tempfile::TempDir;

const SECRET: &str = "a secret of benchmarks that is long enough";

/// A running node; killed when dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    _folder: TempDir,
}

impl Server {
    /// Starts a node with defaults, but for limits that are about abuse.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = free_address();
        let config = folder.path().join("tidewire.toml");
        let text = format!(
            "listen = \"{address}\"\ndata_dir = {:?}\n[auth]\nhmac_secret = {SECRET:?}\n[limits]\ncommands = \"1000000/s\"\nconnections_per_ip = 100000\nhandshakes = \"1000000/s\"\n[log]\nlevel = \"warn\"\n[namespaces.default]\nhistory_size = 100\nhistory_ttl = \"1h\"\nmax_rate = \"1000000/s\"\n[namespaces.state]\nhistory_size = 100\nstate = true\nmax_rate = \"1000000/s\"\n",
            folder.path().join("data"),
        );
        fs::write(&config, text).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_tidewire"))
            .args(["serve", "--config"])
            .arg(&config)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self {
            child,
            address,
            _folder: folder,
        };
        for _ in 0..200 {
            if tokio::net::TcpStream::connect(address).await.is_ok() {
                return server;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the node does not listen");
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

    /// CPU seconds used, user and system.
    pub fn cpu_seconds(&self) -> f64 {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = text
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        ticks / 100.0
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
