//! Checkpoint store on Redis: one hash per session, one script per step.
//!
//! Called through the `CheckpointStore` seam; keys are in `broker::redis::keys`, connections in
//! `crate::redis`. It never looks inside a body.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;
use tidewire_protocol::Name;
use tokio::sync::watch;

use super::{Checkpoint, CheckpointStore, Claimed, Fence, Held, SessionId, StoreError, Write};
use crate::{
    broker::{
        BoxFuture,
        redis::{
            decode::{Damaged, Fields},
            keys::{Keys, Kind},
        },
    },
    redis::{Call, CallError, Partition, Redis, Script},
};

/// Most sessions one step extends, so that no step holds Redis up.
const EXTENDED_PER_STEP: usize = 256;

macro_rules! script {
    ($name:ident, $file:literal) => {
        static $name: Script = Script::new(
            concat!("session_", $file),
            concat!(
                include_str!("scripts/prelude.lua"),
                include_str!(concat!("scripts/", $file, ".lua"))
            ),
        );
    };
}

script!(CLAIM, "claim");
script!(WRITE, "write");
script!(EXTEND, "extend");
script!(REMOVE, "remove");
script!(READ, "read");

/// Every script, for the handshake of each connection.
pub(crate) static SCRIPTS: [&Script; 5] = [&CLAIM, &WRITE, &EXTEND, &REMOVE, &READ];

impl From<Damaged> for StoreError {
    fn from(damaged: Damaged) -> Self {
        tracing::error!(error = %damaged, "the store cannot go on with this session");
        Self::Unavailable
    }
}

/// The checkpoint store of a node in a cluster.
#[derive(Debug)]
pub(crate) struct RedisStore {
    redis: Redis,
    /// This node, named to whoever takes its sessions over.
    node: Name,
}

impl RedisStore {
    pub(crate) const fn new(redis: Redis, node: Name) -> Self {
        Self { redis, node }
    }

    fn call_on(
        &self,
        session: &SessionId,
        script: &'static Script,
        args: Vec<Vec<u8>>,
        is_write: bool,
    ) -> Call {
        let (partition, key) = self.place(session);
        Call {
            partition,
            script,
            keys: vec![key],
            args,
            is_write,
        }
    }

    fn place(&self, session: &SessionId) -> (Partition, Vec<u8>) {
        let partition = self.redis.partition_of(session.0.as_bytes());
        let keys = Keys::new(self.redis.tag(partition), &session.0);
        (partition, keys.of(Kind::Session))
    }

    /// The node in an answer; none where it is this one.
    fn another(&self, node: &str) -> Result<Option<Name>, Damaged> {
        if node.is_empty() || node == self.node.as_str() {
            return Ok(None);
        }
        Name::new(node)
            .map(Some)
            .map_err(|_invalid| Damaged("the name of a node"))
    }

    fn write_call(&self, write: &Write) -> Call {
        let Checkpoint { fence, body } = &write.checkpoint;
        let node = if write.connected {
            self.node.as_str()
        } else {
            ""
        };
        let [attempt, nonce] = fence_args(*fence);
        let args = vec![
            attempt,
            nonce,
            node.into(),
            lifetime(write.ttl_ms),
            body.to_vec(),
        ];
        self.call_on(&write.session, &WRITE, args, true)
    }
}

fn fence_args(fence: Fence) -> [Vec<u8>; 2] {
    [fence.attempt, fence.nonce].map(|number| number.to_string().into_bytes())
}

fn lifetime(ttl_ms: u64) -> Vec<u8> {
    ttl_ms.max(1).to_string().into_bytes()
}

/// What a failed call means to the caller.
fn failed(error: &CallError) -> StoreError {
    match error {
        CallError::Refused { code, detail } => {
            tracing::error!(code, detail, "redis refused a step on a session");
        }
        CallError::OutOfReach
        | CallError::TimedOut
        | CallError::Lost
        | CallError::Distrusted
        | CallError::NotReplicated => tracing::debug!(%error, "redis did not answer"),
    }
    StoreError::Unavailable
}

/// What a script answered: its fields where the step was taken, none where it does not know the
/// session.
fn taken(answer: Result<::redis::Value, CallError>) -> Result<Option<Fields>, StoreError> {
    let answer = answer.map_err(|error| failed(&error))?;
    let mut fields = Fields::of(answer)?;
    match &*fields.text()? {
        "OK" => Ok(Some(fields)),
        "UNKNOWN" => Ok(None),
        "FENCED" => Err(StoreError::Fenced {
            attempt: fields.number()?,
        }),
        _ => Err(Damaged("an answer").into()),
    }
}

impl CheckpointStore for RedisStore {
    fn claim<'a>(
        &'a self,
        session: &'a SessionId,
        fence: Fence,
        ttl_ms: u64,
    ) -> BoxFuture<'a, Result<Option<Claimed>, StoreError>> {
        Box::pin(async move {
            let [attempt, nonce] = fence_args(fence);
            let args = vec![attempt, nonce, self.node.as_str().into(), lifetime(ttl_ms)];
            let call = self.call_on(session, &CLAIM, args, true);
            let Some(mut fields) = taken(self.redis.call(call).await)? else {
                return Ok(None);
            };
            let body = fields.bytes()?;
            let node = self.another(&fields.text()?)?;
            Ok(Some(Claimed { body, node }))
        })
    }

    fn write(&self, batch: Vec<Write>) -> BoxFuture<'_, Vec<Result<(), StoreError>>> {
        Box::pin(async move {
            let calls = batch.iter().map(|write| self.write_call(write)).collect();
            let answers = self.redis.call_all(calls).await;
            answers
                .into_iter()
                .map(|answer| taken(answer).map(|_| ()))
                .collect()
        })
    }

    fn extend<'a>(
        &'a self,
        sessions: &'a [SessionId],
        ttl_ms: u64,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut groups: BTreeMap<Partition, Vec<Vec<u8>>> = BTreeMap::new();
            for session in sessions {
                let (partition, key) = self.place(session);
                groups.entry(partition).or_default().push(key);
            }
            let steps = groups.iter().flat_map(|(partition, keys)| {
                let step = |keys: &[Vec<u8>]| Call {
                    partition: *partition,
                    script: &EXTEND,
                    keys: keys.to_vec(),
                    args: vec![lifetime(ttl_ms)],
                    is_write: true,
                };
                keys.chunks(EXTENDED_PER_STEP).map(step)
            });
            for answer in self.redis.call_all(steps.collect()).await {
                taken(answer)?;
            }
            Ok(())
        })
    }

    fn remove<'a>(
        &'a self,
        session: &'a SessionId,
        fence: Fence,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let call = self.call_on(session, &REMOVE, fence_args(fence).into(), true);
            taken(self.redis.call(call).await).map(|_| ())
        })
    }

    fn read<'a>(
        &'a self,
        session: &'a SessionId,
    ) -> BoxFuture<'a, Result<Option<Held>, StoreError>> {
        Box::pin(async move {
            let call = self.call_on(session, &READ, Vec::new(), false);
            let Some(mut fields) = taken(self.redis.call(call).await)? else {
                return Ok(None);
            };
            let (attempt, nonce) = (fields.number()?, fields.number()?);
            let node = self.another(&fields.text()?)?;
            let body: Bytes = fields.bytes()?;
            let fence = Fence { attempt, nonce };
            Ok(Some(Held {
                checkpoint: Checkpoint { fence, body },
                node,
            }))
        })
    }

    fn losses(&self) -> watch::Receiver<u64> {
        self.redis.losses()
    }
}
