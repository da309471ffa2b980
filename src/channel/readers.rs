//! Who reads a channel on this node.
//!
//! Owns the list and the marking of readers that have something to read; never reads for them.

use std::{fmt::Debug, sync::Arc};

use slab::Slab;

use crate::telemetry::tally::Tally;

/// One connection as a channel sees it: something that can be told to read from its cursors.
///
/// The seam between logs and sockets: the gateway's connections implement it, and so does the
/// recorder of the tests.
pub trait Reader: Debug + Send + Sync {
    /// Notes that the subscription in `slot` may have something to read. True: the reader was
    /// idle, and whoever called owes it one `pull`.
    fn mark(&self, slot: u8) -> bool;

    /// Reads from all cursors that were marked, and writes; adds what left to the tally.
    fn pull(self: Arc<Self>, tally: &mut Tally<'_>);
}

/// Names a reader in its channel's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaderKey(usize);

/// The readers of one channel.
#[derive(Debug, Default)]
pub struct Readers {
    list: Slab<(Arc<dyn Reader>, u8)>,
}

impl Readers {
    pub fn insert(&mut self, reader: Arc<dyn Reader>, slot: u8) -> ReaderKey {
        ReaderKey(self.list.insert((reader, slot)))
    }

    pub fn remove(&mut self, key: ReaderKey) {
        self.list.try_remove(key.0);
        if self.list.is_empty() {
            self.list.shrink_to_fit();
        }
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Marks all, and adds those that were idle to `idle`.
    pub fn mark(&self, idle: &mut Vec<Arc<dyn Reader>>) {
        for (_, (reader, slot)) in &self.list {
            if reader.mark(*slot) {
                idle.push(Arc::clone(reader));
            }
        }
    }
}
