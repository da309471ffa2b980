//! The driver's side of subscriptions: their queues, and what becomes of readers that are slow or
//! gone.
//!
//! Used by the driver alone. It bounds what is held for readers, and lets none hold up another.

use std::sync::Arc;

use tidewire_protocol::{ChannelName, Position};
use tokio::time::{Duration, Instant};

use super::{Driver, EventQueue, now};
use crate::{
    Error,
    core::{ReaderId, Wish},
};

/// While a queue is full the socket is not read, so that TCP slows the node down. A reader that
/// has not caught up with its queue after so long is parked instead: answers, pings and other
/// channels wait behind what it does not take. It goes on from its cursor when it has.
const STALL: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Reader {
    pub(super) channel: ChannelName,
    pub(super) queue: Arc<EventQueue>,
    handled: Option<Position>,
    /// Since when its queue was full and not drained.
    stalled: Option<Instant>,
    parked: bool,
}

impl Driver {
    /// Whether some reader has enough to do: the socket is not read meanwhile.
    pub(super) fn blocked(&mut self) -> bool {
        let mut blocked = false;
        for reader in self.readers.values_mut().filter(|reader| !reader.parked) {
            if reader.queue.full() {
                blocked = true;
                reader.stalled.get_or_insert_with(Instant::now);
            } else if reader.stalled.is_some() && reader.queue.drained() {
                reader.stalled = None;
            }
        }
        blocked
    }

    /// When the next reader is to be parked.
    pub(super) fn stalls(&self) -> Option<Instant> {
        let stalled = self.readers.values().filter_map(|reader| reader.stalled);
        stalled.min().map(|since| since + STALL)
    }

    /// Passes on what readers have handled, parks those that stand still, lets go those that read
    /// again, and forgets those that are gone.
    pub(super) fn tend_readers(&mut self) {
        self.tell_handled();
        let mut gone = Vec::new();
        for (id, reader) in &mut self.readers {
            if reader.queue.abandoned() {
                gone.push(*id);
            } else if reader.parked {
                if reader.queue.drained() {
                    reader.parked = false;
                    self.engine.unpark(*id);
                }
            } else if reader.stalled.is_some_and(|since| since.elapsed() >= STALL) {
                (reader.parked, reader.stalled) = (true, None);
                tracing::debug!(channel = %reader.channel, "a reader does not keep up");
                self.engine.park(*id);
            }
        }
        for id in gone {
            self.readers.remove(&id);
            self.engine.unsubscribe(id, now(self.begun));
        }
    }

    pub(super) fn tell_handled(&mut self) {
        for (id, reader) in &mut self.readers {
            let handled = reader.queue.handled();
            if handled != reader.handled
                && let Some(position) = handled.clone()
            {
                reader.handled = handled;
                self.engine.handled(*id, position, now(self.begun));
            }
        }
    }

    pub(super) fn subscribe(
        &mut self,
        channel: ChannelName,
        wish: Wish,
    ) -> Result<(ReaderId, Arc<EventQueue>), Error> {
        // One that was dropped a moment ago makes room for its successor.
        self.tend_readers();
        let id = ReaderId(self.ticket().0);
        self.engine.subscribe(id, channel.clone(), wish)?;
        let queue = Arc::new(EventQueue::new(Arc::clone(&self.changed)));
        let reader = Reader {
            channel,
            queue: Arc::clone(&queue),
            handled: None,
            stalled: None,
            parked: false,
        };
        self.readers.insert(id, reader);
        Ok((id, queue))
    }
}
