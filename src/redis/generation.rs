//! Generations: which incarnation of a primary minted what, and the newest one seen.
//!
//! Owns the judgement whether a primary was left behind. Called by every handshake. Never talks to
//! a server; the text itself is made by `scripts/generation.lua`.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::keyspace::Partition;

/// How long a primary with an older generation is refused. After that the newer one is taken for
/// lost (F31): a hub that waits for it for ever would be worse than a rewind.
const DISTRUST_MAX: Duration = Duration::from_secs(10);
/// Length of the text.
const TEXT_BYTES: usize = 12;

/// One incarnation of a partition's primary; later ones are greater.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(Arc<str>);

impl Generation {
    /// Reads the text of `generation.lua`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let digits = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase();
        (text.len() == TEXT_BYTES && text.bytes().all(digits)).then(|| Self(Arc::from(text)))
    }

    /// The text as it stands in epochs.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a generation is beside those seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seeing {
    /// The one known, or the first.
    Known,
    /// Another primary took over, or the same one began anew.
    Changed,
    /// An older one: others have left this primary.
    Left,
}

/// The newest generation seen of each partition.
#[derive(Debug)]
pub(super) struct Seen {
    newest: Mutex<Vec<Option<Newest>>>,
    losses: watch::Sender<u64>,
}

#[derive(Debug)]
struct Newest {
    generation: Generation,
    /// Since when only older ones are met.
    missing_since: Option<Instant>,
}

impl Seen {
    pub(super) fn new(partitions: usize) -> Self {
        let newest = std::iter::repeat_with(|| None).take(partitions).collect();
        Self {
            newest: Mutex::new(newest),
            losses: watch::Sender::new(0),
        }
    }

    /// Counts changes of a generation.
    pub(super) fn losses(&self) -> watch::Receiver<u64> {
        self.losses.subscribe()
    }

    /// The newest generation of a partition.
    #[cfg(test)]
    pub(super) fn newest(&self, partition: Partition) -> Option<Generation> {
        let newest = self.newest.lock();
        let known = newest.get(partition.index())?.as_ref()?;
        Some(known.generation.clone())
    }

    /// Takes note of a generation and judges it.
    pub(super) fn see(
        &self,
        partition: Partition,
        generation: &Generation,
        now: Instant,
    ) -> Seeing {
        let mut newest = self.newest.lock();
        let Some(slot) = newest.get_mut(partition.index()) else {
            return Seeing::Left;
        };
        let seeing = match slot {
            None => Seeing::Known,
            Some(known) if known.generation == *generation => Seeing::Known,
            Some(known) if known.generation < *generation => Seeing::Changed,
            Some(known) => {
                let since = *known.missing_since.get_or_insert(now);
                if now.duration_since(since) < DISTRUST_MAX {
                    return Seeing::Left;
                }
                Seeing::Changed
            }
        };
        *slot = Some(Newest {
            generation: generation.clone(),
            missing_since: None,
        });
        drop(newest);
        if seeing == Seeing::Changed {
            self.losses.send_modify(|count| *count += 1);
        }
        seeing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::keyspace::Keyspace;

    #[test]
    fn an_older_generation_is_refused_for_a_while_and_then_taken() {
        let partition = Keyspace::new("tw", 1).partition_of(b"");
        let seen = Seen::new(1);
        let generation = |text| Generation::parse(text).unwrap();
        let (old, new) = (generation("mabc0000ffff"), generation("mabc0001aaaa"));
        let start = Instant::now();
        assert_eq!(seen.see(partition, &old, start), Seeing::Known);
        assert_eq!(seen.see(partition, &new, start), Seeing::Changed);
        assert_eq!(seen.see(partition, &old, start), Seeing::Left);
        let almost = start + DISTRUST_MAX - Duration::from_millis(1);
        assert_eq!(seen.see(partition, &old, almost), Seeing::Left);
        assert_eq!(seen.newest(partition), Some(new.clone()));
        assert_eq!(seen.see(partition, &new, almost), Seeing::Known);
        let later = start + DISTRUST_MAX;
        assert_eq!(seen.see(partition, &old, later), Seeing::Left);
        assert_eq!(
            seen.see(partition, &old, later + DISTRUST_MAX),
            Seeing::Changed
        );
        assert_eq!(*seen.losses().borrow(), 2);
    }
}
