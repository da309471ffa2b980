//! Pages of history for readers that fell behind the tail: aligned, so that laggards meet in
//! them, cached in one budget, and read once however many ask (single flight).

use std::sync::Arc;

use quick_cache::{Weighter, sync::Cache};
use tidewire_protocol::{ChannelName, command::Range};

use super::PAGE_ITEMS;
use crate::{
    broker::{Broker, BrokerError, PageLimit},
    channel::{Channel, Page},
};

/// Most bytes of payload in one page; whole pages are what a slow reader makes the node read.
const PAGE_BYTES: usize = 256 * 1024;

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
        page.weight()
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
