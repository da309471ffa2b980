//! The nodes of one hub as processes of the shipped program, and the signals they are sent.

use std::{
    fmt::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{EncodingKey, Header};
use rustix::process::Signal;
use serde_json::json;

use super::{ask::until, child::Child, ports};

/// Signs the tokens of clients; that of `tests/it`, whose client measures here.
pub const SECRET: &str = "a secret of tests that is long enough for HS256";
/// Of backends, with every scope.
pub const API_KEY: &str = "a-test-key-with-every-scope";
/// How long a token of [`token`] is valid.
const TOKEN_TTL: Duration = Duration::from_secs(3_600);

/// A token of a user who may do everything with client channels.
pub fn token(user: &str) -> String {
    let expires = SystemTime::now() + TOKEN_TTL;
    let expires = expires.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({"sub": user, "exp": expires, "can": {"*": ["sub", "pub", "history"]}});
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::default(), &claims, &key).unwrap()
}
/// How long a node may take until it says that it is ready, on a machine that has much to do.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// Puts clocks wrong (Debian: libfaketime).
const FAKETIME: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
];

/// What every node is configured with besides its places. The limits that are about abuse are
/// out of the way: everybody here comes from one address, and comes back at once.
const CONFIG: &str = r#"
[namespaces.log]
acknowledge = "CLASS"
max_rate = "100000/s"
history_size = 200000
history_ttl = "1h"
[namespaces.board]
acknowledge = "CLASS"
max_rate = "100000/s"
history_size = 200000
history_ttl = "1h"
state = true
[namespaces.flood]
history_size = 1000
history_ttl = "1h"
[limits]
connections = 10000
connections_per_ip = 100000
commands = "100000/s"
subscribes = "100000/s"
reads = "100000/s"
[drain]
rate = 1000
window = "20s"
"#;

/// The nodes of a hub.
pub struct Nodes {
    nodes: Vec<Node>,
    program: PathBuf,
    /// What puts clocks wrong, where a scenario does.
    faketime: Option<PathBuf>,
}

struct Node {
    port: u16,
    config: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

impl Nodes {
    /// Writes the configuration of a node for each Redis address, with the class in which
    /// publications are acknowledged; none is started.
    pub fn configure(program: &Path, root: &Path, urls: &[String], acknowledge: &str) -> Self {
        let nodes = urls.iter().enumerate().map(|(number, url)| {
            let dir = root.join(format!("node-{number}"));
            std::fs::create_dir(&dir).unwrap();
            let port = ports::free_port();
            let mut text = String::new();
            writeln!(text, "listen = \"127.0.0.1:{port}\"").unwrap();
            writeln!(text, "data_dir = {:?}", dir.join("data")).unwrap();
            writeln!(
                text,
                "cluster_secret = \"{}\"",
                "0123456789abcdef".repeat(2)
            )
            .unwrap();
            writeln!(text, "[redis]\nurl = {url:?}").unwrap();
            writeln!(text, "[auth]\nhmac_secret = {SECRET:?}").unwrap();
            let scopes = r#"["publish", "read", "manage"]"#;
            writeln!(text, "[[api_keys]]\nkey = {API_KEY:?}\nscopes = {scopes}").unwrap();
            text.push_str(&CONFIG.replace("CLASS", acknowledge));
            let config = dir.join("tidewire.toml");
            std::fs::write(&config, text).unwrap();
            Node {
                port,
                config,
                log: dir.join("log"),
                child: None,
            }
        });
        Self {
            nodes: nodes.collect(),
            program: program.to_owned(),
            faketime: None,
        }
    }

    /// Has [`Self::set_clock`] work; before the nodes are started.
    pub fn with_clocks(&mut self) {
        let library = FAKETIME
            .iter()
            .map(PathBuf::from)
            .find(|file| file.exists());
        self.faketime = Some(library.expect("libfaketime (apt-get install libfaketime)"));
        (0..self.count()).for_each(|node| self.set_clock(node, 0));
    }

    /// Puts a node's clock this many seconds before or behind that of the machine; it looks each
    /// second.
    pub fn set_clock(&self, node: usize, seconds: i64) {
        let (file, draft) = (self.clock(node), self.clock(node).with_extension("draft"));
        std::fs::write(&draft, format!("{seconds:+}\n")).unwrap();
        std::fs::rename(draft, file).unwrap();
    }

    fn clock(&self, node: usize) -> PathBuf {
        self.nodes[node].config.with_file_name("clock")
    }

    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// Starts every node and waits until all are ready.
    pub async fn start_all(&mut self) {
        (0..self.count()).for_each(|node| self.start(node));
        for node in 0..self.count() {
            self.ready(node).await;
        }
    }

    pub fn start(&mut self, node: usize) {
        let mut environment = Vec::new();
        if let Some(library) = &self.faketime {
            let text = |path: &Path| path.to_str().unwrap().to_owned();
            environment.push(("LD_PRELOAD", text(library)));
            environment.push(("FAKETIME_TIMESTAMP_FILE", text(&self.clock(node))));
            environment.push(("FAKETIME_CACHE_DURATION", "1".to_owned()));
            environment.push(("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()));
        }
        let program = self.program.clone();
        let node = &mut self.nodes[node];
        assert!(node.child.is_none(), "it runs already");
        let config = node.config.to_str().unwrap().to_owned();
        let arguments = ["serve".to_owned(), "--config".to_owned(), config];
        let child = Child::start(&program, &arguments, &environment, &node.log);
        node.child = Some(child);
    }

    /// Waits until the node says that it is ready.
    pub async fn ready(&self, node: usize) {
        let url = self.url(node, "/readyz");
        let what = format!("node {node} is ready, see {:?}", self.nodes[node].log);
        until(&what, START_PATIENCE, || async {
            let answer = reqwest::get(&url).await;
            answer.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
    }

    /// SIGKILL.
    pub fn kill(&mut self, node: usize) {
        self.child(node).kill();
    }

    pub fn freeze(&self, node: usize) {
        self.signal(node, Signal::STOP);
    }

    pub fn thaw(&self, node: usize) {
        self.signal(node, Signal::CONT);
    }

    /// SIGTERM, and waits for its end, which must be a good one.
    pub async fn drain(&mut self, node: usize) {
        self.signal(node, Signal::TERM);
        let status = self.child(node).ended().await;
        assert_eq!(status.code(), Some(0), "node {node} drains and ends well");
    }

    fn signal(&self, node: usize, signal: Signal) {
        let child = self.nodes[node].child.as_ref();
        child.expect("it runs").signal(signal);
    }

    fn child(&mut self, node: usize) -> Child {
        self.nodes[node].child.take().expect("it runs")
    }

    /// The numbers of those that were not ended.
    pub fn running(&self) -> Vec<usize> {
        let runs = |node: &usize| self.nodes[*node].child.is_some();
        (0..self.count()).filter(runs).collect()
    }

    /// Nodes that ended without being told to, with their last words.
    pub fn fallen(&mut self) -> Vec<String> {
        let mut fallen = Vec::new();
        for (number, node) in self.nodes.iter_mut().enumerate() {
            if let Some(child) = &mut node.child
                && !child.is_running()
            {
                fallen.push(format!("node {number} ended:\n{}", child.last_words()));
            }
        }
        fallen
    }

    pub fn address(&self, node: usize) -> SocketAddr {
        ports::local(self.nodes[node].port)
    }

    pub fn url(&self, node: usize, path: &str) -> String {
        format!("http://{}{path}", self.address(node))
    }

    /// Where clients connect: every node, this one first.
    pub fn sockets_from(&self, first: usize) -> Vec<String> {
        let order = (0..self.count()).map(|step| (first + step) % self.count());
        order
            .map(|node| format!("ws://{}/v1/connect", self.address(node)))
            .collect()
    }
}
