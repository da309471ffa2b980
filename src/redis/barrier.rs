//! The barrier behind acknowledgement class `replicated`: has a replica what was written?
//!
//! Owns one connection to a server that does `SET` and `WAIT 1` in a loop, for all that wait
//! (experiment E13: `WAIT` speaks for its own connection, blocks it, and does not work in scripts).
//! Called by `Redis::replicated`. It is no consensus: `GUARANTEES.md` says what it is.

use std::sync::Arc;

use redis::{Pipeline, Value};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    call::judged, context::Context, error::CallError, keyspace::Partition, link::Link,
    server::Server,
};

/// Most that wait at a time; more are refused.
const WAITING_MAX: usize = 16_384;
/// How long the key of the barrier lives, ms: it means nothing after its `WAIT`.
const KEY_TTL_MS: u32 = 60_000;

/// Who waits, and for what.
#[derive(Debug)]
struct Waiter {
    partition: Partition,
    /// What was written is of this generation: a replica of another primary proves nothing.
    generation: String,
    done: oneshot::Sender<Result<(), CallError>>,
}

/// The barrier of one server.
#[derive(Debug)]
pub(super) struct Barrier {
    waiting: mpsc::Sender<Waiter>,
    context: Arc<Context>,
}

impl Barrier {
    /// The barrier, and the end its keeper reads.
    pub(super) fn new(context: &Arc<Context>) -> (Self, Waiting) {
        let (waiting, queue) = mpsc::channel(WAITING_MAX);
        let barrier = Self {
            waiting,
            context: Arc::clone(context),
        };
        (barrier, Waiting(queue))
    }

    /// Waits until a replica has all that was written before this call under the generation.
    pub(super) async fn pass(
        &self,
        partition: Partition,
        generation: &str,
    ) -> Result<(), CallError> {
        let (done, passed) = oneshot::channel();
        let waiter = Waiter {
            partition,
            generation: generation.to_owned(),
            done,
        };
        if self.waiting.try_send(waiter).is_err() {
            return Err(CallError::NotReplicated);
        }
        // One round may be under way already; ours is the next.
        let within = self.context.deadlines.write * 2 + self.context.deadlines.handshake;
        match timeout(within, passed).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(CallError::NotReplicated),
        }
    }
}

/// The reading end of a barrier.
#[derive(Debug)]
pub(super) struct Waiting(mpsc::Receiver<Waiter>);

impl Waiting {
    /// Serves the barrier until the server is stopped.
    pub(super) async fn keep(mut self, server: Arc<Server>, context: Arc<Context>) {
        let stop = server.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.run(&server, &context) => {}
        }
    }

    async fn run(&mut self, server: &Server, context: &Arc<Context>) {
        let mut link: Option<Link> = None;
        let mut round = Vec::new();
        while self.0.recv_many(&mut round, WAITING_MAX).await > 0 {
            if link.as_ref().is_none_or(Link::is_closed) {
                link = None;
                if server.link().is_some() {
                    link = Link::open(context, server.address(), &[], |_push| {})
                        .await
                        .ok();
                }
            }
            let Some(open) = &link else {
                finish(&mut round, &Err(CallError::OutOfReach));
                continue;
            };
            find(open, &round).await;
            let is_current = |waiter: &Waiter| {
                open.generation(waiter.partition)
                    .is_some_and(|found| found.as_str() == waiter.generation)
            };
            let (mut current, mut gone): (Vec<_>, Vec<_>) = round.drain(..).partition(is_current);
            finish(&mut gone, &Err(CallError::NotReplicated));
            let Some(first) = current.first() else {
                continue;
            };
            let key = format!("{}:barrier", context.keyspace.tag(first.partition));
            let answer = wait(open, &key, context).await;
            if answer == Err(CallError::Lost) || answer == Err(CallError::TimedOut) {
                link = None;
            }
            finish(&mut current, &answer);
        }
    }
}

/// Finds the generations that are not known, or not those that are waited for.
async fn find(link: &Link, round: &[Waiter]) {
    let mut unknown: Vec<_> = round
        .iter()
        .filter(|waiter| {
            link.generation(waiter.partition)
                .is_none_or(|found| found.as_str() != waiter.generation)
        })
        .map(|waiter| waiter.partition)
        .collect();
    unknown.sort_unstable();
    unknown.dedup();
    if let Err(error) = link.handshake(&unknown).await {
        tracing::debug!(%error, "the barrier does not know the primary");
    }
}

async fn wait(link: &Link, key: &str, context: &Context) -> Result<(), CallError> {
    let within = context.deadlines.write;
    let mut commands = Pipeline::with_capacity(2);
    commands
        .cmd("SET")
        .arg(key)
        .arg(1)
        .arg("PX")
        .arg(KEY_TTL_MS);
    commands
        .cmd("WAIT")
        .arg(1)
        .arg(u64::try_from(within.as_millis()).unwrap_or(u64::MAX));
    let answers = timeout(within + context.deadlines.write, link.send(&commands)).await;
    let answers = match answers {
        Ok(Ok(answers)) => answers,
        Ok(Err(_ended)) => return Err(CallError::Lost),
        Err(_elapsed) => return Err(CallError::TimedOut),
    };
    let mut replicas = 0;
    for answer in answers {
        if let Value::Int(count) = judged(answer)? {
            replicas = count;
        }
    }
    if replicas >= 1 {
        Ok(())
    } else {
        Err(CallError::NotReplicated)
    }
}

fn finish(round: &mut Vec<Waiter>, answer: &Result<(), CallError>) {
    for waiter in round.drain(..) {
        // Whoever waited may have given up.
        let _gone = waiter.done.send(answer.clone());
    }
}
