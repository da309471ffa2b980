//! A simulated client: opens connections, resumes, publishes with retries, and does what faults
//! make a client do. What it knows of channels is `app`.

mod connecting;
mod line;
mod orders;
mod publishing;
mod subscribing;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tidewire_protocol::{ChannelName, Command, Encoding, Frame};
use tokio::{sync::mpsc, time::Instant};

pub use self::orders::Order;
use self::{
    line::{Line, channel_of, receive},
    publishing::Outgoing,
};
use super::{
    app::{App, Wish},
    hub::Hub,
    wire::Incoming,
    world::World,
};

/// A connection without its `welcome` is given up after this.
const WELCOME_MAX: Duration = Duration::from_secs(4);

/// What a client is like.
#[derive(Debug, Clone)]
pub struct Nature {
    pub encoding: Encoding,
    pub token: Arc<str>,
    /// Most bytes it takes at once, and how many wait for it.
    pub takes: usize,
    pub holds: usize,
    /// Longest way of bytes from the node, ms.
    pub delay_ms: u64,
    /// Mean time between publications, ms; none: it publishes nothing.
    pub publishes_ms: Option<u64>,
    /// How many of a thousand publications with a key remove it.
    pub removes: u64,
    pub wishes: Vec<Wish>,
    /// Where it publishes, and with which keys; no key: none.
    pub targets: Vec<(ChannelName, Option<&'static str>)>,
}

/// What a session is resumed with.
#[derive(Debug, Clone)]
pub struct Credentials {
    id: String,
    key: String,
    attempt: u64,
    /// Where the session goes on is not its program's own yet: that begins, or lost its memory.
    is_unsettled: bool,
}

/// A client.
#[derive(Debug)]
pub struct SimClient {
    world: Arc<World>,
    hub: Arc<Hub>,
    nature: Nature,
    app: App,
    orders: mpsc::Receiver<Order>,
    /// The newest last; at most two.
    lines: VecDeque<Line>,
    session: Arc<Mutex<Option<Credentials>>>,
    attempt: u64,
    next_i: u64,
    subs: BTreeMap<u64, ChannelName>,
    /// Channels left whose `ok` has not come: what comes of them is of before.
    leaving: BTreeMap<u64, ChannelName>,
    /// Subscriptions to ask for again, and when.
    owed: BTreeMap<ChannelName, Instant>,
    connect_at: Option<Instant>,
    publish_at: Option<Instant>,
    outgoing: Option<Outgoing>,
    bodies: u64,
    is_calm: bool,
}

impl SimClient {
    pub fn new(
        hub: &Arc<Hub>,
        app: App,
        nature: Nature,
        orders: mpsc::Receiver<Order>,
        session: Arc<Mutex<Option<Credentials>>>,
    ) -> Self {
        let world = Arc::clone(&hub.world);
        let first = Instant::now() + world.millis(0, 400);
        let bodies = u64::from(app.client.0) * 1_000_000;
        Self {
            publish_at: nature.publishes_ms.map(|_| first),
            world,
            hub: Arc::clone(hub),
            nature,
            app,
            orders,
            lines: VecDeque::new(),
            session,
            attempt: 0,
            next_i: 0,
            subs: BTreeMap::new(),
            leaving: BTreeMap::new(),
            owed: BTreeMap::new(),
            connect_at: Some(first),
            outgoing: None,
            bodies,
            is_calm: false,
        }
    }

    /// Lives until the run ends.
    pub async fn run(mut self) {
        for wish in self.nature.wishes.clone() {
            self.app.ask(wish);
        }
        loop {
            let timer = self.next_timer();
            let world = Arc::clone(&self.world);
            let (older, newer) = {
                let mut lines = self.lines.iter_mut();
                (lines.next(), lines.next())
            };
            tokio::select! {
                biased;
                order = self.orders.recv() => match order {
                    Some(order) => self.obey(order),
                    None => return,
                },
                incoming = receive(older, &world) => self.take(0, incoming),
                incoming = receive(newer, &world) => self.take(1, incoming),
                () = tokio::time::sleep_until(timer) => self.act(),
            }
        }
    }

    fn next_timer(&self) -> Instant {
        let welcome = self
            .lines
            .iter()
            .filter(|line| !line.is_welcome)
            .map(|line| line.opened + WELCOME_MAX);
        let outgoing = self.outgoing.as_ref().map(|outgoing| outgoing.due);
        let is_open = self.is_open();
        welcome
            .chain(self.connect_at)
            .chain(self.publish_at.filter(|_| self.outgoing.is_none()))
            .chain(outgoing)
            .chain(self.owed.values().copied().filter(|_| is_open))
            .min()
            .unwrap_or_else(|| Instant::now() + Duration::from_secs(3600))
    }

    /// Does what is due.
    fn act(&mut self) {
        let now = Instant::now();
        if self.connect_at.is_some_and(|at| at <= now) {
            self.connect_at = None;
            self.connect();
        }
        let late = |line: &Line| !line.is_welcome && line.opened + WELCOME_MAX <= now;
        if let Some(at) = self.lines.iter().position(late) {
            self.world.saw("a welcome that did not come");
            self.lose(at);
        }
        if let Some(outgoing) = &self.outgoing {
            if outgoing.due <= now {
                self.send_publication();
            }
        } else if self.publish_at.is_some_and(|at| at <= now) {
            self.make_publication();
        }
        let due = self.owed.iter().find(|(_, at)| **at <= now);
        if let Some(channel) = due.map(|(channel, _)| channel.clone()) {
            if self.is_open() {
                self.subscribe(&channel);
            } else {
                // The next hello asks for all.
                self.owed.remove(&channel);
            }
        }
    }

    fn is_open(&self) -> bool {
        self.lines.back().is_some_and(|line| line.is_welcome)
    }

    fn take(&mut self, at: usize, incoming: Vec<Incoming>) {
        let attempt = self.lines[at].attempt;
        for incoming in incoming {
            // A welcome closes older ones: what comes after is found by its attempt.
            let Some(at) = self.lines.iter().position(|line| line.attempt == attempt) else {
                return;
            };
            match incoming {
                Incoming::Frame(frame) => self.frame(at, *frame),
                Incoming::Closed => {
                    self.lose(at);
                    return;
                }
            }
        }
    }

    fn frame(&mut self, at: usize, frame: Frame) {
        if channel_of(&frame).is_some_and(|channel| self.is_leaving(channel)) {
            return;
        }
        match frame {
            Frame::Welcome(welcome) => self.welcome(at, &welcome),
            Frame::Subscribed {
                i,
                channel,
                position,
                recovery,
            } => {
                let asked = self.lines[at].asked.remove(&(channel.clone(), i));
                self.began((i, channel), &position, recovery, asked);
            }
            Frame::Published { i, position, .. } => self.published(i, &position),
            Frame::Error { i, code, .. } => self.refused(i, code.temporary()),
            Frame::Msg {
                channel,
                publication,
            } => self.app.message(&channel, &publication),
            Frame::State {
                channel,
                items,
                more,
            } => self.app.page(&channel, &items, more),
            Frame::Live {
                channel, offset, ..
            } => self.app.live(&channel, offset),
            Frame::Gap {
                channel, from, to, ..
            } => self.app.gap(&channel, from, to),
            Frame::Rewind {
                channel,
                epoch,
                to,
                lost,
            } => {
                if !self.app.rewind(&channel, &epoch, to, lost) {
                    self.owed.insert(channel, Instant::now());
                }
            }
            Frame::Unsubscribed { channel, code } => {
                assert!(code.temporary(), "{channel} was refused: {code:?}");
                self.owe(channel);
            }
            Frame::Stale { since, .. } => {
                self.world
                    .saw(if since > 0 { "stale" } else { "stale ended" })
            }
            Frame::Move { in_ms, .. } => {
                self.world.saw("a move");
                self.connect_at = Some(Instant::now() + Duration::from_millis(in_ms));
            }
            Frame::Ping => self.lines[at].wire.send(&[Command::Pong(Vec::new())]),
            Frame::Bye { code, retry_ms, .. } => self.bye(at, code, retry_ms),
            Frame::Done { i, .. } => {
                self.leaving.remove(&i);
            }
            Frame::HistoryPage { .. } | Frame::StatePage { .. } | Frame::Auth { .. } => {}
        }
    }
}
