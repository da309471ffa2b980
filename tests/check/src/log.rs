//! What survived of a channel, as the broker has it when everything is over.

use std::{collections::BTreeMap, sync::Arc};

use crate::event::{Body, Key};

/// A channel's log at the end, read from the broker itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SurvivingLog {
    /// The generations of the log with their first offsets, oldest first; the last is the epoch
    /// of the head, and one that minted nothing yet begins behind the head.
    pub lineage: Vec<(Arc<str>, u64)>,
    /// The last offset.
    pub head: u64,
    /// The first offset that can still be read; `head + 1`: none can.
    pub first: u64,
    /// The entries known, in rising offset; none for one that was blanked.
    pub entries: BTreeMap<u64, Option<Body>>,
    /// The state: the newest of each key that is not removed; none where it is not kept or known.
    pub state: Option<BTreeMap<Key, (u64, Body)>>,
}

impl SurvivingLog {
    /// The epoch of the head.
    #[must_use]
    pub fn epoch(&self) -> Option<&str> {
        self.lineage.last().map(|(epoch, _)| &**epoch)
    }

    /// The epoch that minted this offset of the log. None: it is past the head or forgotten.
    #[must_use]
    pub fn epoch_at(&self, offset: u64) -> Option<&str> {
        if offset > self.head {
            return None;
        }
        let segment = self.lineage.iter().rfind(|(_, start)| *start <= offset);
        segment.map(|(epoch, _)| &**epoch)
    }

    /// Whether an offset was minted by a generation after this one: nobody can hold it under such
    /// an epoch. The other way round is right: a position of a later generation names all before.
    #[must_use]
    pub fn is_minted_after(&self, offset: u64, epoch: &str) -> bool {
        let of_epoch = self.lineage.iter().position(|(held, _)| **held == *epoch);
        let of_offset = self.lineage.iter().rposition(|(_, start)| *start <= offset);
        offset <= self.head && of_epoch.is_some_and(|at| Some(at) < of_offset)
    }
}
