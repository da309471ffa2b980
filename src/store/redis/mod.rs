//! Checkpoint store on Redis: one text per session, one script per step.
//!
//! Called through the `CheckpointStore` seam; keys are in `broker::redis::keys`, connections in
//! `crate::redis`. It never looks inside a body.

mod put;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;
use tidewire_protocol::Name;
use tokio::sync::watch;

use self::put::{Gathering, Put, put_all};
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
    tasks::Tasks,
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

script!(PUT, "put");
script!(EXTEND, "extend");
script!(REMOVE, "remove");
script!(READ, "read");

/// Every script, for the handshake of each connection.
pub(crate) static SCRIPTS: [&Script; 4] = [&PUT, &EXTEND, &REMOVE, &READ];

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
    gathering: Gathering,
}

impl RedisStore {
    /// The store of the node of this name; what it gathers is sent as one of its `tasks`.
    pub(crate) fn start(redis: Redis, node: Name, tasks: &Tasks) -> Self {
        let gathering = Gathering::start(redis.clone(), tasks);
        Self {
            redis,
            node,
            gathering,
        }
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

    fn put(
        &self,
        session: &SessionId,
        fence: Fence,
        ttl_ms: u64,
        connected: bool,
        body: Option<&Bytes>,
    ) -> Put {
        let (partition, key) = self.place(session);
        let node = if connected { self.node.as_str() } else { "" };
        let [attempt, nonce] = fence_args(fence);
        // What begins with a sign is a body, be it an empty one.
        let body = body.map_or_else(Vec::new, |body| [b"+", &body[..]].concat());
        Put {
            partition,
            key,
            args: [attempt, nonce, node.into(), lifetime(ttl_ms), body],
        }
    }

    fn put_write(&self, write: &Write) -> Put {
        let Checkpoint { fence, body } = &write.checkpoint;
        self.put(
            &write.session,
            *fence,
            write.ttl_ms,
            write.connected,
            Some(body),
        )
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
            let put = self.put(session, fence, ttl_ms, true, None);
            let Some(mut fields) = taken(self.gathering.put(put).await)? else {
                return Ok(None);
            };
            let body = fields.bytes()?;
            let node = self.another(&fields.text()?)?;
            Ok(Some(Claimed { body, node }))
        })
    }

    fn write(&self, batch: Vec<Write>) -> BoxFuture<'_, Vec<Result<(), StoreError>>> {
        Box::pin(async move {
            let answers = match &batch[..] {
                // One that begins comes with others in a storm.
                [write] if write.connected => {
                    vec![self.gathering.put(self.put_write(write)).await]
                }
                _ => {
                    let puts = batch.iter().map(|write| self.put_write(write)).collect();
                    put_all(&self.redis, puts).await
                }
            };
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
