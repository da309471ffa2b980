//! A lane on one server: the connection that hears announcements, kept alive.
//!
//! Owns the subscriptions of that connection, the canary and the rebuilding. Called by `Redis` to
//! follow and to leave. Never reads what is announced.

use std::{error::Error, sync::Arc, time::Duration};

use parking_lot::Mutex;
use redis::{Cmd, Pipeline, PushInfo, Value, cmd};
use tokio::{
    sync::{Notify, RwLock, watch},
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::{
    call::Interest,
    context::Context,
    ear::{Canary, Ear, Followed},
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

/// How long a subscription goes after its partition, as a step does.
pub(super) const FOLLOW_MAX: Duration = Duration::from_secs(2);

/// One lane of one server.
#[derive(Debug)]
pub(super) struct Lane {
    context: Arc<Context>,
    server: Arc<Server>,
    index: usize,
    followed: Arc<Followed>,
    sink: Arc<Sink>,
    link: watch::Sender<Option<Arc<Link>>>,
    work: Mutex<Work>,
    changed: Notify,
    /// Shared by those that follow, exclusive to the leaving.
    order: RwLock<()>,
}

/// What the connection is still to be told.
#[derive(Debug, Default)]
struct Work {
    /// Whether there is a connection, or one is being made: without, there is nothing to tell.
    is_connected: bool,
    /// Channels to leave.
    leaving: Vec<Vec<u8>>,
    /// Partitions that came to this server: their channels are to be heard.
    adopted: Vec<Partition>,
}

impl Work {
    fn take(&mut self) -> Self {
        std::mem::replace(
            self,
            Self {
                is_connected: self.is_connected,
                ..Self::default()
            },
        )
    }
}

impl Lane {
    pub(super) fn new(
        context: &Arc<Context>,
        server: &Arc<Server>,
        index: usize,
        followed: &Arc<Followed>,
        sink: &Arc<Sink>,
    ) -> Arc<Self> {
        Arc::new(Self {
            context: Arc::clone(context),
            server: Arc::clone(server),
            index,
            followed: Arc::clone(followed),
            sink: Arc::clone(sink),
            link: watch::Sender::new(None),
            work: Mutex::default(),
            changed: Notify::new(),
            order: RwLock::new(()),
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
        let Some(link) = self.soon().await else {
            return vec![Err(CallError::OutOfReach); interests.len()];
        };
        let calls: Vec<_> = interests.iter().map(|interest| &interest.head).collect();
        let subscribe = |at: usize| {
            let channel = interests.get(at).map_or(&[][..], |i| &i.announcements);
            self.subscribe(channel)
        };
        let deadline = self.context.deadlines.read;
        let step = async {
            let _shared = self.order.read().await;
            link.exchange(&calls, Some(&subscribe)).await
        };
        match timeout(deadline, step).await {
            Ok(answers) => answers,
            Err(_elapsed) => vec![Err(CallError::TimedOut); interests.len()],
        }
    }

    /// The connection, or the one that is being made while the server is in reach.
    async fn soon(&self) -> Option<Arc<Link>> {
        self.server.soon().await?;
        let mut link = self.link.subscribe();
        let built = timeout(self.context.deadlines.read, link.wait_for(Option::is_some)).await;
        built.ok()?.ok()?.clone()
    }

    fn subscribe(&self, channel: &[u8]) -> Cmd {
        let mut subscribe = cmd(if self.context.is_sharded() {
            "SSUBSCRIBE"
        } else {
            "SUBSCRIBE"
        });
        subscribe.arg(channel);
        subscribe
    }

    /// Leaves a channel soon. The caller has taken it out of `followed` before.
    pub(super) fn leave(&self, channel: Vec<u8>) {
        let mut work = self.work.lock();
        if work.is_connected {
            work.leaving.push(channel);
            self.changed.notify_one();
        }
    }

    /// Hears what is followed in partitions that came to the server, soon, and doubts it.
    pub(super) fn adopt(&self, partitions: &[Partition]) {
        let mut work = self.work.lock();
        if work.is_connected {
            work.adopted.extend(partitions);
            self.changed.notify_one();
        }
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
                Ok((link, canary)) => {
                    let since = Instant::now();
                    let why = self.watch(&link, &canary).await;
                    self.link.send_replace(None);
                    tracing::warn!(server = %self.server.address(), lane = self.index, why, "a lane was cut");
                    self.context.metrics.broker_reconnects.increment(1);
                    waits.held(since.elapsed());
                }
                Err(error) if waits.is_first() => {
                    tracing::warn!(server = %self.server.address(), lane = self.index, error = &error as &dyn Error, "a lane cannot be built");
                }
                Err(_same) => {}
            }
            *self.work.lock() = Work::default();
            waits.next().await;
        }
    }

    /// Connects, subscribes to all that is followed, and doubts it.
    async fn build(&self) -> Result<(Arc<Link>, Arc<Canary>), RedisError> {
        *self.work.lock() = Work {
            is_connected: true,
            ..Work::default()
        };
        let partitions = self.server.partitions();
        let tag = partitions
            .first()
            .map_or("", |first| self.context.keyspace.tag(*first));
        let nonce = random::bits();
        let channel = format!("{tag}:canary:{nonce:016x}:{}", self.index);
        let canary = Arc::new(Canary::new(channel));
        let ear = Ear {
            sink: Arc::clone(&self.sink),
            followed: Arc::clone(&self.followed),
            canary: Arc::clone(&canary),
        };
        let heard = move |push: PushInfo| ear.hear(push);
        let server = self.server.address();
        let link = Link::open(&self.context, server, &partitions, heard).await?;
        let mut channels = self.followed_in(&partitions);
        channels.push(canary.channel().to_vec());
        self.subscribe_all(&link, &channels).await?;
        let link = Arc::new(link);
        self.link.send_replace(Some(Arc::clone(&link)));
        self.sink.doubt(partitions);
        Ok((link, canary))
    }

    fn followed_in(&self, partitions: &[Partition]) -> Vec<Vec<u8>> {
        let followed = self.followed.lock();
        let is_in = |(channel, partition): (&Vec<u8>, &Partition)| {
            partitions.contains(partition).then(|| channel.clone())
        };
        followed.iter().filter_map(is_in).collect()
    }

    async fn subscribe_all(&self, link: &Link, channels: &[Vec<u8>]) -> Result<(), RedisError> {
        for batch in channels.chunks(BATCH) {
            let mut commands = Pipeline::with_capacity(batch.len());
            for channel in batch {
                commands.add_command(self.subscribe(channel));
            }
            self.within(link.send(&commands)).await?;
        }
        Ok(())
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
    async fn watch(&self, link: &Link, canary: &Canary) -> &'static str {
        let mut every = interval(CANARY_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = link.closed() => {
                    if !link.is_broken() {
                        return "it ended";
                    }
                    self.context.hint.notify_one();
                    return "a slot moved away";
                }
                () = self.changed.notified() => {
                    if self.do_work(link).await.is_err() {
                        return "it does not answer";
                    }
                    continue;
                }
                _now = every.tick() => {}
            }
            if canary.missed() >= CANARIES_MISSED_MAX {
                return "the canary does not arrive";
            }
            let Some(command) = self.server.link() else {
                continue;
            };
            if command.identity() != link.identity() {
                return "the primary is another";
            }
            self.fly(canary).await;
        }
    }

    /// Sends a canary through the command connection; only one that Redis took counts.
    async fn fly(&self, canary: &Canary) {
        let number = canary.next();
        let mut publish = cmd(if self.context.is_sharded() {
            "SPUBLISH"
        } else {
            "PUBLISH"
        });
        publish.arg(canary.channel()).arg(number);
        if self.server.command(&publish, CANARY_EVERY).await.is_ok() {
            canary.was_sent(number);
        }
    }

    async fn do_work(&self, link: &Link) -> Result<(), RedisError> {
        let mut work = self.work.lock().take();
        // Two confirmations of one channel would be one too many.
        work.leaving.sort_unstable();
        work.leaving.dedup();
        if !work.adopted.is_empty() {
            let channels = self.followed_in(&work.adopted);
            self.subscribe_all(link, &channels).await?;
            self.sink.doubt(work.adopted);
        }
        if work.leaving.is_empty() {
            return Ok(());
        }
        // Whoever follows meanwhile waits, so that no subscription is sent before the leaving of
        // the same channel and taken back by it.
        let _alone = self.order.write().await;
        let left: Vec<_> = {
            let followed = self.followed.lock();
            let is_left = |channel: &Vec<u8>| !followed.contains_key(channel);
            work.leaving.into_iter().filter(is_left).collect()
        };
        for batch in left.chunks(BATCH) {
            self.within(link.unsubscribe(batch)).await?;
        }
        Ok(())
    }
}
