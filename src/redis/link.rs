//! One connection that passed the handshake: it knows whom it speaks to, and says so with every
//! call.
//!
//! Owns the connection and the generations found on it; `handshake` finds them, `exchange` takes
//! steps. Called by `server`, `lane` and `barrier`. Never reconnects and sets no deadlines.

mod exchange;
mod handshake;

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use redis::{Cmd, ErrorKind, Pipeline, PushInfo, PushKind, Value, aio::MultiplexedConnection};
use tokio_util::sync::CancellationToken;

pub(super) use self::exchange::Before;
use super::{
    address::ServerAddress,
    call::{bytes, judged},
    connect::Kind,
    context::Context,
    error::{CallError, RedisError},
    generation::Generation,
    keyspace::Partition,
};

/// One connection and what its handshake found.
pub(super) struct Link {
    context: Arc<Context>,
    server: ServerAddress,
    connection: MultiplexedConnection,
    found: Mutex<Found>,
    /// Cancelled when the connection has ended.
    closed: CancellationToken,
    leaving: Arc<Leaving>,
}

/// Channels that this connection is about to leave. A confirmation of any other channel means that
/// its slot moved away. The client takes such a confirmation for an answer, so that all further
/// answers are one place off: nothing of the connection can be used from then on.
#[derive(Debug, Default)]
struct Leaving {
    channels: Mutex<HashSet<Vec<u8>>>,
    is_broken: AtomicBool,
}

impl Leaving {
    /// Whether the push may be believed, and all that follow.
    fn confirms(&self, push: &PushInfo) -> bool {
        if push.kind == PushKind::SUnsubscribe || push.kind == PushKind::Unsubscribe {
            let channel = push.data.first().and_then(bytes).unwrap_or_default();
            if !self.channels.lock().remove(channel) {
                self.is_broken.store(true, Ordering::Release);
                return false;
            }
        }
        true
    }
}

#[derive(Debug, Default)]
struct Found {
    identity: String,
    generations: BTreeMap<Partition, Generation>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("server", &self.server)
            .field("found", &self.found)
            .finish_non_exhaustive()
    }
}

impl Link {
    /// Connects, loads the scripts and finds the generations of `partitions`. `heard` gets every
    /// push, in the connection's driver.
    pub(super) async fn open(
        context: &Arc<Context>,
        server: &ServerAddress,
        partitions: &[Partition],
        heard: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<Self, RedisError> {
        let closed = CancellationToken::new();
        let leaving = Arc::<Leaving>::default();
        let (ended, left) = (closed.clone(), Arc::clone(&leaving));
        let heard = move |push: PushInfo| {
            if push.kind == PushKind::Disconnection || !left.confirms(&push) {
                ended.cancel();
            } else {
                heard(push);
            }
        };
        let connection = context.dialer.connect(server, Kind::Redis, heard).await?;
        let link = Self {
            context: Arc::clone(context),
            server: server.clone(),
            connection,
            found: Mutex::default(),
            closed,
            leaving,
        };
        let handshake = async {
            link.load(&context.scripts).await?;
            let elsewhere = link.handshake(partitions).await?;
            // In a Cluster, what is served elsewhere meanwhile is found when a call needs it.
            if elsewhere.is_none() || context.is_sharded() {
                return Ok(());
            }
            Err(RedisError::Clustered {
                server: server.clone(),
            })
        };
        let within = context.deadlines.handshake;
        match tokio::time::timeout(within, handshake).await {
            Ok(done) => done.map(|()| link),
            Err(_elapsed) => Err(RedisError::Silent {
                server: server.clone(),
                within,
            }),
        }
    }

    /// Whom it speaks to, as the server said: another after a restart or a failover.
    pub(super) fn identity(&self) -> String {
        self.found.lock().identity.clone()
    }

    /// The generation that calls of this connection carry.
    pub(super) fn generation(&self, partition: Partition) -> Option<Generation> {
        self.found.lock().generations.get(&partition).cloned()
    }

    /// Resolves when the connection has ended.
    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Whether a channel was taken from it: its slot moved away.
    pub(super) fn is_broken(&self) -> bool {
        self.leaving.is_broken.load(Ordering::Acquire)
    }

    /// Sends commands as one message; one answer each.
    pub(super) async fn send(&self, commands: &Pipeline) -> Result<Vec<Value>, redis::RedisError> {
        let mut connection = self.connection.clone();
        let answers = connection
            .send_packed_commands(commands, 0, commands.len())
            .await?;
        if self.is_broken() {
            return Err((ErrorKind::Io, "the slot moved away").into());
        }
        Ok(answers)
    }

    /// Leaves channels of announcements.
    pub(super) async fn unsubscribe(
        &self,
        channels: &[Vec<u8>],
    ) -> Result<Vec<Value>, redis::RedisError> {
        self.leaving
            .channels
            .lock()
            .extend(channels.iter().cloned());
        let mut commands = Pipeline::with_capacity(channels.len());
        for channel in channels {
            let how = if self.context.is_sharded() {
                "SUNSUBSCRIBE"
            } else {
                "UNSUBSCRIBE"
            };
            commands.cmd(how).arg(channel);
        }
        self.send(&commands).await
    }

    /// Sends one command.
    pub(super) async fn command(&self, command: &Cmd) -> Result<Value, CallError> {
        let mut connection = self.connection.clone();
        match connection.send_packed_command(command).await {
            Ok(answer) => judged(answer),
            Err(_ended) => Err(CallError::Lost),
        }
    }
}
