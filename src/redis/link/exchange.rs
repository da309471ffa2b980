//! Steps over one connection, and their repeat after `STALE` and `NOSCRIPT`.
//!
//! Called by `server` and `lane` within their deadlines. A step is repeated only where the server
//! said that it was not taken.

use redis::{Cmd, Pipeline, Value};

use super::Link;
use crate::redis::{
    call::{Call, is_stale, judged},
    error::{CallError, RedisError},
    generation::Generation,
    keyspace::Partition,
    script::Script,
};

/// A command to put before each call, by the call's place: it has exactly one answer.
pub(in crate::redis) type Before<'a> = Option<&'a (dyn Fn(usize) -> Cmd + Send + Sync)>;

impl Link {
    /// Takes each step and answers in their order. Steps that were refused because the generation
    /// is another, or because the script is unknown, are taken once more after repair.
    pub(in crate::redis) async fn exchange(
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
            Err(_ended) => return vec![Err(CallError::Lost); which.len()],
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
    pub(in crate::redis) async fn take_over(
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
            Err(_ended) => Err(CallError::Lost),
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
                tracing::debug!(server = %self.server, script = call.script.name(), "loaded again");
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
