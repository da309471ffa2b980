//! Steps on their way to several servers, and what to do when a partition is served elsewhere.
//!
//! Called by `Redis::call_all`. Owns the grouping by server and the following of `MOVED`, `ASK` and
//! `TRYAGAIN`; a step that may have been taken is never repeated here.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use redis::Value;
use tokio::time::{Instant, sleep, timeout};

use super::{Shared, call::Call, error::CallError};
use crate::random;

/// Most steps in one message: a large one would hold up what waits behind it.
const MESSAGE_STEPS_MAX: usize = 256;
/// How long a step goes after its partition: a slot of a Cluster moves within this.
const REDIRECT_MAX: Duration = Duration::from_secs(2);
/// Wait between two attempts, up to twice this.
const REDIRECT_WAIT_MS: u64 = 20;

/// One answer for each of the places it belongs to.
type Placed = Vec<(usize, Result<Value, CallError>)>;

impl Shared {
    pub(super) async fn call_all(&self, calls: Vec<Call>) -> Vec<Result<Value, CallError>> {
        let mut answers = vec![Err(CallError::Lost); calls.len()];
        let mut left: Vec<usize> = (0..calls.len()).collect();
        let deadline = Instant::now() + REDIRECT_MAX;
        while !left.is_empty() {
            put(&mut answers, self.attempt(&calls, &left).await);
            left.retain(|at| is_redirected(answers.get(*at)));
            if left.is_empty() || Instant::now() >= deadline {
                break;
            }
            self.take_over(&calls, &mut left, &mut answers).await;
            self.redirect(!left.is_empty()).await;
        }
        answers
    }

    /// Sends each to the server that the map says.
    async fn attempt(&self, calls: &[Call], which: &[usize]) -> Placed {
        let map = self.map();
        let mut groups: BTreeMap<Option<usize>, Vec<usize>> = BTreeMap::new();
        for (at, call) in which.iter().filter_map(|at| Some((*at, calls.get(*at)?))) {
            let member = map.index_of(call.partition);
            groups.entry(member).or_default().push(at);
        }
        let send = groups.into_iter().map(async |(member, places)| {
            let mut answers = Vec::with_capacity(places.len());
            for places in places.chunks(MESSAGE_STEPS_MAX) {
                let calls: Vec<_> = places.iter().filter_map(|at| calls.get(*at)).collect();
                let part = match member.and_then(|member| map.member(member)) {
                    Some(member) => member.server.exchange(&calls, None).await,
                    None => vec![Err(CallError::OutOfReach); calls.len()],
                };
                answers.extend(places.iter().copied().zip(part));
            }
            answers
        });
        join_all(send).await.into_iter().flatten().collect()
    }

    /// Takes the steps whose slot is on its way at its target; what is answered is left no more.
    async fn take_over(
        &self,
        calls: &[Call],
        left: &mut Vec<usize>,
        answers: &mut [Result<Value, CallError>],
    ) {
        let map = self.map();
        for at in left.iter().copied() {
            let (Some(call), Some(Err(error))) = (calls.get(at), answers.get(at)) else {
                continue;
            };
            if !error.has_code("ASK") {
                continue;
            }
            let target = error.target().and_then(|target| map.at(&target).cloned());
            let from = map
                .of(call.partition)
                .and_then(|member| member.server.link());
            let generation = from.and_then(|link| link.generation(call.partition));
            if let (Some(target), Some(generation)) = (target, generation) {
                let answer = target.server.take_over(call, &generation).await;
                put(answers, vec![(at, answer)]);
            }
        }
        left.retain(|at| is_redirected(answers.get(*at)));
    }

    /// Asks for the map to be looked at, and waits a moment: for another map, or a slot to arrive.
    pub(super) async fn redirect(&self, is_needed: bool) {
        if !is_needed {
            return;
        }
        let mut map = self.map.subscribe();
        self.context.hint.notify_one();
        let wait = Duration::from_millis(REDIRECT_WAIT_MS + random::below(REDIRECT_WAIT_MS));
        if timeout(wait, map.changed()).await.is_err() {
            sleep(wait).await;
        }
    }
}

fn is_redirected(answer: Option<&Result<Value, CallError>>) -> bool {
    matches!(answer, Some(Err(error)) if error.is_redirect())
}

/// Puts answers into the order of the questions.
pub(super) fn put(answers: &mut [Result<Value, CallError>], placed: Placed) {
    for (at, answer) in placed {
        if let Some(slot) = answers.get_mut(at) {
            *slot = answer;
        }
    }
}
