//! A redis-server of the run's own, in a temporary folder.
//!
//! Started by the hub where several nodes need one. It never touches a Redis that was there.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{child::Child, free_port, usage::Usage};

const START_PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(25);
/// An answer to INFO is a few KiB.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// A running server.
#[derive(Debug)]
pub struct Redis {
    port: u16,
    child: Child,
}

impl Redis {
    /// Starts one that keeps nothing on disk.
    pub async fn start(root: &Path) -> Result<Self> {
        let port = free_port()?;
        let dir = root.join("redis");
        std::fs::create_dir(&dir)?;
        let words = format!(
            "--port {port} --bind 127.0.0.1 --save  --appendonly no --maxmemory-policy noeviction --maxclients 10000 --dir"
        );
        let mut arguments: Vec<String> = words.split(' ').map(str::to_owned).collect();
        arguments.push(dir.display().to_string());
        let child = Child::start(Path::new("redis-server"), &arguments, &dir.join("log"))?;
        let mut redis = Self { port, child };
        let begun = Instant::now();
        while redis.commands().await.is_err() {
            if begun.elapsed() > START_PATIENCE || !redis.child.is_running() {
                bail!(
                    "redis-server does not answer; is it installed (apt-get install redis-server)?\n{}",
                    redis.child.last_words()
                );
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(redis)
    }

    /// How nodes reach it.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Memory and CPU.
    pub fn usage(&self) -> Usage {
        self.child.usage().unwrap_or_default()
    }

    /// Commands it has processed; those inside of scripts are not among them.
    pub async fn commands(&self) -> Result<u64> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.write_all(b"INFO stats\r\nQUIT\r\n").await?;
        let mut text = String::new();
        let mut answer = stream.take(ANSWER_BYTES_MAX);
        answer.read_to_string(&mut text).await?;
        text.lines()
            .find_map(|line| line.strip_prefix("total_commands_processed:"))
            .and_then(|count| count.trim().parse().ok())
            .context("INFO says no number of commands")
    }
}
