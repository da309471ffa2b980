//! The processes of the stage: Redis with a replica, nodes, HAProxy and Prometheus, each with its
//! file of `deploy/`, in which only addresses, and waits in seconds, are others.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{self, client::IntoClientRequest},
};

use crate::{
    process::{Process, free_port, tidewire},
    support::{API_KEY, JSON, SECRET},
};

/// Prometheus sees what happened a scrape and an evaluation later, on a machine full of tests.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
const NODES: usize = 3;

pub struct Stage {
    dir: TempDir,
    ports: Ports,
    nodes: Vec<Option<Process>>,
    prometheus: u16,
    primary: Process,
    others: Vec<Process>,
}

struct Ports {
    redis: u16,
    replica: u16,
    nodes: Vec<(u16, u16)>,
    clients: u16,
    backends: u16,
    numbers: u16,
}

fn deploy(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy")
        .join(file)
}

/// A file of `deploy/` in which each of these is there and becomes the other.
fn edited(file: &str, edits: &[(&str, String)]) -> String {
    let mut text = fs::read_to_string(deploy(file)).unwrap();
    for (from, to) in edits {
        assert!(text.contains(from), "{file} lacks {from:?}");
        text = text.replace(from, to);
    }
    text
}

fn joined(ports: &[(u16, u16)], each: impl Fn(&(u16, u16)) -> String) -> String {
    ports.iter().map(each).collect()
}

impl Stage {
    /// Everything is started; the nodes are ready.
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ports = Ports {
            redis: free_port(),
            replica: free_port(),
            nodes: (0..NODES).map(|_| (free_port(), free_port())).collect(),
            clients: free_port(),
            backends: free_port(),
            numbers: free_port(),
        };
        let primary = redis(dir.path(), ports.redis, None);
        let replica = redis(dir.path(), ports.replica, Some(ports.redis));
        replica.line("MASTER <-> REPLICA sync: Finished with success");
        let mut stage = Self {
            nodes: (0..NODES).map(|_| None).collect(),
            prometheus: free_port(),
            primary,
            others: vec![replica],
            dir,
            ports,
        };
        (0..NODES).for_each(|node| stage.start_node(node));
        let others = [stage.haproxy(), stage.start_prometheus()];
        stage.others.extend(others);
        stage
            .until("count(haproxy_server_status{state=\"UP\"} == 1)", |up| {
                up == 2.0 * NODES as f64
            })
            .await;
        stage
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn haproxy(&self) -> Process {
        let server = |name: &str, port: u16| format!("    server {name}-{port} 127.0.0.1:{port}");
        let ports = &self.ports;
        let clients = joined(&ports.nodes, |(port, internal)| {
            format!("{} check port {internal}\n", server("node", *port))
        });
        let backends = joined(&ports.nodes, |(_, port)| server("node", *port) + "\n");
        let bound = |port: u16| format!("bind 127.0.0.1:{port}");
        let edits = [
            ("bind :8080", bound(ports.clients)),
            ("bind :9090", bound(ports.backends)),
            ("bind :8404", bound(ports.numbers)),
            ("    server-template node 10 node:8080\n", clients),
            ("    server-template node 10 node:9090\n", backends),
            ("    maxconn 100000", "    maxconn 1000".to_owned()),
        ];
        let config = self.write("haproxy.cfg", &edited("haproxy/haproxy.cfg", &edits));
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(config);
        Process::start(&mut command, false)
    }

    fn start_prometheus(&self) -> Process {
        let soon = ["for: 1m", "for: 30s"].map(|wait| (wait, "for: 2s".to_owned()));
        let alerts = edited("prometheus/alerts.yml", &soon);
        let nodes = joined(&self.ports.nodes, |(_, port)| {
            format!("\"127.0.0.1:{port}\", ")
        });
        let discovery = "dns_sd_configs:\n      - names: [node]\n        type: A\n        \
                         port: 9090\n        refresh_interval: 5s\n";
        let path = |path: &Path| path.display().to_string();
        let edits = [
            (
                discovery,
                format!("static_configs:\n      - targets: [{nodes}]\n"),
            ),
            ("haproxy:8404", format!("127.0.0.1:{}", self.ports.numbers)),
            ("scrape_interval: 5s", "scrape_interval: 500ms".to_owned()),
            (
                "evaluation_interval: 15s",
                "evaluation_interval: 1s".to_owned(),
            ),
            (
                "/etc/prometheus/alerts.yml",
                path(&self.write("alerts.yml", &alerts)),
            ),
            (
                "/etc/prometheus/objectives.yml",
                path(&deploy("prometheus/objectives.yml")),
            ),
        ];
        let text = edited("prometheus/prometheus.yml", &edits);
        let config = self.write("prometheus.yml", &text);
        let data = self.dir.path().join("prometheus");
        let mut command = Command::new("prometheus");
        command.args([
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", data.display()),
            format!("--web.listen-address=127.0.0.1:{}", self.prometheus),
        ]);
        let process = Process::start(&mut command, false);
        process.line("Server is ready to receive web requests");
        process
    }

    /// Starts a node with the configuration of `compose.yaml` and waits until it listens.
    pub fn start_node(&mut self, node: usize) {
        let (port, internal) = self.ports.nodes[node];
        let mut command = tidewire(&["serve", "--config"]);
        command.arg(deploy("tidewire.toml")).envs([
            ("TIDEWIRE__LISTEN", format!("127.0.0.1:{port}")),
            ("TIDEWIRE__INTERNAL_LISTEN", format!("127.0.0.1:{internal}")),
            (
                "TIDEWIRE__REDIS__URL",
                format!("redis://127.0.0.1:{}", self.ports.redis),
            ),
            ("TIDEWIRE__CLUSTER_SECRET", SECRET.to_owned()),
            ("TIDEWIRE__AUTH__HMAC_SECRET", SECRET.to_owned()),
            ("TIDEWIRE__API_KEYS__0__KEY", API_KEY.to_owned()),
            ("TIDEWIRE__API_KEYS__0__SCOPES", "publish".to_owned()),
        ]);
        let process = Process::start(&mut command, false);
        process.line("listening");
        self.nodes[node] = Some(process);
    }

    pub fn kill(&mut self, node: usize) {
        self.nodes[node].take().expect("it runs").kill();
    }

    pub fn signal(&self, node: usize, signal: Signal) {
        self.nodes[node].as_ref().expect("it runs").signal(signal);
    }

    pub fn signal_redis(&self, signal: Signal) {
        self.primary.signal(signal);
    }

    pub async fn ended(&mut self, node: usize) -> ExitStatus {
        self.nodes[node].take().expect("it runs").ended().await
    }

    /// Where clients connect: the balancer.
    pub fn socket_url(&self) -> String {
        format!("ws://127.0.0.1:{}/v1/connect", self.ports.clients)
    }

    /// Where backends publish: the balancer.
    pub fn publish_url(&self) -> String {
        format!("http://127.0.0.1:{}/v1/publish", self.ports.backends)
    }

    /// A WebSocket through the balancer.
    ///
    /// # Errors
    /// The status of an answer that is no upgrade.
    pub async fn upgrade(&self) -> Result<WebSocketStream<MaybeTlsStream<TcpStream>>, u16> {
        let mut request = self.socket_url().into_client_request().unwrap();
        let protocol = JSON.parse().unwrap();
        request
            .headers_mut()
            .insert("Sec-WebSocket-Protocol", protocol);
        match connect_async(request).await {
            Ok((socket, _)) => Ok(socket),
            Err(tungstenite::Error::Http(answer)) => Err(answer.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    /// What Prometheus calls the node.
    pub fn instance(&self, node: usize) -> String {
        format!("127.0.0.1:{}", self.ports.nodes[node].1)
    }

    pub async fn connections_of(&self, node: usize) -> f64 {
        let instance = self.instance(node);
        let query = format!("tidewire_connections{{instance=\"{instance}\"}}");
        self.number(&query).await.expect("the node is scraped")
    }

    /// What a query comes to in Prometheus; none where nothing matches.
    pub async fn number(&self, query: &str) -> Option<f64> {
        let url = format!("http://127.0.0.1:{}/api/v1/query", self.prometheus);
        let url = reqwest::Url::parse_with_params(&url, [("query", query)]).unwrap();
        let answer = reqwest::get(url).await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["status"], "success", "{answer}");
        let value = answer["data"]["result"].get(0)?["value"][1].as_str()?;
        Some(value.parse().unwrap())
    }

    /// Waits until Prometheus has a number that passes.
    pub async fn until(&self, query: &str, passes: impl Fn(f64) -> bool) {
        let mut last = None;
        let wait = async {
            let mut poll = tokio::time::interval(POLL);
            while !last.is_some_and(&passes) {
                poll.tick().await;
                last = self.number(query).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, wait).await;
        assert!(in_time.is_ok(), "{query} stays at {last:?}");
    }
}

fn redis(root: &Path, port: u16, primary: Option<u16>) -> Process {
    let dir = root.join(format!("redis-{port}"));
    fs::create_dir(&dir).unwrap();
    let mut command = Command::new("redis-server");
    command.arg(deploy("redis/redis.conf")).current_dir(dir);
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string()]);
    if let Some(primary) = primary {
        command.args(["--replicaof", "127.0.0.1", &primary.to_string()]);
    }
    let process = Process::start(&mut command, true);
    process.line("Ready to accept connections");
    process
}
