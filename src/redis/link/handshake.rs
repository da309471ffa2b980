//! The handshake of a connection: scripts are loaded, and whom it speaks to is found.
//!
//! Called when a connection is made, each second, and when a step was refused as stale. Owns the
//! reading of the answer; the judgement of a generation is `generation`'s.

use std::time::Instant;

use redis::{Pipeline, Value};

use super::Link;
use crate::redis::{
    call::{bytes, judged, text},
    error::{CallError, RedisError},
    generation::{Generation, Seeing},
    keyspace::Partition,
    script::Script,
};

/// Finds the generation of a partition; see the file.
static GENERATION: Script = Script::new("generation", include_str!("../scripts/generation.lua"));

impl Link {
    pub(super) async fn load(&self, scripts: &[&'static Script]) -> Result<(), RedisError> {
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
        let server = self.server.clone();
        if source.code() == Some("NOREPLICAS") {
            return RedisError::NoReplicas { server };
        }
        RedisError::Connect { server, source }
    }

    /// Finds the generations anew. Answers why not, for the first partition that is served
    /// elsewhere.
    pub(in crate::redis) async fn handshake(
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
}
