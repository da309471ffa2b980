//! A real node, connections over loopback whose session is put there by hand, and the far end of
//! the socket, which reads as much as a test wants and keeps what it saw.

use std::{io::Cursor, sync::Arc, time::Duration};

use bytes::Bytes;
use tempfile::TempDir;
use tidewire_protocol::{
    ChannelName, Encoding, Frame, Name, Payload,
    command::{Fallback, Mode, Sub},
    decode,
};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpSocket, TcpStream},
};
use tokio_tungstenite::tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, OpCode},
};

use crate::{
    auth::Identity,
    broker::Publish,
    config::{self, Config, Secret, Sources, setting::Setting},
    gateway::{
        Gateway,
        connection::Connection,
        socket::{self, SocketReader},
        subscribe,
        subscribe::{Wanted, subscribe},
    },
    lab::{Cluster, Link},
    node::{Node, Seams},
    redis::Address,
    session::Session,
    store::{Fence, SessionId},
    tasks::Tasks,
    telemetry::metrics::Metrics,
};

/// The one time limit of every wait.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// What the kernel may hold for a client that does not read, at most as asked for.
const RECEIVE_BYTES: u32 = 64 * 1024;

const CONFIG: &str = r#"
[namespaces.default]
history_size = 100000
state = true
allow = ["sub"]
[namespaces.few]
history_size = 10
allow = ["sub"]
[auth]
anonymous = true
hmac_secret = "a secret of tests that is long enough for HS256"
"#;

pub struct Lab {
    node: Option<Node>,
    _dir: TempDir,
}

impl Lab {
    pub async fn start() -> Self {
        let (config, dir) = Self::config();
        Self {
            node: Some(Node::start(config).await.unwrap()),
            _dir: dir,
        }
    }

    /// On a Redis server.
    pub async fn start_on(url: &str) -> Self {
        let (mut config, dir) = Self::config();
        config.node.cluster_secret = Some(Secret::new("s".repeat(32)));
        config.redis.url = Address::from_text(url);
        Self {
            node: Some(Node::start(config).await.unwrap()),
            _dir: dir,
        }
    }

    /// On a broker and a store that can be cut off.
    pub async fn start_over(cluster: &Cluster) -> (Self, Link) {
        let (config, dir) = Self::config();
        let metrics = Arc::new(Metrics::new(&config.namespaces).unwrap());
        let mut opened = None;
        let node = Node::start_over(config, Tasks::new(), metrics, |_, name, logs| {
            let link = cluster.link(name);
            link.hears(Arc::clone(logs) as _);
            opened = Some(link.clone());
            Ok(Seams {
                broker: Arc::new(link.clone()),
                store: Arc::new(link),
                storage: None,
                alone: false,
            })
        });
        let lab = Self {
            node: Some(node.unwrap()),
            _dir: dir,
        };
        (lab, opened.unwrap())
    }

    fn config() -> (Config, TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tidewire.toml");
        let data = dir.path().join("data");
        let head = format!("listen = \"127.0.0.1:0\"\ndata_dir = {data:?}\n");
        std::fs::write(&file, format!("{head}{CONFIG}")).unwrap();
        let loaded = config::load(Sources {
            file: Some(file),
            ..Sources::default()
        });
        (loaded.unwrap().config, dir)
    }

    pub fn gateway(&self) -> &Arc<Gateway> {
        self.node.as_ref().unwrap().gateway()
    }

    pub async fn stop(mut self) {
        self.node.take().unwrap().stop().await;
    }

    /// A connection with a session and no subscription, and its client.
    pub async fn connect(&self, encoding: Encoding) -> (Arc<Connection>, Client) {
        let (connection, reader, client) = self.accept(encoding).await;
        let held = Arc::clone(&connection);
        self.gateway().tasks.spawn_until_stop(async move {
            held.ended().await;
            drop(reader);
        });
        (connection, client)
    }

    /// The same; the reading task has not begun.
    pub async fn accept(&self, encoding: Encoding) -> (Arc<Connection>, SocketReader, Client) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpSocket::new_v4().unwrap();
        client.set_recv_buffer_size(RECEIVE_BYTES).unwrap();
        let client = client.connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(client, listener.accept());
        let stream = accepted.unwrap().0;
        socket::prepare(&stream).unwrap();
        let (reader, writer) = socket::plain(stream);
        let gateway = Arc::clone(self.gateway());
        let id = gateway.next_id();
        let connection = Arc::new(Connection::new(id, encoding, gateway, writer));
        connection.set_session(Box::new(Session::new(
            SessionId(Arc::from(format!("s-{id}"))),
            Fence {
                attempt: 1,
                nonce: id,
            },
            Identity::default(),
        )));
        (connection, reader, Client::new(client.unwrap(), encoding))
    }

    pub async fn publish(&self, channel: &ChannelName, key: Option<u8>, size: usize) -> u64 {
        self.try_publish(channel, key, size).await.unwrap()
    }

    /// None: the broker did not take it.
    pub async fn try_publish(
        &self,
        channel: &ChannelName,
        key: Option<u8>,
        size: usize,
    ) -> Option<u64> {
        let gateway = self.gateway();
        let namespace = gateway.namespaces.resolve(channel).unwrap();
        let publish = Publish {
            channel: channel.clone(),
            retention: namespace.retention(gateway.config.session.ttl),
            payload: Some(Payload::bytes(Bytes::from(vec![b'x'; size]))),
            key: key.map(|key| Name::new(&format!("k{key}")).unwrap()),
            event: None,
            id: None,
            publisher: Arc::from("t:"),
            by: None,
            delete: false,
            ttl_ms: None,
            guard: None,
            trace: None,
        };
        let mut published = gateway.feed.broker().publish(vec![publish]).await;
        let published = published.pop().unwrap().ok()?;
        Some(published.position.offset)
    }
}

pub fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

pub async fn sub(connection: &Arc<Connection>, name: &str, mode: Mode) {
    sub_from(connection, name, mode, Fallback::Now).await;
}

pub async fn sub_from(connection: &Arc<Connection>, name: &str, mode: Mode, fallback: Fallback) {
    let sub = Sub {
        i: Some(1),
        channel: channel(name),
        position: None,
        fallback,
        mode,
        hz: None,
        me: None,
    };
    subscribe(connection, vec![Wanted::from(sub)]).await;
}

pub async fn unsub(connection: &Arc<Connection>, name: &str) {
    assert!(subscribe::unsubscribe(connection, &channel(name)).await);
}

/// The far end of the socket.
pub struct Client {
    stream: TcpStream,
    encoding: Encoding,
    torn: Vec<u8>,
    /// The frames of every whole message so far.
    pub frames: Vec<Frame>,
    /// The code of the node's close frame.
    pub closed: Option<u16>,
    /// Bytes of data messages.
    pub bytes: usize,
}

impl Client {
    fn new(stream: TcpStream, encoding: Encoding) -> Self {
        Self {
            stream,
            encoding,
            torn: Vec::new(),
            frames: Vec::new(),
            closed: None,
            bytes: 0,
        }
    }

    /// Reads once, at most this much. False: the node closed.
    pub async fn read(&mut self, bytes_max: usize) -> bool {
        let mut buffer = vec![0; bytes_max];
        let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut buffer));
        let count = read.await.expect("bytes come in time").unwrap();
        self.torn.extend_from_slice(&buffer[..count]);
        self.take_messages();
        count > 0
    }

    /// Reads until the frames hold what is waited for.
    pub async fn read_until(&mut self, found: impl Fn(&[Frame]) -> bool) {
        while !found(&self.frames) {
            assert!(self.read(64 * 1024).await, "the node closed");
        }
    }

    fn take_messages(&mut self) {
        loop {
            let mut cursor = Cursor::new(&self.torn[..]);
            let Some((header, length)) = FrameHeader::parse(&mut cursor).unwrap() else {
                return;
            };
            let begin = usize::try_from(cursor.position()).unwrap();
            let end = begin + usize::try_from(length).unwrap();
            if self.torn.len() < end {
                return;
            }
            assert_eq!(self.closed, None, "nothing follows a close frame");
            let payload = &self.torn[begin..end];
            match header.opcode {
                OpCode::Data(_) => {
                    self.bytes += payload.len();
                    let frames = decode::frames(self.encoding, payload).unwrap();
                    self.frames.extend(frames);
                }
                OpCode::Control(Control::Close) => {
                    self.closed = Some(u16::from_be_bytes([payload[0], payload[1]]));
                }
                OpCode::Control(_) => {}
            }
            self.torn.drain(..end);
        }
    }

    /// Offsets of the publications of a channel, in the order they came.
    pub fn offsets(&self, name: &str) -> Vec<u64> {
        offsets(&self.frames, name)
    }
}

pub fn offsets(frames: &[Frame], name: &str) -> Vec<u64> {
    frames
        .iter()
        .filter_map(|frame| match frame {
            Frame::Msg {
                channel,
                publication,
            } if channel.as_str() == name => Some(publication.offset),
            _other => None,
        })
        .collect()
}

pub fn last(frames: &[Frame], name: &str) -> u64 {
    let newest = frames.iter().rev().find_map(|frame| match frame {
        Frame::Msg {
            channel,
            publication,
        } if channel.as_str() == name => Some(publication.offset),
        _other => None,
    });
    newest.unwrap_or(0)
}
