//! A node and a client for tests, with a small language of expectations.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::{SinkExt, StreamExt};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidewire::{
    config::{self, Sources},
    node::Node,
};
use tidewire_protocol::ChannelName;
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Message,
        client::IntoClientRequest,
        http::{HeaderMap, HeaderName},
        protocol::WebSocketConfig,
    },
};

use crate::wire;

/// The one time limit of every expectation.
pub const PATIENCE: Duration = Duration::from_secs(10);
pub const SECRET: &str = "a secret of tests that is long enough for HS256";
pub const API_KEY: &str = "a-test-key-with-every-scope";

/// The configuration of most tests.
pub const CONFIG: &str = r#"
[namespaces.default]
max_rate = "100000/s"
history_size = 1000
history_ttl = "1h"
[namespaces.small]
max_rate = "100000/s"
history_size = 4
history_ttl = "1h"
[namespaces.volatile]
max_rate = "100000/s"
history_size = 0
[namespaces.orders]
max_rate = "100000/s"
history_size = 1000
history_ttl = "1h"
state = true
[namespaces.chat]
max_rate = "100000/s"
history_size = 200
history_ttl = "1h"
presence = "members"
allow = ["sub"]
[namespaces.tiny]
max_rate = "100000/s"
history_size = 4
history_ttl = "1h"
state = true
[namespaces.bare]
max_rate = "100000/s"
history_size = 0
state = true
[limits]
connections_per_ip = 100000
commands = "100000/s"
subscribes = "100000/s"
reads = "100000/s"
"#;

pub struct TestNode {
    node: Option<Node>,
    pub dir: TempDir,
    /// Keys at the top.
    head: String,
    config: String,
    auth: String,
}

impl TestNode {
    pub async fn start() -> Self {
        Self::with(CONFIG).await
    }

    pub async fn with(text: &str) -> Self {
        Self::with_auth(text, "").await
    }

    /// With more settings of `[auth]`.
    pub async fn with_auth(text: &str, auth: &str) -> Self {
        let mut node = Self {
            node: None,
            dir: tempfile::tempdir().unwrap(),
            head: String::new(),
            config: text.to_owned(),
            auth: auth.to_owned(),
        };
        node.boot().await;
        node
    }

    /// One of the nodes of a hub on a Redis.
    pub async fn on_redis(text: &str, redis: &str) -> Self {
        let secret = format!("cluster_secret = {SECRET:?}\n");
        Self::with_head(&secret, &format!("{text}{redis}")).await
    }

    /// With more keys at the top.
    pub async fn with_head(head: &str, text: &str) -> Self {
        let mut node = Self {
            node: None,
            dir: tempfile::tempdir().unwrap(),
            head: head.to_owned(),
            config: text.to_owned(),
            auth: String::new(),
        };
        node.boot().await;
        node
    }

    /// Waits until an operator wants the node to leave.
    pub async fn dismissed(&self) {
        self.node.as_ref().unwrap().gateway().dismissed().await;
    }

    /// Leaves, as on SIGTERM.
    pub async fn stop(&mut self) {
        self.node.take().unwrap().stop().await;
    }

    /// Waits until the node knows of this many nodes, itself included.
    pub async fn knows_nodes(&self, count: u64) {
        let url = format!("http://{}/readyz", self.address());
        let known = async {
            loop {
                let ready: Value = reqwest::get(&url).await.unwrap().json().await.unwrap();
                if ready["nodes"] == count {
                    return;
                }
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, known).await;
        in_time.expect("the nodes know each other");
    }

    async fn boot(&mut self) {
        let file = self.dir.path().join("tidewire.toml");
        let data = self.dir.path().join("data");
        let head = format!("listen = \"127.0.0.1:0\"\ndata_dir = {data:?}\n");
        let auth = format!(
            "[auth]\nhmac_secret = {SECRET:?}\n{}\n[[api_keys]]\nkey = {API_KEY:?}\nscopes = [\"publish\", \"read\", \"manage\"]\n",
            self.auth
        );
        std::fs::write(&file, format!("{head}{}{auth}{}", self.head, self.config)).unwrap();
        let loaded = config::load(Sources {
            file: Some(file),
            ..Sources::default()
        })
        .unwrap();
        self.node = Some(Node::start(loaded.config).await.unwrap());
    }

    pub fn address(&self) -> SocketAddr {
        self.node.as_ref().unwrap().address()
    }

    pub async fn restart(&mut self) {
        self.node.take().unwrap().stop().await;
        self.boot().await;
    }

    /// Deletes a channel: its log begins another epoch.
    pub async fn delete(&self, channel: &str) {
        let channel = ChannelName::new(channel).unwrap();
        let gateway = self.node.as_ref().unwrap().gateway();
        gateway.feed.broker().delete(&channel).await.unwrap();
    }

    pub async fn client(&self, user: &str) -> Client {
        let mut client = Client::connect(self.address()).await;
        client.hello(user, json!({})).await;
        client
    }
}

pub fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// A token of a user who may do everything with client channels.
pub fn token(user: &str) -> String {
    token_with(
        json!({"sub": user, "exp": now_s() + 3600, "can": {"*": ["sub", "pub", "history", "presence"]}}),
    )
}

pub fn token_with(claims: Value) -> String {
    jsonwebtoken::encode(
        &Header::default(),
        &claims,
        &EncodingKey::from_secret(SECRET.as_bytes()),
    )
    .unwrap()
}

pub const JSON: &str = "tidewire.v1.json";
pub const MSGPACK: &str = "tidewire.v1.msgpack";
/// Both encodings, for tests that hold in each.
pub const ENCODINGS: [&str; 2] = [JSON, MSGPACK];

/// A client in one of the encodings; its frames are JSON values in both.
pub struct Client {
    pub socket: WebSocketStream<TcpStream>,
    packs: bool,
    /// What was received and not looked at yet.
    pub frames: VecDeque<Value>,
    pub welcome: Value,
    next: u64,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::connect_as(address, JSON).await
    }

    pub async fn connect_as(address: SocketAddr, protocol: &str) -> Self {
        let headers = [("sec-websocket-protocol", protocol)];
        let (client, _) = Self::connect_with(address, &headers).await;
        client
    }

    /// Connects with these headers; answers those of the node as well.
    pub async fn connect_with(address: SocketAddr, headers: &[(&str, &str)]) -> (Self, HeaderMap) {
        Self::open(address, headers, false).await
    }

    /// Connects with so small a buffer that the node soon feels that nobody reads.
    pub async fn connect_slow(address: SocketAddr, protocol: &str) -> Self {
        let headers = [("sec-websocket-protocol", protocol)];
        Self::open(address, &headers, true).await.0
    }

    async fn open(address: SocketAddr, headers: &[(&str, &str)], slow: bool) -> (Self, HeaderMap) {
        let mut request = format!("ws://{address}/v1/connect")
            .into_client_request()
            .unwrap();
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let socket = TcpSocket::new_v4().unwrap();
        if slow {
            socket.set_recv_buffer_size(8192).unwrap();
        }
        let stream = socket.connect(address).await.unwrap();
        let config = WebSocketConfig::default()
            .read_buffer_size(8192)
            .write_buffer_size(0);
        let (socket, response) = client_async_with_config(request, stream, Some(config))
            .await
            .unwrap();
        let client = Self {
            socket,
            packs: headers.iter().any(|(_, value)| *value == MSGPACK),
            frames: VecDeque::new(),
            welcome: Value::Null,
            next: 0,
        };
        (client, response.headers().clone())
    }

    pub async fn hello(&mut self, user: &str, more: Value) -> Value {
        self.send(with(json!({"t": "hello", "token": token(user)}), &more))
            .await;
        self.welcome = self.expect("welcome").await;
        self.welcome.clone()
    }

    pub async fn send(&mut self, frame: Value) {
        self.send_all(&[frame]).await;
    }

    /// Sends frames in one message.
    pub async fn send_all(&mut self, frames: &[Value]) {
        if self.packs {
            self.send_bytes(wire::pack(frames)).await;
        } else {
            let frames: Vec<String> = frames.iter().map(Value::to_string).collect();
            self.send_text(&frames.join("\n")).await;
        }
    }

    pub async fn send_bytes(&mut self, bytes: Vec<u8>) {
        self.socket.send(Message::binary(bytes)).await.unwrap();
    }

    pub async fn send_text(&mut self, text: &str) {
        self.socket
            .send(Message::text(text.to_owned()))
            .await
            .unwrap();
    }

    /// Asks, and answers with the reply of the same number; pushes before it are kept.
    pub async fn ask(&mut self, mut frame: Value) -> Value {
        self.next += 1;
        frame["i"] = json!(self.next);
        self.send(frame).await;
        let number = self.next;
        self.find(|frame| frame["i"] == json!(number)).await
    }

    pub async fn sub(&mut self, channel: &str, more: Value) -> Value {
        let ok = self
            .ask(with(json!({"t": "sub", "ch": channel}), &more))
            .await;
        assert_eq!(ok["t"], "ok", "{ok}");
        ok
    }

    /// Publishes with more keys than data; answers whatever the node does.
    pub async fn publish_with(&mut self, channel: &str, more: Value) -> Value {
        self.ask(with(json!({"t": "pub", "ch": channel}), &more))
            .await
    }

    /// The name of the error the frame is answered with.
    pub async fn refused(&mut self, frame: Value) -> (u64, String) {
        let error = self.ask(frame).await;
        assert_eq!(error["t"], "error", "{error}");
        let name = error["name"].as_str().unwrap();
        (error["code"].as_u64().unwrap(), name.to_owned())
    }

    /// Everything until the answer of a request sent now: what the node had to say by then.
    pub async fn drained(&mut self) -> Vec<Value> {
        self.next += 1;
        let number = self.next;
        self.send(json!({"t": "no such type", "i": number})).await;
        let mut frames = Vec::new();
        loop {
            let frame = self.frame().await;
            if frame["i"] == number {
                return frames;
            }
            frames.push(frame);
        }
    }

    pub async fn publish(&mut self, channel: &str, data: Value) -> Value {
        let ok = self
            .ask(json!({"t": "pub", "ch": channel, "d": data}))
            .await;
        assert_eq!(ok["t"], "ok", "{ok}");
        ok
    }

    /// The next frame, whatever it is.
    pub async fn frame(&mut self) -> Value {
        if let Some(frame) = self.frames.pop_front() {
            return frame;
        }
        self.fetch().await
    }

    async fn fetch(&mut self) -> Value {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.socket.next())
                .await
                .expect("a frame in time");
            match message.expect("the connection is open").unwrap() {
                Message::Text(text) => self.frames.extend(wire::parse(&text)),
                Message::Binary(bytes) => self.frames.extend(wire::unpack(&bytes)),
                Message::Close(close) => panic!("closed: {close:?}, after {:?}", self.frames),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
            if let Some(frame) = self.frames.pop_front() {
                return frame;
            }
        }
    }

    /// The next frame that is not a ping, which must be of this type.
    pub async fn expect(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.frame().await;
            if frame["t"] != "ping" {
                assert_eq!(frame["t"], kind, "{frame}");
                return frame;
            }
        }
    }

    /// The first frame that matches; those before it stay for later.
    pub async fn find(&mut self, matches: impl Fn(&Value) -> bool) -> Value {
        let mut before = VecDeque::new();
        loop {
            let frame = match self.frames.pop_front() {
                Some(frame) => frame,
                None => self.fetch().await,
            };
            if matches(&frame) {
                before.append(&mut self.frames);
                self.frames = before;
                return frame;
            }
            before.push_back(frame);
        }
    }

    /// The close code, after everything else; pushes before it are passed over.
    pub async fn closed(&mut self) -> (Option<u16>, Vec<Value>) {
        let mut frames: Vec<Value> = self.frames.drain(..).collect();
        loop {
            let message = tokio::time::timeout(PATIENCE, self.socket.next())
                .await
                .expect("a close in time");
            match message {
                Some(Ok(Message::Text(text))) => frames.extend(wire::parse(&text)),
                Some(Ok(Message::Binary(bytes))) => frames.extend(wire::unpack(&bytes)),
                Some(Ok(Message::Close(close))) => {
                    return (close.map(|close| close.code.into()), frames);
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return (None, frames),
            }
        }
    }

    /// What the last frame and the close code say; the last must be `bye`.
    pub async fn refused_with_bye(&mut self) -> (u16, Value) {
        let (code, frames) = self.closed().await;
        let bye = frames.last().cloned().unwrap_or_default();
        assert_eq!(bye["t"], "bye", "{frames:?}");
        assert_eq!(bye["code"], json!(code), "{bye}");
        (code.unwrap(), bye)
    }

    /// What to resume with.
    pub fn resume(&self) -> Resume {
        Resume {
            id: self.welcome["session"]["id"].clone(),
            key: self.welcome["session"]["key"].clone(),
        }
    }

    /// Cuts the connection without a word.
    pub fn cut(self) -> Resume {
        self.resume()
    }
}

/// A frame with more keys.
pub fn with(mut frame: Value, more: &Value) -> Value {
    frame
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    frame
}

/// What a client keeps of its session.
#[derive(Clone)]
pub struct Resume {
    pub id: Value,
    pub key: Value,
}

impl Resume {
    pub fn hello(&self, attempt: u64) -> Value {
        json!({"session": {"id": self.id, "key": self.key, "attempt": attempt}})
    }

    /// An attempt above any before.
    pub fn next_attempt() -> u64 {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let now_ms = u64::try_from(
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap()
                .as_millis(),
        )
        .unwrap();
        // Tests claim with attempts a little above this one, too.
        LAST.fetch_max(now_ms, Ordering::Relaxed);
        LAST.fetch_add(1000, Ordering::Relaxed) + 1000
    }
}
