//! Pages of history for readers that fell behind the tail: aligned, so that laggards meet in
//! them, cached in one budget, and read once however many ask (single flight).

use std::sync::{Arc, OnceLock};

use quick_cache::{Weighter, sync::Cache};
use tidewire_protocol::{ChannelName, Encoding, command::Range, frame::Publication};

use super::PAGE_ITEMS;
use crate::{
    broker::{Broker, BrokerError, Head, HistoryPage, PageLimit},
    channel::{Channel, Frames},
};

/// Most bytes of payload in one page; whole pages are what a slow reader makes the node read.
const PAGE_BYTES: usize = 256 * 1024;

/// A stretch of a channel's history as ready frames.
#[derive(Debug)]
pub struct Page {
    /// The head when it was read.
    pub head: Head,
    /// The offset the page was asked to begin after.
    after: u64,
    items: Vec<Arc<Publication>>,
    frames: [OnceLock<Frames>; 2],
}

impl Page {
    fn new(after: u64, page: HistoryPage) -> Self {
        let mut items = page.items;
        let first = items.first().map_or(0, |item| item.offset);
        let dense = items
            .iter()
            .zip(first..)
            .take_while(|(item, offset)| item.offset == *offset)
            .count();
        items.truncate(dense);
        Self {
            head: page.head,
            after,
            items,
            frames: [OnceLock::new(), OnceLock::new()],
        }
    }

    /// Offset of the first publication in it; none: history holds nothing after its beginning.
    pub fn first(&self) -> Option<u64> {
        self.items.first().map(|item| item.offset)
    }

    fn last(&self) -> u64 {
        self.items.last().map_or(self.after, |item| item.offset)
    }

    /// Whether the log ended here when it was read: read again, the page may hold more.
    fn ends_at_its_head(&self) -> bool {
        self.items.is_empty() || self.last() == self.head.position.offset
    }

    /// The frames in one encoding, encoded at the first call.
    pub fn frames(&self, channel: &ChannelName, encoding: Encoding) -> &Frames {
        let at = match encoding {
            Encoding::Json => 0,
            Encoding::MessagePack => 1,
        };
        self.frames[at].get_or_init(|| {
            let mut frames = Frames::new(encoding, self.first().unwrap_or(self.after + 1));
            for item in &self.items {
                frames.push(channel, item);
            }
            frames
        })
    }
}

/// A version belongs to one channel, so it stands for the name too. What was read under one that
/// is over is never asked for again, and goes as the least recently used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    version: u64,
    after: u64,
}

#[derive(Clone, Debug)]
struct ByBytes;

impl Weighter<Key, Arc<Page>> for ByBytes {
    fn weight(&self, _key: &Key, page: &Arc<Page>) -> u64 {
        let payload: usize = page
            .items
            .iter()
            .map(|item| 128 + item.payload.as_ref().map_or(0, |data| 3 * data.len()))
            .sum();
        256 + payload as u64
    }
}

/// The cache of pages.
#[derive(Debug)]
pub struct Pages {
    cache: Cache<Key, Arc<Page>, ByBytes>,
}

impl Pages {
    /// A cache of at most `bytes_max`.
    pub fn new(bytes_max: u64) -> Self {
        let typical_page_bytes = 32 * 1024;
        let items = usize::try_from(bytes_max / typical_page_bytes)
            .unwrap_or(usize::MAX)
            .max(16);
        Self {
            cache: Cache::with_weighter(items, bytes_max, ByBytes),
        }
    }

    /// The page that holds what comes after `cursor`. A page cut short by its bytes is followed
    /// by one that begins where it ended, the same for all readers.
    pub async fn after(
        &self,
        broker: &dyn Broker,
        channel: &Channel,
        cursor: u64,
    ) -> Result<Arc<Page>, BrokerError> {
        let (version, position) = channel.version();
        let mut after = cursor / PAGE_ITEMS * PAGE_ITEMS;
        loop {
            let key = Key { version, after };
            let mut page = self
                .cache
                .get_or_insert_async(&key, Self::read(broker, channel.name(), after))
                .await?;
            if page.last() <= cursor
                && page.ends_at_its_head()
                && page.head.position.offset < position.offset
            {
                // Read before the log grew to where the reader must go.
                self.cache.remove(&key);
                page = self
                    .cache
                    .get_or_insert_async(&key, Self::read(broker, channel.name(), after))
                    .await?;
            }
            let cut_short = page.last() < page.head.position.offset && page.last() > after;
            if page.last() > cursor || !cut_short {
                return Ok(page);
            }
            after = page.last();
        }
    }

    async fn read(
        broker: &dyn Broker,
        channel: &ChannelName,
        after: u64,
    ) -> Result<Arc<Page>, BrokerError> {
        let items = usize::try_from(PAGE_ITEMS - after % PAGE_ITEMS).unwrap_or(usize::MAX);
        let page = broker
            .history(
                channel,
                Range::After(after),
                PageLimit {
                    items,
                    bytes: PAGE_BYTES,
                },
            )
            .await?;
        Ok(Arc::new(Page::new(after, page)))
    }
}
