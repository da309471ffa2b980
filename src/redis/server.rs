//! One server: the connection for commands, kept alive.
//!
//! Owns the reconnecting, the probe of each second and the breaker. Called by `calls` for every
//! step and by `lane` for the canary. Never asks where partitions are: it is told.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use parking_lot::RwLock;
use redis::{Cmd, Value, cmd};
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    address::ServerAddress,
    call::Call,
    context::Context,
    error::{CallError, RedisError},
    generation::Generation,
    keyspace::Partition,
    link::{Before, Link},
    offsets::Reading,
    safety::{self, Risk},
    wait::Waits,
};
use crate::clock;

/// How often role and generation are looked at: a demoted primary serves at most this long.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// How long a probe waits: with its interval below the 3 s within which clients are told.
const PROBE_MAX: Duration = Duration::from_millis(1_500);
/// Probes between two looks at the settings: about a minute.
const INSPECT_TURNS: usize = 60;
/// Time-outs in a row that open the breaker.
const TIMEOUTS_MAX: u32 = 5;
/// How long a step waits for a connection that ended and is made again: a few round trips.
const BLIP_MAX: Duration = Duration::from_millis(250);
/// Steps in flight on one server; more wait within their deadline.
const IN_FLIGHT_MAX: usize = 4_096;

/// One server and the connection for commands to it.
#[derive(Debug)]
pub(super) struct Server {
    context: Arc<Context>,
    address: ServerAddress,
    partitions: RwLock<Vec<Partition>>,
    /// The connection; none while the breaker is open.
    link: watch::Sender<Option<Arc<Link>>>,
    in_flight: Semaphore,
    timeouts: AtomicU32,
    /// The breaker opens.
    cut: Notify,
    /// Ends everything of this server.
    pub(super) stop: CancellationToken,
}

/// Why a connection was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It ended by itself.
    Closed,
    /// The server does not answer in time.
    Silent,
    /// The server is a primary no more, or one that was left.
    Distrusted,
}

impl Server {
    pub(super) fn new(
        context: &Arc<Context>,
        address: ServerAddress,
        partitions: Vec<Partition>,
    ) -> Arc<Self> {
        Arc::new(Self {
            context: Arc::clone(context),
            address,
            partitions: RwLock::new(partitions),
            link: watch::Sender::new(None),
            in_flight: Semaphore::new(IN_FLIGHT_MAX),
            timeouts: AtomicU32::new(0),
            cut: Notify::new(),
            stop: CancellationToken::new(),
        })
    }

    pub(super) const fn address(&self) -> &ServerAddress {
        &self.address
    }

    pub(super) fn partitions(&self) -> Vec<Partition> {
        self.partitions.read().clone()
    }

    pub(super) fn set_partitions(&self, partitions: Vec<Partition>) {
        *self.partitions.write() = partitions;
    }

    /// The connection, while there is one.
    pub(super) fn link(&self) -> Option<Arc<Link>> {
        self.link.borrow().clone()
    }

    /// The connection, or the next one if that is only being made: none at once while the server
    /// is out of reach.
    pub(super) async fn soon(&self) -> Option<Arc<Link>> {
        let mut link = self.link.subscribe();
        if link.borrow().is_none() && self.context.reach.is_lost_at(&self.address) {
            return None;
        }
        let made = timeout(BLIP_MAX, link.wait_for(Option::is_some)).await;
        made.ok()?.ok()?.clone()
    }

    /// Changes whenever the connection is made or given up.
    pub(super) fn links(&self) -> watch::Receiver<Option<Arc<Link>>> {
        self.link.subscribe()
    }

    /// Connects once; [`Self::keep`] goes on from there.
    pub(super) async fn connect(&self) -> Result<(), RedisError> {
        let partitions = self.partitions();
        let link = Link::open(&self.context, &self.address, &partitions, |_push| {}).await?;
        self.inspect(&link).await;
        self.link.send_replace(Some(Arc::new(link)));
        Ok(())
    }

    /// Looks at the settings of the server. One that does not answer is the probe's concern.
    async fn inspect(&self, link: &Link) {
        let asked = timeout(PROBE_MAX, link.send(&safety::question())).await;
        if let Ok(Ok(answers)) = asked {
            let topology = &self.context.dialer.address().topology;
            let risks = safety::risks(&answers, topology);
            self.context.safety.report(&self.address, risks);
            self.context.tell_safety();
        }
    }

    /// Takes each step within the deadline of its kind.
    pub(super) async fn exchange(
        &self,
        calls: &[&Call],
        before: Before<'_>,
    ) -> Vec<Result<Value, CallError>> {
        let Some(link) = self.soon().await else {
            return vec![Err(CallError::OutOfReach); calls.len()];
        };
        let deadlines = self.context.deadlines;
        let deadline = if calls.iter().all(|call| call.is_write) {
            deadlines.write
        } else {
            deadlines.read
        };
        let step = async {
            let permits = u32::try_from(calls.len().min(IN_FLIGHT_MAX)).unwrap_or(1);
            let _permits = self.in_flight.acquire_many(permits).await;
            link.exchange(calls, before).await
        };
        let Ok(answers) = timeout(deadline, step).await else {
            self.count_timeout();
            return vec![Err(CallError::TimedOut); calls.len()];
        };
        self.timeouts.store(0, Ordering::Relaxed);
        let is_demoted = |answer: &Result<Value, CallError>| {
            answer
                .as_ref()
                .is_err_and(|error| error.has_code("READONLY"))
        };
        if answers.iter().any(is_demoted) {
            self.cut.notify_one();
        }
        answers
    }

    /// Takes a step whose slot is on its way to this server.
    pub(super) async fn take_over(
        &self,
        call: &Call,
        generation: &Generation,
    ) -> Result<Value, CallError> {
        let link = self.link().ok_or(CallError::OutOfReach)?;
        let step = timeout(
            self.context.deadlines.write,
            link.take_over(call, generation),
        );
        step.await.unwrap_or(Err(CallError::TimedOut))
    }

    /// Sends one command outside of any script, for the canary.
    pub(super) async fn command(
        &self,
        command: &Cmd,
        within: Duration,
    ) -> Result<Value, CallError> {
        let link = self.link().ok_or(CallError::OutOfReach)?;
        let answer = timeout(within, link.command(command)).await;
        answer.unwrap_or(Err(CallError::TimedOut))
    }

    fn count_timeout(&self) {
        if self.timeouts.fetch_add(1, Ordering::Relaxed) + 1 >= TIMEOUTS_MAX {
            self.timeouts.store(0, Ordering::Relaxed);
            self.cut.notify_one();
        }
    }

    /// Keeps the connection until the server is stopped.
    pub(super) async fn keep(self: Arc<Self>) {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.run() => {}
        }
        self.link.send_replace(None);
        self.context.reach.regain(&self.address);
        self.context.safety.forget(&self.address);
        self.context.offsets.forget(&self.address);
        self.context.tell_safety();
    }

    async fn run(&self) {
        let mut waits = Waits::default();
        loop {
            if self.link().is_none()
                && let Err(error) = self.connect().await
            {
                self.context.reach.lose(&self.address);
                if let RedisError::NoReplicas { .. } = error {
                    self.context
                        .safety
                        .report(&self.address, vec![Risk::Unwritable]);
                    self.context.tell_safety();
                }
                if waits.is_first() {
                    tracing::warn!(server = %self.address, error = &error as &dyn Error, "no connection to redis");
                }
            }
            if let Some(link) = self.link() {
                self.context.reach.regain(&self.address);
                // What was counted against the connection before does not count against this.
                self.timeouts.store(0, Ordering::Relaxed);
                let _earlier = self.cut.notified().now_or_never();
                let since = Instant::now();
                let end = self.watch(&link).await;
                self.link.send_replace(None);
                self.context.metrics.broker_reconnects.increment(1);
                tracing::warn!(server = %self.address, ?end, "a connection to redis was given up");
                match end {
                    // The next attempt says whether it is out of reach.
                    End::Closed => {}
                    End::Silent | End::Distrusted => self.context.reach.lose(&self.address),
                }
                waits.held(since.elapsed());
            }
            self.context.hint.notify_one();
            waits.next().await;
        }
    }

    /// Resolves when the connection is to be given up.
    async fn watch(&self, link: &Link) -> End {
        let mut every = interval(PROBE_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut turn = 0_usize;
        loop {
            tokio::select! {
                () = link.closed() => return End::Closed,
                () = self.cut.notified() => return End::Silent,
                _now = every.tick() => {}
            }
            if let Some(end) = self.probe(link, turn).await {
                return end;
            }
            turn = turn.wrapping_add(1);
            if turn.is_multiple_of(INSPECT_TURNS) {
                self.inspect(link).await;
            }
        }
    }

    /// Compares the server's clock with this machine's.
    async fn ask_time(&self, link: &Link) {
        let asked_us = clock::uptime_us();
        if let Ok(answer) = link.command(&cmd("TIME")).await
            && let Some(reading) = Reading::of(&answer, asked_us, clock::uptime_us())
        {
            self.context.offsets.report(&self.address, reading);
        }
    }

    /// Looks at role and generation through one partition, another each time.
    async fn probe(&self, link: &Link, turn: usize) -> Option<End> {
        let partitions = self.partitions();
        let partition = *partitions.get(turn % partitions.len().max(1))?;
        let identity = link.identity();
        let started = Instant::now();
        let partition = [partition];
        // The clock is asked first: its answer must not wait for the script's.
        let looks = async { tokio::join!(self.ask_time(link), link.handshake(&partition)).1 };
        match timeout(PROBE_MAX, looks).await {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(_elsewhere))) => {
                self.context.hint.notify_one();
                return None;
            }
            Ok(Err(error)) => {
                tracing::warn!(server = %self.address, error = &error as &dyn Error, "the probe failed");
                return Some(if link.is_closed() {
                    End::Closed
                } else {
                    End::Distrusted
                });
            }
            Err(_elapsed) => return Some(End::Silent),
        }
        let seconds = started.elapsed().as_secs_f64();
        self.context
            .metrics
            .broker_round_trip_seconds
            .record(seconds);
        if link.identity() != identity {
            // One look is enough to see another primary; the others of its partitions follow.
            return match timeout(PROBE_MAX, link.handshake(&partitions)).await {
                Ok(Ok(_)) => None,
                Ok(Err(_)) => Some(End::Distrusted),
                Err(_elapsed) => Some(End::Silent),
            };
        }
        None
    }
}
