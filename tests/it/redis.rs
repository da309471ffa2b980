//! A real `redis-server` for tests: on a port of its own, in a folder of its own, gone with the
//! test.

use std::{
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Longest wait for a server to listen.
const START_MAX: Duration = Duration::from_secs(10);

pub struct RedisServer {
    child: Child,
    port: u16,
    _dir: TempDir,
}

impl RedisServer {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let server = Self {
            child,
            port,
            _dir: dir,
        };
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(begun.elapsed() < START_MAX, "redis-server does not listen");
            std::thread::yield_now();
        }
        server
    }

    /// Changes a setting.
    pub fn set(&self, setting: &str, value: &str) {
        let port = self.port.to_string();
        let mut command = Command::new("redis-cli");
        let done = command.args(["-p", &port, "config", "set", setting, value]);
        assert!(done.output().unwrap().status.success());
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The section that puts a node on it.
    pub fn section(&self) -> String {
        format!("[redis]\nurl = \"redis://127.0.0.1:{}\"\n", self.port)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().unwrap();
    }
}
