//! A simulated client: opens connections, resumes, publishes with retries, and does what faults
//! make a client do. What it knows of channels is `app`.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tidewire_check::Event;
use tidewire_protocol::{
    ChannelName, CloseCode, Command, Encoding, Frame, Position,
    command::{Hello, Pub, ResumeKey},
    frame::Welcome,
};
use tokio::{sync::mpsc, time::Instant};

use super::{
    app::{App, Wish, position},
    hub::Hub,
    wire::{Incoming, Wire},
    world::World,
};

/// A connection without its `welcome` is given up after this.
const WELCOME_MAX: Duration = Duration::from_secs(4);
/// An answer to a request is waited for this long.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// Times a publication is sent before its publisher gives up.
const TRIES_MAX: u32 = 6;
/// Longest wait before a connection is tried again, ms.
const BACKOFF_MS_MAX: u64 = 1_000;

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
    pub wishes: Vec<Wish>,
    /// Where it publishes, and with which keys; no key: none.
    pub targets: Vec<(ChannelName, Option<&'static str>)>,
}

/// What a fault makes a client do.
#[derive(Debug, Clone)]
pub enum Order {
    /// Its network is gone.
    Cut,
    /// Nothing goes through for a while.
    Freeze(Duration),
    /// It opens a second connection of its session.
    Double,
    /// It loses its memory, but for the session's key.
    Forget,
    /// It acknowledges all it was given.
    Acknowledge,
    /// It ends a subscription and begins it again at once.
    Again(ChannelName),
    /// It goes on with the session of another client, as a duplicated tab does.
    Steal(Arc<parking_lot::Mutex<Option<Credentials>>>),
    /// No more faults: it publishes no more and comes back soon.
    Calm,
}

/// What a session is resumed with.
#[derive(Debug, Clone)]
pub struct Credentials {
    id: String,
    key: String,
    attempt: u64,
}

/// A publication under way.
#[derive(Debug)]
struct Outgoing {
    body: u64,
    channel: ChannelName,
    key: Option<&'static str>,
    delete: bool,
    tries: u32,
    /// Whether an earlier try may have been applied.
    uncertain: bool,
    /// The request that carries it.
    i: Option<u64>,
    due: Instant,
}

/// One connection.
#[derive(Debug)]
struct Line {
    wire: Wire,
    is_welcome: bool,
    opened: Instant,
    /// Positions that were asked for.
    asked: BTreeMap<ChannelName, Position>,
    attempt: u64,
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
    session: Arc<parking_lot::Mutex<Option<Credentials>>>,
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
    next_node: Option<usize>,
}

impl SimClient {
    pub fn new(
        hub: &Arc<Hub>,
        app: App,
        nature: Nature,
        orders: mpsc::Receiver<Order>,
        session: Arc<parking_lot::Mutex<Option<Credentials>>>,
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
            next_node: None,
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

    fn connect(&mut self) {
        let nodes = self.hub.len();
        let up: Vec<usize> = (0..nodes).filter(|node| self.hub.is_up(*node)).collect();
        let wished = self.next_node.take().filter(|node| self.hub.is_up(*node));
        let Some(node) = wished
            .or_else(|| (!up.is_empty()).then(|| self.world.draw(|random| *random.pick(&up))))
        else {
            self.back_off();
            return;
        };
        let Nature {
            encoding,
            holds,
            takes,
            delay_ms,
            ..
        } = self.nature;
        let Some(pipe) = self.hub.connect(node, encoding, holds) else {
            self.back_off();
            return;
        };
        let mut wire = Wire::new(pipe, encoding, takes, delay_ms);
        self.attempt = (self.attempt + 1).max(self.world.now_ms());
        while self.app.is_partial() && !self.lines.is_empty() {
            // A channel that starts over is read by the new connection alone.
            self.close_first();
        }
        let session = self.session.lock().clone().map(|credentials| ResumeKey {
            id: credentials.id,
            key: credentials.key,
            attempt: self.attempt,
        });
        let subs = self.app.subs();
        let asked = subs
            .iter()
            .filter_map(|sub| Some((sub.channel.clone(), sub.position.clone()?)))
            .collect();
        self.world.note(|| {
            let (client, attempt) = (self.app.client.0, self.attempt);
            format!("client {client} connects to node {node}, attempt {attempt}, {asked:?}")
        });
        wire.send(&[Command::Hello(Hello {
            token: Some(self.nature.token.to_string()),
            session,
            subs: Some(subs),
            ..Hello::default()
        })]);
        self.lines.push_back(Line {
            wire,
            is_welcome: false,
            opened: Instant::now(),
            asked,
            attempt: self.attempt,
        });
        while self.lines.len() > 2 {
            self.close_first();
        }
    }

    fn close_first(&mut self) {
        if let Some(line) = self.lines.pop_front() {
            line.wire.pipe.break_off();
        }
    }

    fn back_off(&mut self) {
        let most = if self.is_calm { 100 } else { BACKOFF_MS_MAX };
        self.connect_at = Some(Instant::now() + self.world.millis(1, most));
    }

    /// A connection is gone.
    fn lose(&mut self, at: usize) {
        if let Some(line) = self.lines.remove(at) {
            line.wire.pipe.break_off();
        }
        if let Some(outgoing) = &mut self.outgoing {
            outgoing.i = None;
        }
        if self.lines.is_empty() {
            self.leaving.clear();
            self.back_off();
        }
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
                if let Some(i) = i {
                    self.subs.remove(&i);
                }
                self.owed.remove(&channel);
                let asked = self.lines[at].asked.remove(&channel);
                self.app
                    .began(&channel, &position, recovery, asked.as_ref());
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
            } => self.app.rewind(&channel, &epoch, to, lost),
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

    fn is_leaving(&self, channel: &ChannelName) -> bool {
        self.leaving.values().any(|leaving| leaving == channel)
    }

    fn welcome(&mut self, at: usize, welcome: &Welcome) {
        // The hello asked for all.
        self.owed.clear();
        for _ in 0..at {
            self.close_first();
        }
        self.connect_at = None;
        self.world.saw(if welcome.resumed {
            "a session resumed"
        } else {
            "a session begun"
        });
        self.app.renew();
        self.leaving.clear();
        self.lines[0].is_welcome = true;
        *self.session.lock() = Some(Credentials {
            id: welcome.session.clone(),
            key: welcome.key.clone(),
            attempt: self.lines[0].attempt,
        });
        if let Some(outgoing) = &mut self.outgoing {
            outgoing.i = None;
            outgoing.due = Instant::now();
        }
    }

    fn bye(&mut self, at: usize, code: CloseCode, retry_ms: Option<u64>) {
        let is_newest = at + 1 == self.lines.len();
        if code == CloseCode::Replaced && is_newest {
            // Somebody else has the session: on in a new one, from where this program is.
            self.world.saw("a session replaced");
            *self.session.lock() = None;
        }
        self.lose(at);
        if let (Some(retry_ms), Some(connect_at)) = (retry_ms, &mut self.connect_at) {
            let most = if self.is_calm { 100 } else { retry_ms };
            *connect_at = Instant::now() + self.world.millis(0, most);
        }
    }

    fn owe(&mut self, channel: ChannelName) {
        let wait = self.world.millis(50, 400);
        if self.app.reads(&channel) {
            self.owed.insert(channel, Instant::now() + wait);
        }
    }

    fn subscribe(&mut self, channel: &ChannelName) {
        self.next_i += 1;
        let i = self.next_i;
        let Some(sub) = self.app.sub(channel, Some(i)) else {
            self.owed.remove(channel);
            return;
        };
        self.owed
            .insert(channel.clone(), Instant::now() + ANSWER_MAX);
        self.subs.insert(i, channel.clone());
        if let Some(line) = self.lines.back_mut() {
            if let Some(position) = &sub.position {
                line.asked.insert(channel.clone(), position.clone());
            }
            line.wire.send(&[Command::Sub(sub)]);
        }
    }

    fn make_publication(&mut self) {
        let Some(mean_ms) = self.nature.publishes_ms.filter(|_| !self.is_calm) else {
            self.publish_at = None;
            return;
        };
        self.publish_at = Some(Instant::now() + self.world.millis(1, 2 * mean_ms));
        if self.nature.targets.is_empty() {
            return;
        }
        let targets = &self.nature.targets;
        let ((channel, key), delete) = self
            .world
            .draw(|random| (random.pick(targets).clone(), random.chance(120)));
        self.bodies += 1;
        let body = self.bodies;
        self.world.feed(&Event::Attempted {
            body,
            channel: self.world.channel(channel.as_str()),
        });
        self.outgoing = Some(Outgoing {
            body,
            channel,
            key,
            delete: delete && key.is_some(),
            tries: 0,
            uncertain: false,
            i: None,
            due: Instant::now(),
        });
        self.send_publication();
    }

    fn send_publication(&mut self) {
        let is_open = self.is_open();
        let Some(outgoing) = &mut self.outgoing else {
            return;
        };
        if !is_open {
            outgoing.due = Instant::now() + ANSWER_MAX;
            return;
        }
        outgoing.tries += 1;
        if outgoing.tries > TRIES_MAX {
            self.outgoing = None;
            return;
        }
        self.next_i += 1;
        outgoing.i = Some(self.next_i);
        outgoing.due = Instant::now() + ANSWER_MAX;
        let data = outgoing.body.to_string();
        let publication = Pub {
            i: outgoing.i,
            channel: outgoing.channel.clone(),
            payload: (!outgoing.delete)
                .then(|| tidewire_protocol::Payload::from_json_text(data.as_bytes()).unwrap()),
            key: outgoing
                .key
                .map(|key| tidewire_protocol::Name::new(key).unwrap()),
            event: None,
            id: Some(tidewire_protocol::Name::new(&data).unwrap()),
            delete: outgoing.delete,
            ttl_ms: None,
            guard: None,
        };
        if let Some(line) = self.lines.back_mut() {
            line.wire.send(&[Command::Pub(publication)]);
        }
    }

    fn published(&mut self, i: u64, at: &Position) {
        let is_it = |outgoing: &mut Outgoing| outgoing.i == Some(i);
        if let Some(outgoing) = self.outgoing.take_if(is_it) {
            let body = outgoing.body;
            if outgoing.tries > 1 {
                self.world.saw("a publication retried");
            }
            if !outgoing.delete {
                let position = position(at);
                self.world.feed(&Event::Acknowledged { body, position });
            }
        }
    }

    fn refused(&mut self, i: Option<u64>, temporary: bool) {
        if let Some(channel) = i.and_then(|i| self.subs.remove(&i)) {
            assert!(temporary, "{channel} was refused");
            self.owe(channel);
            return;
        }
        let wait = self.world.millis(50, 400);
        let Some(outgoing) = &mut self.outgoing else {
            return;
        };
        if outgoing.i != i || i.is_none() {
            return;
        }
        outgoing.i = None;
        if temporary {
            outgoing.uncertain = true;
            outgoing.due = Instant::now() + wait;
            return;
        }
        let (body, uncertain) = (outgoing.body, outgoing.uncertain || outgoing.tries > 1);
        self.outgoing = None;
        if !uncertain {
            self.world.feed(&Event::Refused { body });
        }
    }

    fn obey(&mut self, order: Order) {
        self.world
            .note(|| format!("client {}: {order:?}", self.app.client.0));
        match order {
            Order::Cut => {
                while !self.lines.is_empty() {
                    self.lose(0);
                }
            }
            Order::Freeze(time) => {
                for line in &mut self.lines {
                    line.wire.freeze(time);
                }
            }
            Order::Double if self.app.has_begun() => {
                self.world.saw("a session resumed twice");
                self.connect();
            }
            Order::Double => {}
            Order::Forget => {
                while !self.lines.is_empty() {
                    self.lose(0);
                }
                self.app.forget();
            }
            Order::Acknowledge => {
                let handled = self.app.acknowledge();
                if self.is_open()
                    && let Some(line) = self.lines.back_mut()
                {
                    line.wire.send(&[Command::Ack(handled)]);
                }
            }
            Order::Again(channel) => self.again(&channel),
            Order::Steal(other) => {
                if let Some(credentials) = other.lock().clone() {
                    self.world.saw("a tab duplicated");
                    self.attempt = self.attempt.max(credentials.attempt);
                    *self.session.lock() = Some(credentials);
                    while !self.lines.is_empty() {
                        self.lose(0);
                    }
                }
            }
            Order::Calm => {
                self.is_calm = true;
                self.outgoing = None;
                self.publish_at = None;
                let late: Vec<_> = (0..self.lines.len())
                    .filter(|at| !self.lines[*at].is_welcome)
                    .collect();
                for at in late.into_iter().rev() {
                    self.lose(at);
                }
                for line in &mut self.lines {
                    line.wire.freeze(Duration::ZERO);
                }
                if self.lines.is_empty() {
                    self.back_off();
                }
            }
        }
    }

    /// Ends a subscription and begins it anew, in one breath.
    fn again(&mut self, channel: &ChannelName) {
        let wishes = self.app.wishes();
        let wish = wishes.into_iter().find(|wish| wish.channel == *channel);
        let Some(wish) = wish.filter(|_| self.is_open()) else {
            return;
        };
        self.next_i += 1;
        self.leaving.insert(self.next_i, channel.clone());
        let i = Some(self.next_i);
        if let Some(line) = self.lines.back_mut() {
            line.asked.remove(channel);
            let channel = channel.clone();
            line.wire.send(&[Command::Unsub { i, channel }]);
        }
        self.world.saw("unsub and sub in one breath");
        self.app.leave(channel);
        self.app.ask(wish);
        self.subscribe(channel);
    }
}

/// What a frame is about.
const fn channel_of(frame: &Frame) -> Option<&ChannelName> {
    match frame {
        Frame::Subscribed { channel, .. }
        | Frame::Msg { channel, .. }
        | Frame::State { channel, .. }
        | Frame::Live { channel, .. }
        | Frame::Gap { channel, .. }
        | Frame::Rewind { channel, .. }
        | Frame::Unsubscribed { channel, .. } => Some(channel),
        Frame::Welcome(_)
        | Frame::Done { .. }
        | Frame::Published { .. }
        | Frame::HistoryPage { .. }
        | Frame::StatePage { .. }
        | Frame::Error { .. }
        | Frame::Stale { .. }
        | Frame::Auth { .. }
        | Frame::Move { .. }
        | Frame::Ping
        | Frame::Bye { .. } => None,
    }
}

async fn receive(line: Option<&mut Line>, world: &World) -> Vec<Incoming> {
    match line {
        Some(line) => line.wire.receive(world).await,
        None => std::future::pending().await,
    }
}
