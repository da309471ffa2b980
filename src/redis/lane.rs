//! A lane on one server: the connection that hears announcements, kept alive.
//!
//! Owns the subscriptions of that connection, the canary and the rebuilding. Called by `Redis` to
//! follow and to leave. Never reads what is announced.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use redis::{Cmd, Pipeline, PushInfo, PushKind, Value, cmd};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::{
    call::Interest,
    context::Context,
    error::{CallError, RedisError},
    events::Sink,
    keyspace::Partition,
    link::Link,
    server::Server,
    wait::Waits,
};
use crate::random;

/// How often the canary flies.
const CANARY_EVERY: Duration = Duration::from_secs(1);
/// Canaries in a row that do not arrive before the lane is cut.
const CANARIES_MISSED_MAX: u64 = 3;
/// Channels subscribed, or left, in one message.
pub(super) const BATCH: usize = 256;

/// What one lane follows on any server: by pub/sub channel.
pub(super) type Followed = Mutex<HashMap<Vec<u8>, Partition>>;

/// One lane of one server.
#[derive(Debug)]
pub(super) struct Lane {
    context: Arc<Context>,
    server: Arc<Server>,
    index: usize,
    followed: Arc<Followed>,
    sink: Arc<Sink>,
    link: watch::Sender<Option<Arc<Link>>>,
    leaving: Mutex<Vec<Vec<u8>>>,
    left: Notify,
    heard: Arc<Canary>,
}

/// The canaries of a lane.
#[derive(Debug)]
struct Canary {
    /// Its channel, of this lane of this node alone.
    channel: Vec<u8>,
    sent: AtomicU64,
    heard: AtomicU64,
}

impl Lane {
    pub(super) fn new(
        context: &Arc<Context>,
        server: &Arc<Server>,
        index: usize,
        followed: &Arc<Followed>,
        sink: &Arc<Sink>,
    ) -> Arc<Self> {
        let tag = server
            .partitions()
            .first()
            .map_or("", |first| context.keyspace.tag(*first))
            .to_owned();
        let channel = format!("{tag}:canary:{:016x}:{index}", random::bits()).into_bytes();
        Arc::new(Self {
            context: Arc::clone(context),
            server: Arc::clone(server),
            index,
            followed: Arc::clone(followed),
            sink: Arc::clone(sink),
            link: watch::Sender::new(None),
            leaving: Mutex::default(),
            left: Notify::new(),
            heard: Arc::new(Canary {
                channel,
                sent: AtomicU64::new(0),
                heard: AtomicU64::new(0),
            }),
        })
    }

    /// Resolves once it hears; at most about the time of a handshake.
    pub(super) async fn ready(&self) {
        let mut link = self.link.subscribe();
        let built = link.wait_for(Option::is_some);
        if timeout(self.context.deadlines.handshake, built)
            .await
            .is_err()
        {
            tracing::warn!(server = %self.server.address(), lane = self.index, "a lane is not built yet");
        }
    }

    /// Subscribes and reads the head, back to back, each interest for itself. The caller has
    /// written the channels down in `followed` before.
    pub(super) async fn follow(&self, interests: &[&Interest]) -> Vec<Result<Value, CallError>> {
        let Some(link) = self.link.borrow().clone() else {
            return vec![Err(CallError::OutOfReach); interests.len()];
        };
        let calls: Vec<_> = interests.iter().map(|interest| &interest.head).collect();
        let subscribe = |at: usize| {
            let channel = interests.get(at).map_or(&[][..], |i| &i.announcements);
            self.subscribe(channel)
        };
        let deadline = self.context.deadlines.read;
        match timeout(deadline, link.exchange(&calls, Some(&subscribe))).await {
            Ok(answers) => answers,
            Err(_elapsed) => vec![Err(CallError::TimedOut); interests.len()],
        }
    }

    fn subscribe(&self, channel: &[u8]) -> Cmd {
        let mut subscribe = cmd("SUBSCRIBE");
        subscribe.arg(channel);
        subscribe
    }

    /// Leaves a channel soon. The caller has taken it out of `followed` before.
    pub(super) fn leave(&self, channel: Vec<u8>) {
        self.leaving.lock().push(channel);
        self.left.notify_one();
    }

    /// Keeps the connection until the server is stopped.
    pub(super) async fn keep(self: Arc<Self>) {
        let stop = self.server.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.run() => {}
        }
        self.link.send_replace(None);
    }

    async fn run(&self) {
        let mut waits = Waits::default();
        loop {
            // The command connection says whether the server can be used at all.
            let mut links = self.server.links();
            if links.wait_for(Option::is_some).await.is_err() {
                return;
            }
            match self.build().await {
                Ok(link) => {
                    let since = Instant::now();
                    let why = self.watch(&link).await;
                    self.link.send_replace(None);
                    tracing::warn!(server = %self.server.address(), lane = self.index, why, "a lane was cut");
                    self.context.metrics.broker_reconnects.increment(1);
                    waits.held(since.elapsed());
                }
                Err(error) => {
                    tracing::debug!(server = %self.server.address(), error = &error as &dyn std::error::Error, "no lane");
                }
            }
            waits.next().await;
        }
    }

    /// Connects, subscribes to all that is followed, and doubts it.
    async fn build(&self) -> Result<Arc<Link>, RedisError> {
        let partitions = self.server.partitions();
        let sink = Arc::clone(&self.sink);
        let followed = Arc::clone(&self.followed);
        let canary = Arc::clone(&self.heard);
        let heard = move |push: PushInfo| hear(push, &sink, &followed, &canary);
        let server = self.server.address();
        let link = Arc::new(Link::open(&self.context, server, &partitions, heard).await?);
        let mut channels: Vec<_> = {
            let followed = self.followed.lock();
            let ours = |(channel, partition): (&Vec<u8>, &Partition)| {
                partitions.contains(partition).then(|| channel.clone())
            };
            followed.iter().filter_map(ours).collect()
        };
        channels.push(self.heard.channel.clone());
        for batch in channels.chunks(BATCH) {
            let mut commands = Pipeline::with_capacity(batch.len());
            for channel in batch {
                commands.add_command(self.subscribe(channel));
            }
            self.within(link.send(&commands)).await?;
        }
        self.heard
            .heard
            .store(self.heard.sent.load(Ordering::Relaxed), Ordering::Relaxed);
        self.link.send_replace(Some(Arc::clone(&link)));
        self.sink.doubt(partitions);
        Ok(link)
    }

    async fn within(
        &self,
        sending: impl Future<Output = Result<Vec<Value>, redis::RedisError>>,
    ) -> Result<(), RedisError> {
        let server = || self.server.address().clone();
        let within = self.context.deadlines.handshake;
        let failed = |source| RedisError::Connect {
            server: server(),
            source,
        };
        let Ok(answers) = timeout(within, sending).await else {
            return Err(RedisError::Silent {
                server: server(),
                within,
            });
        };
        for answer in answers.map_err(failed)? {
            answer.extract_error().map_err(failed)?;
        }
        Ok(())
    }

    /// Resolves with the reason why the connection is to be given up.
    async fn watch(&self, link: &Link) -> &'static str {
        let mut every = interval(CANARY_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = link.closed() => return "it ended",
                () = self.left.notified() => {
                    if self.unsubscribe(link).await.is_err() {
                        return "it does not answer";
                    }
                    continue;
                }
                _now = every.tick() => {}
            }
            let heard = self.heard.heard.load(Ordering::Relaxed);
            if self
                .heard
                .sent
                .load(Ordering::Relaxed)
                .saturating_sub(heard)
                >= CANARIES_MISSED_MAX
            {
                return "the canary does not arrive";
            }
            let Some(command) = self.server.link() else {
                continue;
            };
            if command.identity() != link.identity() {
                return "the primary is another";
            }
            self.fly().await;
        }
    }

    /// Sends a canary through the command connection; only one that Redis took counts.
    async fn fly(&self) {
        let number = self.heard.sent.load(Ordering::Relaxed) + 1;
        let mut publish = cmd("PUBLISH");
        publish.arg(&self.heard.channel).arg(number);
        if self.server.command(&publish, CANARY_EVERY).await.is_ok() {
            self.heard.sent.store(number, Ordering::Relaxed);
        }
    }

    /// Leaves what is to be left. What is followed again meanwhile is subscribed again and
    /// doubted: the two may have met on the way.
    async fn unsubscribe(&self, link: &Link) -> Result<(), RedisError> {
        let leaving = std::mem::take(&mut *self.leaving.lock());
        for batch in leaving.chunks(BATCH) {
            let mut commands = Pipeline::with_capacity(batch.len());
            for channel in batch {
                commands.cmd("UNSUBSCRIBE").arg(channel);
            }
            self.within(link.send(&commands)).await?;
            let again: Vec<_> = {
                let followed = self.followed.lock();
                let known = |channel: &Vec<u8>| Some((channel.clone(), *followed.get(channel)?));
                batch.iter().filter_map(known).collect()
            };
            if again.is_empty() {
                continue;
            }
            let mut commands = Pipeline::with_capacity(again.len());
            for (channel, _) in &again {
                commands.add_command(self.subscribe(channel));
            }
            self.within(link.send(&commands)).await?;
            self.sink
                .doubt(again.into_iter().map(|(_, partition)| partition));
        }
        Ok(())
    }
}

/// Takes one push in the connection's driver: it must not wait.
fn hear(push: PushInfo, sink: &Sink, followed: &Followed, canary: &Canary) {
    if push.kind != PushKind::Message && push.kind != PushKind::SMessage {
        return;
    }
    let mut data = push.data.into_iter();
    let (Some(Value::BulkString(channel)), Some(Value::BulkString(payload))) =
        (data.next(), data.next())
    else {
        return;
    };
    if channel == canary.channel {
        let number = std::str::from_utf8(&payload)
            .ok()
            .and_then(|text| text.parse().ok());
        canary
            .heard
            .fetch_max(number.unwrap_or(0), Ordering::Relaxed);
        return;
    }
    let announcements = Bytes::from(channel);
    if !sink.push(announcements.clone(), Bytes::from(payload)) {
        let partition = followed.lock().get(announcements.as_ref()).copied();
        sink.doubt(partition);
    }
}
