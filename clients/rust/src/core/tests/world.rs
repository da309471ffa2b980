//! The outside of a core under test: a virtual clock, sockets held in the hand, an application
//! that handles every event at once.

use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
};

use serde_json::{Value, json};
use tidewire_protocol::{ChannelName, Command, Encoding, decode};

use crate::{
    Error, Event, Published, Status,
    core::{
        ConnectionId, Effect, Engine, Now, RawPage, ReaderId, Settings, SocketEnd, Ticket, Wish,
    },
};

/// Later than any real clock, so that attempts in scripts are above what a real node has stored.
pub(super) const EPOCH_MS: u64 = 4_102_444_800_000;

pub(super) fn vector(file: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../protocol/vectors")
        .join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    serde_json::from_str(&text).unwrap()
}

/// A socket the core asked for.
pub(super) struct Socket {
    pub(super) id: ConnectionId,
    pub(super) endpoint: usize,
    /// Commands nobody has looked at.
    pub(super) sent: VecDeque<Command>,
    pub(super) closed_with: Option<u16>,
}

/// What the application saw.
#[derive(Debug)]
pub(super) enum Seen {
    Event(ReaderId, Event),
    Published(Ticket, Result<Published, Error>),
    Page(Ticket, Result<RawPage, Error>),
}

pub(super) struct World {
    pub(super) now: u64,
    pub(super) engine: Engine,
    pub(super) sockets: Vec<Socket>,
    pub(super) seen: VecDeque<Seen>,
    pub(super) status: Status,
    /// Answered in turn; the last one again and again.
    pub(super) tokens: Vec<String>,
    tokens_used: usize,
    minted: u64,
    pub(super) readers: BTreeMap<ReaderId, ChannelName>,
}

impl World {
    pub(super) fn new(tokens: Vec<String>) -> Self {
        Self::with_endpoints(tokens, 1)
    }

    pub(super) fn with_endpoints(tokens: Vec<String>, endpoints: usize) -> Self {
        let settings = Settings {
            endpoints,
            sdk: "test/1".to_owned(),
            id_prefix: "test".to_owned(),
            random: Box::new(|| 0.5),
        };
        let now = Now {
            ms: EPOCH_MS,
            unix_ms: EPOCH_MS,
        };
        Self {
            now: EPOCH_MS,
            engine: Engine::new(settings, now),
            sockets: Vec::new(),
            seen: VecDeque::new(),
            status: Status::Connecting,
            tokens,
            tokens_used: 0,
            minted: 0,
            readers: BTreeMap::new(),
        }
    }

    pub(super) fn moment(&self) -> Now {
        Now {
            ms: self.now,
            unix_ms: self.now,
        }
    }

    /// Does what the core asks, until it asks nothing more.
    pub(super) fn settle(&mut self) {
        while let Some(effect) = self.engine.poll_effect() {
            let now = self.moment();
            match effect {
                Effect::FetchToken(_) => {
                    let last = self.tokens.len() - 1;
                    let token = self.tokens[self.tokens_used.min(last)].clone();
                    self.tokens_used += 1;
                    self.engine.handle_token(Ok(Some(token)), now);
                }
                Effect::Connect(id, endpoint) => self.sockets.push(Socket {
                    id,
                    endpoint,
                    sent: VecDeque::new(),
                    closed_with: None,
                }),
                Effect::Send(id, command) => self.socket(id).sent.push_back(command),
                Effect::Close(id, code) => {
                    self.socket(id).closed_with.get_or_insert(code);
                }
                Effect::Deliver(reader, delivery) => {
                    self.seen.push_back(Seen::Event(reader, delivery.event));
                    if let Some(position) = delivery.position {
                        self.engine.handled(reader, position, now);
                    }
                }
                Effect::Published(ticket, result) => {
                    self.seen.push_back(Seen::Published(ticket, result));
                }
                Effect::Page(ticket, result) => self.seen.push_back(Seen::Page(ticket, result)),
                Effect::Status(status) => self.status = status,
            }
        }
    }

    fn socket(&mut self, id: ConnectionId) -> &mut Socket {
        self.sockets
            .iter_mut()
            .find(|socket| socket.id == id)
            .unwrap()
    }

    pub(super) fn advance(&mut self, ms: u64) {
        let until = self.now + ms;
        self.settle();
        while let Some(due) = self.engine.poll_deadline().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.engine.handle_time(self.moment());
            self.settle();
        }
        self.now = until;
    }

    /// The socket of this number can be written to.
    pub(super) fn open(&mut self, at: usize) {
        let id = self.sockets[at].id;
        self.engine.handle_opened(id, self.moment());
        self.settle();
    }

    /// The node sends these frames in one message.
    pub(super) fn push(&mut self, at: usize, frames: &[Value]) {
        let lines: Vec<String> = frames
            .iter()
            .map(|frame| complete(frame).to_string())
            .collect();
        let received = decode::frames(Encoding::Json, lines.join("\n").as_bytes());
        let id = self.sockets[at].id;
        self.engine.handle_received(id, received, self.moment());
        self.settle();
    }

    pub(super) fn end(&mut self, at: usize, end: SocketEnd) {
        let id = self.sockets[at].id;
        self.engine.handle_ended(id, end, self.moment());
        self.settle();
    }

    pub(super) fn mint(&mut self) -> u64 {
        self.minted += 1;
        self.minted
    }

    pub(super) fn subscribe(&mut self, channel: &str, wish: Wish) -> ReaderId {
        let reader = ReaderId(self.mint());
        let channel = ChannelName::new(channel).unwrap();
        self.readers.insert(reader, channel.clone());
        self.engine.subscribe(reader, channel, wish).unwrap();
        self.settle();
        reader
    }

    /// Opens the newest socket and answers its hello, which it gives.
    pub(super) fn welcome(&mut self) -> Command {
        self.settle();
        let at = self.sockets.len() - 1;
        self.open(at);
        let hello = self.sockets[at].sent.pop_front().unwrap();
        assert!(matches!(hello, Command::Hello(_)), "{hello:?}");
        self.push(at, &[welcome("s1", "k1", self.now)]);
        hello
    }

    /// The next event of a reader.
    pub(super) fn event(&mut self) -> Option<Event> {
        match self.seen.pop_front()? {
            Seen::Event(_, event) => Some(event),
            other @ (Seen::Published(..) | Seen::Page(..)) => panic!("{other:?}"),
        }
    }

    /// The next command on a connection.
    pub(super) fn sent(&mut self, at: usize) -> Option<Command> {
        self.sockets[at].sent.pop_front()
    }
}

pub(super) fn welcome(id: &str, key: &str, ts: u64) -> Value {
    json!({"t": "welcome", "session": {"id": id, "key": key, "ttl": 300_000}, "resumed": false, "user": "ana", "hb": 25, "ts": ts})
}

/// Adds what scripts leave out because no client looks at it, but every node sends.
fn complete(frame: &Value) -> Value {
    let mut frame = frame.clone();
    let keys = frame.as_object_mut().unwrap();
    if keys["t"] == "welcome" {
        keys.entry("max")
            .or_insert(json!({"frame": 98_304, "data": 49_152, "subs": 256}));
        keys.entry("node").or_insert(json!("n1"));
    }
    if keys["t"] == "ok" && keys.contains_key("items") {
        keys.entry("o").or_insert(json!(0));
    }
    frame
}

/// The one command of a script's frame.
pub(super) fn command(frame: &Value) -> Command {
    let mut commands = decode::commands(Encoding::Json, frame.to_string().as_bytes()).unwrap();
    assert_eq!(commands.len(), 1);
    commands.remove(0)
}
