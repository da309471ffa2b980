//! Sessions on their way into Redis: many in one step, and single ones gathered, so that a storm
//! of connects and resumes costs Redis a few steps a second and not one for each client.
//!
//! Called by the store, which reads the answers. Never repeats a step and never looks into a body.

use std::{collections::BTreeMap, time::Duration};

use ::redis::Value;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};

use super::PUT;
use crate::{
    broker::redis::decode::Fields,
    redis::{Call, CallError, Partition, Redis},
    tasks::Tasks,
};

/// Most sessions in one step, so that no step holds Redis up.
const SESSIONS_PER_STEP: usize = 64;
/// Most bytes of sessions in one step, for the same reason; one session may be larger.
const BYTES_PER_STEP: usize = 1 << 20;
/// Single ones that wait to be sent. As many as a node works on at once; more wait for a place.
const WAITING_MAX: usize = 1_024;
/// How long single ones gather, and how many messages go out at once before they do: whoever
/// resumes while nobody else does waits for nothing, be its session written down first.
const PACE: Duration = Duration::from_millis(20);
const AT_ONCE: usize = 2;

/// One session under a fence, as `put.lua` takes it.
#[derive(Debug)]
pub(super) struct Put {
    pub partition: Partition,
    pub key: Vec<u8>,
    /// Attempt, nonce, node, lifetime, body.
    pub args: [Vec<u8>; 5],
}

/// One answer of `put.lua`, or why there is none.
type Answer = Result<Value, CallError>;

impl Put {
    fn bytes(&self) -> usize {
        self.key.len() + self.args.iter().map(Vec::len).sum::<usize>()
    }
}

/// Puts sessions, each on its own; one answer each. Those of one partition in their order.
pub(super) async fn put_all(redis: &Redis, puts: Vec<Put>) -> Vec<Answer> {
    let mut answers = vec![Err(CallError::Lost); puts.len()];
    let mut groups: BTreeMap<Partition, Vec<(usize, Put)>> = BTreeMap::new();
    for (at, put) in puts.into_iter().enumerate() {
        groups.entry(put.partition).or_default().push((at, put));
    }
    let (mut calls, mut places) = (Vec::new(), Vec::new());
    for (partition, group) in groups {
        let (mut call, mut step, mut bytes) = (call(partition), Vec::new(), 0);
        for (at, put) in group {
            let is_full = step.len() == SESSIONS_PER_STEP || bytes + put.bytes() > BYTES_PER_STEP;
            if is_full && !step.is_empty() {
                calls.push(std::mem::replace(&mut call, self::call(partition)));
                places.push(std::mem::take(&mut step));
                bytes = 0;
            }
            bytes += put.bytes();
            step.push(at);
            call.keys.push(put.key);
            call.args.extend(put.args);
        }
        calls.push(call);
        places.push(step);
    }
    for (answer, step) in redis.call_all(calls).await.into_iter().zip(places) {
        let each = split(answer, step.len());
        for (at, answer) in step.into_iter().zip(each) {
            answers[at] = answer;
        }
    }
    answers
}

const fn call(partition: Partition) -> Call {
    Call {
        partition,
        script: &PUT,
        keys: Vec::new(),
        args: Vec::new(),
        is_write: true,
    }
}

/// The answers of one step apart; an error is everybody's.
fn split(answer: Answer, count: usize) -> Vec<Answer> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return vec![Err(error); count],
    };
    let mut each = Vec::with_capacity(count);
    if let Ok(mut fields) = Fields::of(answer)
        && fields.text().is_ok_and(|word| word == "OK")
    {
        while let Some(value) = fields.next() {
            each.push(Ok(value));
        }
    }
    // Nil is no answer of ours: whoever reads it says so.
    each.resize(count, Ok(Value::Nil));
    each
}

/// Where single ones meet.
#[derive(Debug)]
pub(super) struct Gathering {
    queue: mpsc::Sender<(Put, oneshot::Sender<Answer>)>,
}

impl Gathering {
    /// Begins; ends with the node.
    pub(super) fn start(redis: Redis, tasks: &Tasks) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        tasks.spawn_until_stop(run(redis, waiting, tasks.clone()));
        Self { queue }
    }

    /// Puts one session, in a storm together with others.
    pub(super) async fn put(&self, put: Put) -> Answer {
        let (answer, answered) = oneshot::channel();
        if self.queue.send((put, answer)).await.is_err() {
            return Err(CallError::Lost);
        }
        answered.await.unwrap_or(Err(CallError::Lost))
    }
}

async fn run(
    redis: Redis,
    mut waiting: mpsc::Receiver<(Put, oneshot::Sender<Answer>)>,
    tasks: Tasks,
) {
    let (mut since, mut sent) = (Instant::now(), 0);
    let mut gathered = Vec::new();
    while waiting.recv_many(&mut gathered, WAITING_MAX).await > 0 {
        if sent == AT_ONCE && since.elapsed() < PACE {
            sleep_until(since + PACE).await;
            while gathered.len() < WAITING_MAX
                && let Ok(more) = waiting.try_recv()
            {
                gathered.push(more);
            }
        }
        if since.elapsed() >= PACE {
            (since, sent) = (Instant::now(), 0);
        }
        sent += 1;
        let (puts, askers): (Vec<_>, Vec<_>) = gathered.drain(..).unzip();
        let redis = redis.clone();
        // A task of its own: what one server does not answer holds up nobody else.
        tasks.spawn(async move {
            for (asker, answer) in askers.into_iter().zip(put_all(&redis, puts).await) {
                // Whoever asked may have gone; what was put stays.
                asker.send(answer).unwrap_or_default();
            }
        });
    }
}
