//! One redis-server as a process: a port and a folder it comes back to after a kill.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::Signal;

use crate::harness::{
    ask::{ask, until},
    child::Child,
    ports::free_port,
};

/// How long a server may take to answer after its start.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// A redis-server, or a Sentinel, which is the same program.
pub struct Server {
    pub port: u16,
    pub dir: PathBuf,
    name: String,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Server {
    /// Starts a server in a folder of its own below `root`.
    pub async fn start(root: &Path, name: &str, options: &[&str]) -> Self {
        let port = free_port();
        let dir = root.join(name);
        std::fs::create_dir(&dir).unwrap();
        let mut arguments = vec!["--port".to_owned(), port.to_string()];
        let place = dir.to_str().unwrap();
        let fixed = [
            &["--bind", "127.0.0.1", "--dir", place, "--save", ""][..],
            &["--enable-debug-command", "yes"],
            &["--maxmemory-policy", "noeviction"],
            // The default waits 5 s for more replicas before it begins to copy.
            &["--repl-diskless-sync-delay", "0"],
            // What came while a link was cut is sent again and no copy of everything is needed.
            &["--repl-backlog-size", "64mb"],
        ];
        for word in fixed.concat().iter().chain(options) {
            arguments.push((*word).to_owned());
        }
        Self::with(port, dir, name, arguments).await
    }

    /// Starts a Sentinel that watches the server at `primary` as `name`.
    pub async fn sentinel(root: &Path, name: &str, watched: &str, primary: u16) -> Self {
        let port = free_port();
        let dir = root.join(name);
        std::fs::create_dir(&dir).unwrap();
        let file = dir.join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\n\
             sentinel monitor {watched} 127.0.0.1 {primary} 2\n\
             sentinel down-after-milliseconds {watched} 1500\n\
             sentinel failover-timeout {watched} 6000\n",
            dir.display()
        );
        std::fs::write(&file, text).unwrap();
        let arguments = vec![file.to_str().unwrap().to_owned(), "--sentinel".to_owned()];
        Self::with(port, dir, name, arguments).await
    }

    async fn with(port: u16, dir: PathBuf, name: &str, arguments: Vec<String>) -> Self {
        let mut server = Self {
            port,
            dir,
            name: name.to_owned(),
            arguments,
            child: None,
        };
        server.restart().await;
        server
    }

    /// Starts it again after a kill, and waits until it answers with its data loaded.
    pub async fn restart(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = self.dir.join("log");
        self.child = Some(Child::start(
            Path::new("redis-server"),
            &self.arguments,
            &[],
            &log,
        ));
        let port = self.port;
        let what = format!("{} answers at {port}, see {log:?}", self.name);
        until(&what, START_PATIENCE, || async move {
            ask::<String>(port, &["PING"]).await.is_ok()
        })
        .await;
    }

    pub fn kill(&mut self) {
        self.child.take().expect("it runs").kill();
    }

    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// SIGSTOP: the kernel still accepts connections and bytes for it.
    pub fn freeze(&self) {
        self.child.as_ref().expect("it runs").signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.child.as_ref().expect("it runs").signal(Signal::CONT);
    }

    /// A command it must answer.
    pub async fn must(&self, words: &[&str]) -> redis::Value {
        let answer = ask(self.port, words).await;
        answer.unwrap_or_else(|error| panic!("{} on {words:?}: {error}", self.name))
    }
}
