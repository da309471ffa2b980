//! The bounded queue between the driver and the reader of one subscription.
//!
//! Filled by the driver, emptied by `Subscription`. It never refuses an event: the driver stops
//! reading the socket while a queue is full, so one holds at most its bound and one message more.

use std::{
    collections::VecDeque,
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tidewire_protocol::{Payload, Position, Publication};
use tokio::sync::Notify;

use crate::{Event, core::Delivery};

/// Events a reader may be behind before the socket is not read: some wake-ups of a busy runtime.
const EVENTS_MAX: usize = 256;
/// Bytes of data likewise: a few of the largest messages a node sends.
const BYTES_MAX: usize = 1024 * 1024;

#[derive(Debug, Default)]
struct Inner {
    events: VecDeque<Delivery>,
    bytes: usize,
    /// Nothing more comes.
    ended: bool,
    /// Nobody reads any more.
    abandoned: bool,
    /// Where the reader stands after the event it was given last.
    given: Option<Position>,
    /// Where it stands after the last event it has handled: it asked for the next one.
    handled: Option<Position>,
}

impl Inner {
    /// It has room for most of what it may hold.
    fn drained(&self) -> bool {
        self.events.len() <= EVENTS_MAX / 4 && self.bytes <= BYTES_MAX / 4
    }

    fn full(&self) -> bool {
        !self.abandoned && (self.events.len() >= EVENTS_MAX || self.bytes >= BYTES_MAX)
    }
}

/// One queue.
#[derive(Debug, Default)]
pub(crate) struct EventQueue {
    inner: Mutex<Inner>,
    reader: AtomicWaker,
    /// Tells the driver that a full queue has room, or that the reader is gone.
    driver: std::sync::Arc<Notify>,
}

impl EventQueue {
    pub(crate) fn new(driver: std::sync::Arc<Notify>) -> Self {
        Self {
            driver,
            ..Self::default()
        }
    }

    pub(crate) fn push(&self, delivery: Delivery) {
        {
            let mut inner = self.inner.lock();
            if inner.abandoned || inner.ended {
                return;
            }
            inner.bytes += size(&delivery.event);
            inner.events.push_back(delivery);
        }
        self.reader.wake();
    }

    /// Nothing more comes; what is in the queue is still given.
    pub(crate) fn end(&self) {
        self.inner.lock().ended = true;
        self.reader.wake();
    }

    pub(crate) fn full(&self) -> bool {
        self.inner.lock().full()
    }

    /// It has room for most of what it may hold.
    pub(crate) fn drained(&self) -> bool {
        self.inner.lock().drained()
    }

    pub(crate) fn abandoned(&self) -> bool {
        self.inner.lock().abandoned
    }

    pub(crate) fn handled(&self) -> Option<Position> {
        self.inner.lock().handled.clone()
    }

    /// The next event; asking for it says that the one before was handled. None: nothing comes.
    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<Option<Event>> {
        self.reader.register(context.waker());
        let mut inner = self.inner.lock();
        if inner.given.is_some() {
            inner.handled = inner.given.clone();
        }
        let before = (inner.full(), inner.drained());
        let Some(delivery) = inner.events.pop_front() else {
            return if inner.ended {
                Poll::Ready(None)
            } else {
                Poll::Pending
            };
        };
        inner.bytes -= size(&delivery.event);
        if delivery.position.is_some() {
            inner.given = delivery.position;
        }
        let room = before != (inner.full(), inner.drained());
        drop(inner);
        if room {
            self.driver.notify_one();
        }
        Poll::Ready(Some(delivery.event))
    }

    /// The reader is gone.
    pub(crate) fn abandon(&self) {
        {
            let mut inner = self.inner.lock();
            inner.abandoned = true;
            inner.events.clear();
            inner.bytes = 0;
        }
        self.driver.notify_one();
    }
}

/// What an event weighs: its data, and something for the rest.
fn size(event: &Event) -> usize {
    const REST: usize = 128;
    let data = |publication: &Publication| publication.payload.as_ref().map_or(0, Payload::len);
    match event {
        Event::Message(message) => REST + data(&message.publication),
        Event::State { items, .. } => items
            .iter()
            .map(|item| REST + data(&item.publication))
            .sum(),
        Event::Fresh(_)
        | Event::Reset(_)
        | Event::Live { .. }
        | Event::Gap { .. }
        | Event::Rewind { .. }
        | Event::Stale(_)
        | Event::Refused { .. } => REST,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        task::{Context, Poll, Waker},
    };

    use futures_util::FutureExt;
    use tidewire_protocol::{Epoch, Position};

    use super::*;
    use crate::Message;

    fn delivery(offset: u64, bytes: usize) -> Delivery {
        let epoch = Epoch::new("e").unwrap();
        let publication = Publication {
            offset,
            ts: 1,
            payload: Some(Payload::bytes(vec![0; bytes].into())),
            key: None,
            event: None,
            id: None,
            by: None,
            deleted: false,
            expires: None,
        };
        Delivery {
            event: Event::Message(Message {
                epoch: epoch.clone(),
                publication: Arc::new(publication),
                replayed: false,
                skipped: 0,
            }),
            position: Some(Position { epoch, offset }),
        }
    }

    fn take(queue: &EventQueue) -> Option<Event> {
        match queue.poll(&Context::from_waker(Waker::noop())) {
            Poll::Ready(event) => event,
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_full_queue_says_so_and_tells_the_driver_when_it_has_drained() {
        for (bytes, holds) in [(10, EVENTS_MAX), (100_000, BYTES_MAX / 100_000 + 1)] {
            let driver = Arc::new(Notify::new());
            let queue = EventQueue::new(Arc::clone(&driver));
            for offset in 1..=holds {
                assert!(!queue.full(), "after {offset}");
                queue.push(delivery(u64::try_from(offset).unwrap(), bytes));
            }
            assert!(queue.full());
            let mut told = 0;
            while !queue.drained() {
                assert!(take(&queue).is_some());
                told += usize::from(driver.notified().now_or_never().is_some());
            }
            assert_eq!(told, 2, "when it has room, and when it has drained");
        }
    }

    #[test]
    fn an_event_is_handled_when_the_next_is_asked_for() {
        let queue = EventQueue::default();
        queue.push(delivery(1, 1));
        queue.push(delivery(2, 1));
        assert!(take(&queue).is_some());
        assert_eq!(queue.handled(), None);
        assert!(take(&queue).is_some());
        assert_eq!(queue.handled().map(|at| at.offset), Some(1));
        assert!(take(&queue).is_none());
        assert_eq!(queue.handled().map(|at| at.offset), Some(2));
    }

    #[test]
    fn what_is_queued_is_given_after_the_end_and_nothing_to_an_abandoned_queue() {
        let queue = EventQueue::default();
        queue.push(delivery(1, 1));
        queue.end();
        queue.push(delivery(2, 1));
        assert!(take(&queue).is_some());
        assert!(take(&queue).is_none());
        let queue = EventQueue::default();
        queue.abandon();
        queue.push(delivery(1, 1));
        assert!(take(&queue).is_none());
        assert!(!queue.full());
    }
}
