//! What a lane hears: a bounded queue of announcements, and the doubts beside it.
//!
//! Filled by the drivers of the lane's connections, which must never wait; read by one worker of
//! the broker. What does not fit is dropped, and its partition doubted.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use super::keyspace::Partition;

/// Most announcements waiting in one lane: about a tenth of a second at the rate one worker reads.
const QUEUE_MAX: usize = 16_384;
/// Most bytes of announcements waiting in one lane.
const QUEUE_BYTES_MAX: usize = 64 << 20;

/// Something a lane heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LaneEvent {
    /// An announcement.
    Push {
        /// The pub/sub channel.
        announcements: Bytes,
        /// What was said.
        payload: Bytes,
    },
    /// Announcements of these partitions may have been lost, or their primary is another.
    Doubt {
        /// The partitions, sorted.
        partitions: Vec<Partition>,
    },
}

/// The reading end of a lane, for one worker.
#[derive(Debug)]
pub struct LaneEvents {
    queue: mpsc::Receiver<(Bytes, Bytes)>,
    sink: Arc<Sink>,
}

impl LaneEvents {
    /// Waits for events and adds them to the buffer: at least one, at most about `limit`. It never
    /// ends by itself: the worker is stopped with the node. Cancel-safe.
    pub async fn recv_many(&mut self, buffer: &mut Vec<LaneEvent>, limit: usize) {
        let before = buffer.len();
        let mut pushes = Vec::new();
        while buffer.len() == before {
            tokio::select! {
                biased;
                () = self.sink.doubted.notified() => buffer.extend(self.sink.take_doubts()),
                _count = self.queue.recv_many(&mut pushes, limit.max(1)) => {
                    let bytes: usize = pushes.iter().map(size).sum();
                    self.sink.bytes.fetch_sub(bytes, Ordering::Relaxed);
                    let said = |(announcements, payload)| LaneEvent::Push {
                        announcements,
                        payload,
                    };
                    buffer.extend(pushes.drain(..).map(said));
                }
            }
        }
    }
}

fn size(push: &(Bytes, Bytes)) -> usize {
    push.0.len() + push.1.len()
}

/// The writing end of a lane.
pub(super) struct Sink {
    queue: mpsc::Sender<(Bytes, Bytes)>,
    bytes: AtomicUsize,
    doubts: Mutex<BTreeSet<Partition>>,
    doubted: Notify,
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Sink {
    pub(super) fn new() -> (Arc<Self>, LaneEvents) {
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        let sink = Arc::new(Self {
            queue: sender,
            bytes: AtomicUsize::new(0),
            doubts: Mutex::default(),
            doubted: Notify::new(),
        });
        let events = LaneEvents {
            queue,
            sink: Arc::clone(&sink),
        };
        (sink, events)
    }

    /// Hands an announcement on. False: there is no room, and it is gone.
    pub(super) fn push(&self, announcements: Bytes, payload: Bytes) -> bool {
        let push = (announcements, payload);
        let size = size(&push);
        if self.bytes.fetch_add(size, Ordering::Relaxed) + size <= QUEUE_BYTES_MAX
            && self.queue.try_send(push).is_ok()
        {
            return true;
        }
        self.bytes.fetch_sub(size, Ordering::Relaxed);
        false
    }

    fn take_doubts(&self) -> Option<LaneEvent> {
        let doubts = std::mem::take(&mut *self.doubts.lock());
        let partitions: Vec<_> = doubts.into_iter().collect();
        (!partitions.is_empty()).then_some(LaneEvent::Doubt { partitions })
    }

    /// Doubts partitions.
    pub(super) fn doubt(&self, partitions: impl IntoIterator<Item = Partition>) {
        self.doubts.lock().extend(partitions);
        self.doubted.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::keyspace::Keyspace;

    #[tokio::test]
    async fn what_does_not_fit_is_refused_and_doubts_reach_the_worker_all_the_same() {
        let partition = Keyspace::new("tw", 1).partition_of(b"");
        let (sink, mut events) = Sink::new();
        let payload = Bytes::from(vec![0; 1 << 20]);
        let fits = (0..100)
            .take_while(|_| sink.push(Bytes::from_static(b"a"), payload.clone()))
            .count();
        assert_eq!(fits, 63, "64 MiB, and the names count too");
        sink.doubt([partition]);
        let mut heard = Vec::new();
        events.recv_many(&mut heard, 8).await;
        let partitions = vec![partition];
        assert_eq!(heard, [LaneEvent::Doubt { partitions }]);
        events.recv_many(&mut heard, 100).await;
        assert_eq!(heard.len(), 64);
        assert!(sink.push(Bytes::from_static(b"a"), payload));
    }
}
