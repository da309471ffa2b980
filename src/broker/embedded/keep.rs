//! Keeping house: the sweep that drops what time ended, and the copies that let a segment go.
//! Called by the keeper thread of `storage`, in slices under its lock.

use std::ops::Bound;

use tidewire_protocol::ChannelName;

use super::channels::Channels;
use crate::journal::{Journal, Place, PublicationRecord, Record};

/// Most entries of one kind that one visit of the sweep drops from a channel.
const VISIT: usize = 256;

impl Channels {
    /// Visits the next channels in name order and drops what time ended; false: that was the end
    /// of the round.
    pub(crate) fn sweep(&mut self, most: usize, journal: &mut Journal, now: u64) -> bool {
        let from = match &self.swept {
            Some(name) => Bound::Excluded(name.as_str()),
            None => Bound::Unbounded,
        };
        let next = self.names.range((from, Bound::Unbounded));
        let visit: Vec<(ChannelName, u64)> = next
            .take(most)
            .map(|(name, life)| (name.clone(), life))
            .collect();
        for (name, life) in &visit {
            let channel = self.life_mut(*life);
            channel.trim(now, VISIT, journal);
            let floor_rose = channel.purge(now, VISIT, journal);
            let over = channel.is_over(now);
            if floor_rose {
                self.floors.insert(*life);
            }
            if over {
                self.expire(name, journal);
            }
        }
        let more = visit.len() == most;
        self.swept = visit.into_iter().next_back().map(|(name, _)| name);
        if !more {
            self.swept = None;
        }
        more
    }

    /// Writes state floors down that only memory knows; false: there were no more.
    pub(crate) fn write_floors(&mut self, most: usize, journal: &mut Journal) -> bool {
        for _ in 0..most {
            let Some(life) = self.floors.pop_first() else {
                return false;
            };
            if let Some(channel) = self.lives.get_mut(&life) {
                channel.write_record(journal);
            }
        }
        true
    }

    /// Copies the record at `place` to the end of the journal where it is still needed.
    pub(crate) fn relocate(
        &mut self,
        place: Place,
        record: &Record<'_>,
        journal: &mut Journal,
        now: u64,
    ) {
        match record {
            Record::Publication(publication) => {
                self.relocate_publication(place, publication, journal, now);
            }
            Record::Channel(channel) => {
                if let Some(channel) = self.lives.get_mut(&channel.life)
                    && channel.record == place
                {
                    channel.write_record(journal);
                    let life = channel.life;
                    self.floors.remove(&life);
                }
            }
            Record::Dedup {
                life,
                offset,
                dedup,
            } => {
                let window = self
                    .lives
                    .get(life)
                    .and_then(|channel| channel.window.as_ref());
                if window.is_some_and(|window| window.holds(dedup, *offset, now)) {
                    let copy = journal.push(record);
                    journal.remember(copy, dedup.until);
                }
            }
            Record::Ended { .. }
            | Record::Session { .. }
            | Record::Claim { .. }
            | Record::Extend { .. }
            | Record::Removed { .. }
            | Record::Mark { .. } => {}
            Record::Secret(_) => {
                if self.secret_record == place {
                    self.write_secret(journal);
                }
            }
        }
    }

    fn relocate_publication(
        &mut self,
        place: Place,
        record: &PublicationRecord<'_>,
        journal: &mut Journal,
        now: u64,
    ) {
        let Some(channel) = self.lives.get_mut(&record.life) else {
            return;
        };
        let offset = record.offset;
        let kept = channel
            .history
            .get_mut(offset)
            .filter(|kept| kept.place == place);
        let state = channel.state.as_mut();
        let entry = state
            .and_then(|state| state.at_mut(offset))
            .filter(|entry| entry.place == place);
        let window = channel.window.as_ref();
        let dedup = record
            .dedup
            .filter(|dedup| window.is_some_and(|window| window.holds(dedup, offset, now)));
        let copy = if kept.is_some() || entry.is_some() {
            journal.release(place);
            let copy = journal.push(&Record::Publication(PublicationRecord {
                history: kept.is_some(),
                state: entry.is_some(),
                dedup,
                ..*record
            }));
            journal.retain(copy);
            copy
        } else if let Some(dedup) = dedup {
            journal.push(&Record::Dedup {
                life: record.life,
                offset,
                dedup,
            })
        } else {
            return;
        };
        if let Some(kept) = kept {
            kept.place = copy;
        }
        if let Some(entry) = entry {
            entry.place = copy;
        }
        if let Some(dedup) = dedup {
            journal.remember(copy, dedup.until);
        }
    }
}
