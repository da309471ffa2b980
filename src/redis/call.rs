//! One call: a script with its keys and arguments, and how it looks on the wire.
//!
//! Made by `broker::redis` and `store::redis`, sent by `link`. Never sent without the generation
//! its connection found.

use redis::{Cmd, Value, cmd};

use super::{
    error::CallError,
    generation::Generation,
    keyspace::{Keyspace, Partition},
    script::Script,
};

/// One step to take, all its keys in one partition.
#[derive(Debug, Clone)]
pub struct Call {
    /// Where its keys are.
    pub partition: Partition,
    /// The step.
    pub script: &'static Script,
    /// `KEYS[2]` and on; `KEYS[1]` is the partition's generation hash.
    pub keys: Vec<Vec<u8>>,
    /// `ARGV[2]` and on; `ARGV[1]` is the generation the connection found.
    pub args: Vec<Vec<u8>>,
    /// Whether it changes anything: its deadline is `redis.write_deadline` then.
    pub is_write: bool,
}

impl Call {
    pub(super) fn command(&self, keyspace: &Keyspace, generation: &Generation) -> Cmd {
        let mut command = cmd("EVALSHA");
        command
            .arg(self.script.digest())
            .arg(1 + self.keys.len())
            .arg(keyspace.generation_key(self.partition))
            .arg(&self.keys)
            .arg(generation.as_str())
            .arg(&self.args);
        command
    }
}

/// A channel of announcements to hear from now on, and the step that reads where its log is.
#[derive(Debug, Clone)]
pub struct Interest {
    /// The partition of both.
    pub partition: Partition,
    /// The pub/sub channel; in a Redis Cluster its name is in the partition's slot.
    pub announcements: Vec<u8>,
    /// Called right after the subscription, on the same connection.
    pub head: Call,
}

/// An answer as it is judged first: errors of the server apart. Those inside a list are for whoever
/// takes it apart.
///
/// # Errors
/// `Refused`.
pub fn judged(answer: Value) -> Result<Value, CallError> {
    if let Value::ServerError(error) = &answer {
        return Err(CallError::of_server(error));
    }
    Ok(answer)
}

/// Whether a script refused because the generation is another.
pub(super) fn is_stale(answer: &Value) -> bool {
    let Value::Array(parts) = answer else {
        return false;
    };
    parts
        .first()
        .is_some_and(|word| bytes(word) == Some(b"STALE"))
}

/// The bytes of a text, whatever kind of text the server chose.
pub(super) fn bytes(value: &Value) -> Option<&[u8]> {
    if let Value::BulkString(bytes) = value {
        return Some(bytes);
    }
    if let Value::SimpleString(text) = value {
        return Some(text.as_bytes());
    }
    if let Value::VerbatimString { text, .. } = value {
        return Some(text.as_bytes());
    }
    None
}

/// As [`bytes`], as text.
pub(super) fn text(value: &Value) -> Option<&str> {
    std::str::from_utf8(bytes(value)?).ok()
}
