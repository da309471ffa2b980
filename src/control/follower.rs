//! Reads one of the hub's own channels by cursor, like any reader of a channel.
//!
//! Owns the cursor and the proof that it is at the head: besides what is announced, the head is
//! compared every two seconds, so a lost announcement delays an order and never loses it. Called
//! in a loop by whoever acts on what is read; never acts itself.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tidewire_protocol::{
    ChannelName, Encoding, Frame, Publication,
    command::{Mode, Range},
    decode,
};
use tokio::{
    sync::{Notify, SetOnce},
    time::{Instant, sleep, timeout_at},
};

use crate::{
    broker::{BrokerError, PageLimit},
    channel::{
        Boundary, Channel, ChannelOptions, Look, Message, Place, Read, Reader, ReaderKey, View,
    },
    feed::{Attached, Feed},
    telemetry::tally::Tally,
};

/// How often the head is compared: with the next read well within the five seconds in which a
/// node is to act.
const COMPARE_EVERY: Duration = Duration::from_secs(2);
/// Wait before a broker that did not answer is asked again.
const RETRY: Duration = Duration::from_millis(250);
/// Memory of the tail: hundreds of orders.
const TAIL_BYTES: usize = 64 * 1024;
/// Most bytes decoded at once.
const READ_BYTES: usize = 64 * 1024;
/// One page of history.
const PAGE: PageLimit = PageLimit {
    items: 512,
    bytes: 1 << 20,
};
const VIEW: View = View {
    encoding: Encoding::Json,
    mode: Mode::Every,
};

/// What the next look brought.
#[derive(Debug)]
pub enum Heard {
    /// Publications that follow the last ones; offsets may be missing only after `Again`.
    Entries(Vec<Arc<Publication>>),
    /// The log is another one, or a part of it cannot be read: what is known by its keyed state is
    /// to be read again. What was published since then follows.
    Again,
}

/// Wakes the follower; a reader in the channel's list.
#[derive(Debug, Default)]
struct Bell {
    rung: AtomicBool,
    waiting: Notify,
}

impl Reader for Bell {
    fn mark(&self, _slot: u8) -> bool {
        !self.rung.swap(true, Ordering::AcqRel)
    }

    fn pull(self: Arc<Self>, _tally: &mut Tally<'_>) {
        self.rung.store(false, Ordering::Release);
        self.waiting.notify_one();
    }
}

/// Where the follower stands.
#[derive(Debug)]
struct Reading {
    channel: Arc<Channel>,
    reader: ReaderKey,
    place: Place,
}

/// A reader of one channel.
#[derive(Debug)]
pub struct Follower {
    feed: Feed,
    name: ChannelName,
    bell: Arc<Bell>,
    reading: Option<Reading>,
    /// When the head is to be compared next.
    compare_at: Instant,
    /// When the log was last read to its head.
    verified: Arc<Verified>,
}

/// When a log was last read to its head.
#[derive(Debug, Default)]
pub struct Verified {
    at: Mutex<Option<Instant>>,
    first: SetOnce<()>,
}

impl Verified {
    /// Everything up to the head as it was then has been read and acted upon.
    fn note(&self, at: Instant) {
        *self.at.lock() = Some(at);
        // Set by the first of many.
        self.first.set(()).unwrap_or_default();
    }

    /// None: never.
    pub fn at(&self) -> Option<Instant> {
        *self.at.lock()
    }

    /// Waits until it was read for the first time. Those who wait go on in the order they came,
    /// which a `watch` would draw: a simulation is to be the same in every run.
    pub async fn first(&self) {
        self.first.wait().await;
    }
}

impl Follower {
    /// A follower that begins at the present head; `verified` is told whenever everything up to
    /// the head had been read and acted upon.
    pub fn new(feed: Feed, name: ChannelName, verified: Arc<Verified>) -> Self {
        Self {
            feed,
            name,
            bell: Arc::default(),
            reading: None,
            compare_at: Instant::now(),
            verified,
        }
    }

    /// Waits for what comes next. The call says that what the last one brought was acted upon.
    /// Not cancel-safe.
    pub async fn next(&mut self) -> Heard {
        loop {
            let Some(reading) = &mut self.reading else {
                self.join().await;
                return Heard::Again;
            };
            let place = &mut reading.place;
            let mut message = Message::reusing(VIEW.encoding, Vec::new());
            let read = reading
                .channel
                .read(VIEW.mode, *place, &mut message, READ_BYTES);
            match read {
                Read::Copied { cursor, .. } => {
                    place.cursor = cursor;
                    return Heard::Entries(entries(message));
                }
                Read::AtHead | Read::Full => {
                    let news = timeout_at(self.compare_at, self.bell.waiting.notified()).await;
                    if news.is_err()
                        && let Some(heard) = self.compare().await
                    {
                        return heard;
                    }
                }
                Read::Behind => match self.page().await {
                    Ok(Some(heard)) => return heard,
                    Ok(None) | Err(_) => sleep(RETRY).await,
                },
                Read::Gap { to, .. } => {
                    place.cursor = to;
                    self.compare_at = Instant::now();
                    return Heard::Again;
                }
                Read::Boundary(Boundary { segment, to, .. }) => {
                    let lost = place.cursor > to;
                    (place.segment, place.cursor) = (segment, to);
                    self.compare_at = Instant::now();
                    if lost {
                        return Heard::Again;
                    }
                }
                Read::NewLife(head) => {
                    // All of the new log is news, also what was written before this node knew it.
                    *place = Place {
                        life: head.life,
                        segment: head.segment,
                        cursor: 0,
                    };
                    self.compare_at = Instant::now();
                    return Heard::Again;
                }
            }
        }
    }

    /// Becomes a reader at the head, however long that takes.
    async fn join(&mut self) {
        let options = ChannelOptions {
            counts: None,
            keeps_history: true,
            tail_bytes: TAIL_BYTES,
        };
        let wanted = [(self.name.clone(), options)];
        loop {
            if let Some(Ok(Attached { channel, .. })) = self.feed.attach(&wanted).await.pop()
                && let Some(joined) = channel.join(Arc::clone(&self.bell) as _, 0, VIEW)
            {
                self.reading = Some(Reading {
                    channel,
                    reader: joined.key,
                    place: Place {
                        life: joined.head.life,
                        segment: joined.head.segment,
                        cursor: joined.head.position.offset,
                    },
                });
                return;
            }
            sleep(RETRY).await;
        }
    }

    /// Compares with the broker's head, and reads what was not announced.
    async fn compare(&mut self) -> Option<Heard> {
        let Reading { channel, place, .. } = self.reading.as_ref()?;
        let asked = Instant::now();
        self.compare_at = asked + RETRY;
        let heads = self.feed.meet(std::slice::from_ref(channel)).await;
        let head = heads.ok()?.pop()?;
        let known = channel.head();
        let is_of = (known.life, known.segment) == (place.life, place.segment);
        if !is_of || head.position.epoch != known.position.epoch {
            // The log goes on elsewhere: the next look says where.
            return None;
        }
        if head.position.offset > place.cursor {
            return self.page().await.ok().flatten();
        }
        self.compare_at = asked + COMPARE_EVERY;
        self.verified.note(asked);
        None
    }

    /// The next page of history; none: it is of another log, or holds nothing new.
    async fn page(&mut self) -> Result<Option<Heard>, BrokerError> {
        let Some(Reading { channel, place, .. }) = &mut self.reading else {
            return Ok(None);
        };
        let range = Range::After(place.cursor);
        let mut page = self.feed.broker().history(&self.name, range, PAGE).await?;
        let end = match channel.look(*place, &page.head.position.epoch) {
            Look::Within(end) => end,
            Look::Boundary { .. } | Look::NewLife(_) => return Ok(None),
            Look::OtherLog => {
                self.feed.doubt(&self.name);
                return Ok(None);
            }
        };
        if page.head.first > place.cursor + 1 {
            place.cursor = end.min(page.head.first - 1);
            return Ok(Some(Heard::Again));
        }
        page.items.retain(|item| item.offset <= end);
        let Some(last) = page.items.last() else {
            return Ok(None);
        };
        place.cursor = last.offset;
        Ok(Some(Heard::Entries(page.items)))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some(reading) = &self.reading {
            reading.channel.leave(reading.reader, VIEW);
        }
    }
}

/// The publications of a message that `Channel::read` filled.
fn entries(message: Message) -> Vec<Arc<Publication>> {
    let bytes = message.into_bytes();
    let payload = bytes.get(crate::channel::HEADER_BYTES_MAX..);
    let frames = decode::frames(VIEW.encoding, payload.unwrap_or_default());
    let frames = frames.unwrap_or_else(|error| {
        tracing::error!(%error, "a frame this node made cannot be read");
        Vec::new()
    });
    let publication = |frame| {
        if let Frame::Msg { publication, .. } = frame {
            Some(publication)
        } else {
            None
        }
    };
    frames.into_iter().filter_map(publication).collect()
}
