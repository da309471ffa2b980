//! A stretch of a channel's history as ready frames, shared by all readers that need it.
//!
//! Made by `feed` of what the broker answered; read by `session`. Never asks for more itself.

use std::sync::{Arc, OnceLock};

use tidewire_protocol::{ChannelName, Encoding, frame::Publication};

use super::{Frames, log::lane};
use crate::broker::{Head, HistoryPage};

/// Consecutive publications, and the head of the log they were read from.
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
    /// The page that was asked to begin after `after`. What follows a hole is left out.
    pub fn new(after: u64, page: HistoryPage) -> Self {
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

    /// Offset of the last publication in it; without one, where it was asked to begin.
    pub fn last(&self) -> u64 {
        self.items.last().map_or(self.after, |item| item.offset)
    }

    /// Whether the log ended here when it was read: read again, the page may hold more.
    pub fn ends_at_its_head(&self) -> bool {
        self.items.is_empty() || self.last() == self.head.position.offset
    }

    /// About how many bytes it holds once it was encoded both ways.
    pub fn weight(&self) -> u64 {
        let payload: usize = self
            .items
            .iter()
            .map(|item| 128 + item.payload.as_ref().map_or(0, |data| 3 * data.len()))
            .sum();
        256 + payload as u64
    }

    /// The frames in one encoding, encoded at the first call.
    pub fn frames(&self, channel: &ChannelName, encoding: Encoding) -> &Frames {
        self.frames[lane(encoding)].get_or_init(|| {
            let mut frames = Frames::new(encoding, self.first().unwrap_or(self.after + 1));
            for item in &self.items {
                frames.push(channel, item);
            }
            frames
        })
    }
}
