//! One connection that passed the handshake: it knows whom it speaks to, and says so with every
//! call.
//!
//! Owns the generations found on this connection, the loading of scripts and the repeat after
//! `STALE` and `NOSCRIPT`. Called by `server` and `lane`. Never reconnects and sets no deadlines.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use parking_lot::Mutex;
use redis::{Cmd, ErrorKind, Pipeline, PushInfo, PushKind, Value, aio::MultiplexedConnection};
use tokio_util::sync::CancellationToken;

use super::{
    address::ServerAddress,
    call::{Call, bytes, is_stale, judged, text},
    connect::Kind,
    context::Context,
    error::{CallError, RedisError},
    generation::{Generation, Seeing},
    keyspace::Partition,
    script::Script,
};

/// Finds the generation of a partition; see the file.
static GENERATION: Script = Script::new("generation", include_str!("scripts/generation.lua"));

/// A command to put before each call, by the call's place: it has exactly one answer.
pub(super) type Before<'a> = Option<&'a (dyn Fn(usize) -> Cmd + Send + Sync)>;

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
            // What is served elsewhere meanwhile is found when a call needs it.
            link.handshake(partitions).await.map(drop)
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
            Err(error) => Err(CallError::of_connection(&error)),
        }
    }

    async fn load(&self, scripts: &[&'static Script]) -> Result<(), RedisError> {
        if scripts.is_empty() {
            return Ok(());
        }
        let mut commands = Pipeline::with_capacity(scripts.len());
        for script in scripts {
            commands.add_command(script.load());
        }
        for answer in self.send(&commands).await.map_err(|e| self.failed(e))? {
            answer.extract_error().map_err(|e| self.failed(e))?;
        }
        Ok(())
    }

    fn failed(&self, source: redis::RedisError) -> RedisError {
        RedisError::Connect {
            server: self.server.clone(),
            source,
        }
    }

    /// Finds the generations anew. Answers why not, for the first partition that is served
    /// elsewhere.
    pub(super) async fn handshake(
        &self,
        partitions: &[Partition],
    ) -> Result<Option<CallError>, RedisError> {
        if partitions.is_empty() {
            return Ok(None);
        }
        let count = self.context.keyspace.count();
        let mut commands = Pipeline::with_capacity(partitions.len());
        for (at, partition) in partitions.iter().enumerate() {
            // The first brings the text along: the server may have forgotten it.
            let how = if at == 0 {
                ("EVAL", GENERATION.source())
            } else {
                ("EVALSHA", GENERATION.digest())
            };
            commands
                .cmd(how.0)
                .arg(how.1)
                .arg(1)
                .arg(self.context.keyspace.generation_key(*partition))
                .arg(format!("{:016x}", crate::random::bits()))
                .arg(count);
        }
        let answers = self.send(&commands).await.map_err(|e| self.failed(e))?;
        let mut changed = Vec::new();
        let mut elsewhere = None;
        for (partition, answer) in partitions.iter().zip(answers) {
            if let Err(error) = judged(answer.clone())
                && error.is_redirect()
            {
                self.found.lock().generations.remove(partition);
                elsewhere.get_or_insert(error);
                continue;
            }
            let answer = answer.extract_error().map_err(|e| self.failed(e))?;
            if self.take(*partition, &answer)? == Seeing::Changed {
                changed.push(*partition);
            }
        }
        if !changed.is_empty() {
            tracing::warn!(server = %self.server, partitions = changed.len(), "another generation of the primary");
            self.context.doubt(&changed);
        }
        Ok(elsewhere)
    }

    /// Takes note of one answer of the handshake.
    fn take(&self, partition: Partition, answer: &Value) -> Result<Seeing, RedisError> {
        let server = || self.server.clone();
        let parts = if let Value::Array(parts) = answer {
            parts.as_slice()
        } else {
            &[]
        };
        let part = |at: usize| parts.get(at).and_then(text).unwrap_or_default();
        if part(0) == "REPLICA" {
            return Err(RedisError::Replica { server: server() });
        }
        let Some(generation) = Generation::parse(part(1)) else {
            return Err(RedisError::Handshake {
                server: server(),
                answer: format!("{:?}", parts.first().and_then(bytes)),
            });
        };
        let configured = self.context.keyspace.count();
        if part(3) != configured.to_string() {
            return Err(RedisError::Partitions {
                server: server(),
                stored: part(3).to_owned(),
                configured,
            });
        }
        let seeing = self
            .context
            .seen
            .see(partition, &generation, Instant::now());
        if seeing == Seeing::Left {
            return Err(RedisError::LeftBehind { server: server() });
        }
        let mut found = self.found.lock();
        part(2).clone_into(&mut found.identity);
        found.generations.insert(partition, generation);
        Ok(seeing)
    }

    /// Takes each step and answers in their order. Steps that were refused because the generation
    /// is another, or because the script is unknown, are taken once more after repair.
    pub(super) async fn exchange(
        &self,
        calls: &[&Call],
        before: Before<'_>,
    ) -> Vec<Result<Value, CallError>> {
        let unknown: Vec<_> = calls
            .iter()
            .map(|call| call.partition)
            .filter(|partition| self.generation(*partition).is_none())
            .collect();
        if let Err(error) = self.find(unknown).await {
            return vec![Err(error); calls.len()];
        }
        let all: Vec<usize> = (0..calls.len()).collect();
        let mut answers = self.attempt(calls, before, &all).await;
        let again: Vec<usize> = all
            .into_iter()
            .filter(|at| answers.get(*at).is_some_and(is_repairable))
            .collect();
        if again.is_empty() {
            return answers;
        }
        let repaired = self.repair(calls, &answers, &again).await;
        let repeated = match repaired {
            Ok(()) => self.attempt(calls, before, &again).await,
            Err(error) => vec![Err(error); again.len()],
        };
        for (at, answer) in again.into_iter().zip(repeated) {
            if let Some(slot) = answers.get_mut(at) {
                *slot = match answer {
                    Ok(answer) if is_stale(&answer) => Err(CallError::Distrusted),
                    answer => answer,
                };
            }
        }
        answers
    }

    async fn attempt(
        &self,
        calls: &[&Call],
        before: Before<'_>,
        which: &[usize],
    ) -> Vec<Result<Value, CallError>> {
        let mut commands = Pipeline::with_capacity(which.len() * 2);
        for (at, call) in which.iter().filter_map(|at| Some((*at, calls.get(*at)?))) {
            let Some(generation) = self.generation(call.partition) else {
                return vec![Err(CallError::Distrusted); which.len()];
            };
            if let Some(before) = before {
                commands.add_command(before(at));
            }
            commands.add_command(call.command(&self.context.keyspace, &generation));
        }
        let answers = match self.send(&commands).await {
            Ok(answers) => answers,
            Err(error) => return vec![Err(CallError::of_connection(&error)); which.len()],
        };
        let mut answers = answers.into_iter().map(judged);
        let mut next = || answers.next().unwrap_or(Err(CallError::Lost));
        which
            .iter()
            .map(|_| {
                let ahead = before.map_or(Ok(Value::Nil), |_| next());
                let answer = next();
                ahead.and(answer)
            })
            .collect()
    }

    /// Takes a step whose slot is on its way to this server, under the generation that its
    /// present server has.
    pub(super) async fn take_over(
        &self,
        call: &Call,
        generation: &Generation,
    ) -> Result<Value, CallError> {
        let mut commands = Pipeline::with_capacity(3);
        commands.add_command(call.script.load());
        commands.cmd("ASKING");
        commands.add_command(call.command(&self.context.keyspace, generation));
        match self.send(&commands).await {
            Ok(answers) => judged(answers.into_iter().next_back().unwrap_or_default()),
            Err(error) => Err(CallError::of_connection(&error)),
        }
    }

    /// Makes a repeat worth while: loads what is unknown, finds generations anew.
    async fn repair(
        &self,
        calls: &[&Call],
        answers: &[Result<Value, CallError>],
        again: &[usize],
    ) -> Result<(), CallError> {
        let mut unknown: Vec<&'static Script> = Vec::new();
        let mut stale = Vec::new();
        for at in again {
            let Some(call) = calls.get(*at) else { continue };
            if matches!(answers.get(*at), Some(Ok(_))) {
                stale.push(call.partition);
            } else if !unknown
                .iter()
                .any(|known| std::ptr::eq(*known, call.script))
            {
                unknown.push(call.script);
            }
        }
        self.load(&unknown).await.map_err(|error| refusal(&error))?;
        self.find(stale).await
    }

    async fn find(&self, mut partitions: Vec<Partition>) -> Result<(), CallError> {
        partitions.sort_unstable();
        partitions.dedup();
        match self.handshake(&partitions).await {
            Ok(None) => Ok(()),
            Ok(Some(elsewhere)) => Err(elsewhere),
            Err(error) => {
                tracing::debug!(server = %self.server, %error, "the handshake was not repeated");
                Err(refusal(&error))
            }
        }
    }
}

fn is_repairable(answer: &Result<Value, CallError>) -> bool {
    match answer {
        Ok(answer) => is_stale(answer),
        Err(error) => error.has_code("NOSCRIPT"),
    }
}

/// What a failed handshake means for the call that needed it.
fn refusal(error: &RedisError) -> CallError {
    if let RedisError::Connect { source, .. } = error
        && let Some(code) = source.code()
    {
        return CallError::Refused {
            code: code.to_owned(),
            detail: source.detail().unwrap_or_default().to_owned(),
        };
    }
    CallError::Distrusted
}
