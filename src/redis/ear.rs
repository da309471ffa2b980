//! What the driver of a lane's connection does with a push: it must not wait.
//!
//! Owns the sorting into announcements and canaries. Called by the client library for every push
//! of one connection. Never talks to a server.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;
use redis::{PushInfo, PushKind, Value};

use super::{events::Sink, keyspace::Partition};

/// What one lane follows on any server: by pub/sub channel.
pub(super) type Followed = Mutex<HashMap<Vec<u8>, Partition>>;

/// The canaries of one connection.
#[derive(Debug)]
pub(super) struct Canary {
    channel: Vec<u8>,
    sent: AtomicU64,
    heard: AtomicU64,
}

impl Canary {
    /// Canaries on a channel of this connection alone.
    pub(super) fn new(channel: String) -> Self {
        Self {
            channel: channel.into_bytes(),
            sent: AtomicU64::new(0),
            heard: AtomicU64::new(0),
        }
    }

    pub(super) fn channel(&self) -> &[u8] {
        &self.channel
    }

    /// The number of the next one.
    pub(super) fn next(&self) -> u64 {
        self.sent.load(Ordering::Relaxed) + 1
    }

    /// Redis took it.
    pub(super) fn was_sent(&self, number: u64) {
        self.sent.store(number, Ordering::Relaxed);
    }

    /// How many in a row were sent and not heard.
    pub(super) fn missed(&self) -> u64 {
        let heard = self.heard.load(Ordering::Relaxed);
        self.sent.load(Ordering::Relaxed).saturating_sub(heard)
    }

    fn hear(&self, payload: &[u8]) {
        let number = std::str::from_utf8(payload).ok();
        let number = number.and_then(|text| text.parse().ok());
        self.heard.fetch_max(number.unwrap_or(0), Ordering::Relaxed);
    }
}

/// What takes the pushes of one connection.
#[derive(Debug)]
pub(super) struct Ear {
    pub(super) sink: Arc<Sink>,
    pub(super) followed: Arc<Followed>,
    pub(super) canary: Arc<Canary>,
}

impl Ear {
    /// Hands an announcement on; where there is no room its partition is doubted.
    pub(super) fn hear(&self, push: PushInfo) {
        if push.kind != PushKind::Message && push.kind != PushKind::SMessage {
            return;
        }
        let mut data = push.data.into_iter();
        let (Some(Value::BulkString(channel)), Some(Value::BulkString(payload))) =
            (data.next(), data.next())
        else {
            return;
        };
        if channel == self.canary.channel {
            self.canary.hear(&payload);
            return;
        }
        let announcements = Bytes::from(channel);
        if !self.sink.push(announcements.clone(), Bytes::from(payload)) {
            let partition = self.followed.lock().get(announcements.as_ref()).copied();
            self.sink.doubt(partition);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::{events::LaneEvent, keyspace::Keyspace};

    fn push(kind: PushKind, channel: &str, payload: Vec<u8>) -> PushInfo {
        let channel = Value::BulkString(channel.as_bytes().to_vec());
        PushInfo {
            kind,
            data: vec![channel, Value::BulkString(payload)],
        }
    }

    #[tokio::test]
    async fn an_announcement_without_room_is_doubted_by_its_partition() {
        let keyspace = Keyspace::new("tw", 4);
        let partition = keyspace.partition_of(b"a");
        let (sink, mut events) = Sink::new();
        let ear = Ear {
            sink,
            followed: Arc::new(Mutex::new([(b"a".to_vec(), partition)].into())),
            canary: Arc::new(Canary::new("canary".to_owned())),
        };
        ear.canary.was_sent(2);
        assert_eq!(ear.canary.missed(), 2);
        ear.hear(push(PushKind::Message, "canary", b"2".to_vec()));
        assert_eq!(ear.canary.missed(), 0);
        for _ in 0..70 {
            ear.hear(push(PushKind::SMessage, "a", vec![0; 1 << 20]));
        }
        ear.hear(push(PushKind::Subscribe, "a", Vec::new()));
        let mut heard = Vec::new();
        events.recv_many(&mut heard, 100).await;
        let partitions = vec![partition];
        assert_eq!(heard, [LaneEvent::Doubt { partitions }]);
        events.recv_many(&mut heard, 100).await;
        assert_eq!(heard.len(), 64);
    }
}
