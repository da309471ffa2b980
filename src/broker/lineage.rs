//! Which positions are on a channel's surviving log.
//!
//! Owns the text form of an epoch and the rule that judges a client's position by it (after
//! Kafka's leader epochs, KIP-101 and KIP-320; experiment E16 of the reliability research). Pure;
//! called by brokers, `channel` and `session`. Never reads a log.
//!
//! An epoch names one *life* of a log and the *generation* that minted its offsets: one
//! incarnation of the primary behind it. After a failover to a replica that lagged the same
//! offsets are minted again with other content, so an offset means something only beside its
//! generation. The text is `life`, where a log has one generation for ever (embedded storage), or
//! `life.generation.start.previous`: `start` is the first offset of the generation, `previous`
//! the one before it in this log. So a position says by itself what its log had in common with
//! others, also where the generation it names left no other trace.

use tidewire_protocol::{Epoch, Position};

/// Most segments a lineage holds: older ones are forgotten, and positions in them start over.
pub const SEGMENTS_MAX: usize = 16;
/// Characters of a generation that order it: milliseconds in base 36.
const ORDER_CHARS: usize = 8;

/// The parts of an epoch's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts<'a> {
    /// Names the life.
    pub life: &'a str,
    /// Names the generation; empty where there is one for ever.
    pub generation: &'a str,
    /// The first offset of the generation.
    pub start: u64,
    /// The generation before it; empty for the first of a life.
    pub previous: &'a str,
}

impl<'a> Parts<'a> {
    /// Takes an epoch apart. A text of another form is a life of its own.
    pub fn of(epoch: &'a Epoch) -> Self {
        let text = epoch.as_str();
        let whole = Self {
            life: text,
            generation: "",
            start: 1,
            previous: "",
        };
        let mut parts = text.split('.');
        let (Some(life), Some(generation), Some(start), Some(previous), None) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) else {
            return whole;
        };
        u64::from_str_radix(start, 36).map_or(whole, |start| Self {
            life,
            generation,
            start,
            previous,
        })
    }

    /// The epoch with these parts. None: they do not make one.
    pub fn epoch(&self) -> Option<Epoch> {
        if self.generation.is_empty() {
            return Epoch::new(self.life).ok();
        }
        let start = base36(self.start);
        let text = format!(
            "{}.{}.{start}.{}",
            self.life, self.generation, self.previous
        );
        Epoch::new(&text).ok()
    }

    /// The last offset up to which the log of this epoch and another of its life are the same.
    /// `end_of` says where a generation ends in the other; one that left no trace there is judged
    /// by what it followed. What the first of a life followed is the empty log, as long as the
    /// other `begins_its_life`: none of its generations was forgotten. None: nothing tells.
    pub fn shared(
        &self,
        begins_its_life: bool,
        end_of: impl Fn(&str) -> Option<u64>,
    ) -> Option<u64> {
        end_of(self.generation).or_else(|| {
            let end = if self.previous.is_empty() {
                begins_its_life.then_some(0)
            } else {
                end_of(self.previous)
            }?;
            Some(end.min(self.start.saturating_sub(1)))
        })
    }

    /// Whether this generation began after the other. One that is there for ever has none after it.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        let order = |generation: &'a str| generation.get(..ORDER_CHARS).unwrap_or(generation);
        !other.generation.is_empty() && order(self.generation) > order(other.generation)
    }
}

/// A number in base 36.
pub fn base36(mut number: u64) -> String {
    let mut digits = Vec::new();
    loop {
        let digit = u32::try_from(number % 36).unwrap_or(0);
        digits.extend(char::from_digit(digit, 36));
        number /= 36;
        if number == 0 {
            return digits.into_iter().rev().collect();
        }
    }
}

/// The offsets that one generation minted and that survived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Names life and generation.
    pub epoch: Epoch,
    /// Its first offset; the next to come while it minted none.
    pub start: u64,
}

/// The surviving log as segments of rising start; the last is the one that mints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage(Vec<Segment>);

/// Where a position stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// All that the client had seen is on the log.
    OnLog {
        /// The last offset up to which the client's log and this one are the same.
        shared: u64,
    },
    /// The client saw publications after `shared` that are not on the log.
    Forked {
        /// As above; below the position's offset.
        shared: u64,
    },
    /// Another life, or nothing that can be compared.
    Elsewhere,
}

impl Lineage {
    /// A log of one generation.
    pub fn of_one(epoch: Epoch) -> Self {
        let start = Parts::of(&epoch).start;
        Self(vec![Segment { epoch, start }])
    }

    /// A log of these segments, oldest first; past [`SEGMENTS_MAX`] the oldest are forgotten.
    /// None: there are none.
    pub fn new(mut segments: Vec<Segment>) -> Option<Self> {
        let over = segments.len().saturating_sub(SEGMENTS_MAX);
        segments.drain(..over);
        (!segments.is_empty()).then_some(Self(segments))
    }

    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// The epoch that mints.
    pub fn epoch(&self) -> &Epoch {
        let last = self.0.last();
        last.map_or_else(
            || unreachable!("a lineage has a segment"),
            |last| &last.epoch,
        )
    }

    /// Judges a position by this log, whose last offset is `head`.
    pub fn stand(&self, position: &Position, head: u64) -> Standing {
        let theirs = Parts::of(&position.epoch);
        if theirs.life != Parts::of(self.epoch()).life {
            return Standing::Elsewhere;
        }
        let first = self.0.first();
        let begins_its_life =
            first.is_some_and(|first| Parts::of(&first.epoch).previous.is_empty());
        let shared = theirs.shared(begins_its_life, |generation| self.end_of(generation, head));
        let Some(shared) = shared else {
            return Standing::Elsewhere;
        };
        if position.offset <= shared {
            Standing::OnLog { shared }
        } else if position.epoch == *self.epoch() {
            // What this generation minted does not vanish while it lives.
            Standing::Elsewhere
        } else {
            Standing::Forked { shared }
        }
    }

    /// The last offset of a generation of this log.
    fn end_of(&self, generation: &str, head: u64) -> Option<u64> {
        let at = self
            .0
            .iter()
            .position(|segment| Parts::of(&segment.epoch).generation == generation)?;
        let next = self.0.get(at + 1);
        Some(next.map_or(head, |next| next.start.saturating_sub(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(text: &str) -> Epoch {
        Epoch::new(text).unwrap()
    }

    fn at(text: &str, offset: u64) -> Position {
        Position {
            epoch: epoch(text),
            offset,
        }
    }

    /// g1 minted 1–100, g2 101–110.
    fn two() -> Lineage {
        let segment = |text, start| Segment {
            epoch: epoch(text),
            start,
        };
        Lineage::new(vec![
            segment("L.00000001aaaa.1.", 1),
            segment("L.00000002bbbb.2t.00000001aaaa", 101),
        ])
        .unwrap()
    }

    #[test]
    fn parts_make_the_epoch_they_came_from() {
        for text in ["L", "L.00000001aaaa.1.", "L.00000002bbbb.2t.00000001aaaa"] {
            let epoch = epoch(text);
            assert_eq!(Parts::of(&epoch).epoch().unwrap(), epoch);
        }
        assert_eq!(Parts::of(&epoch("L.00000002bbbb.2t.x")).start, 101);
    }

    #[test]
    fn the_longest_epoch_fits_the_wire() {
        let generation = "zzzzzzzzaaaa";
        let longest = Parts {
            life: "0123456789",
            generation,
            start: u64::MAX >> 11,
            previous: generation,
        };
        assert!(longest.epoch().is_some());
    }

    #[test]
    fn a_lossless_failover_loses_nothing() {
        let shared = 100;
        assert_eq!(
            two().stand(&at("L.00000001aaaa.1.", 100), 110),
            Standing::OnLog { shared }
        );
    }

    #[test]
    fn what_a_lagging_failover_lost_is_counted() {
        let shared = 100;
        assert_eq!(
            two().stand(&at("L.00000001aaaa.1.", 105), 110),
            Standing::Forked { shared }
        );
    }

    #[test]
    fn a_generation_that_left_no_trace_is_judged_by_what_it_followed() {
        let lost = "L.00000002cccc.2p.00000001aaaa";
        assert_eq!(
            two().stand(&at(lost, 96), 110),
            Standing::OnLog { shared: 96 }
        );
        assert_eq!(
            two().stand(&at(lost, 99), 110),
            Standing::Forked { shared: 96 }
        );
    }

    #[test]
    fn the_first_of_a_life_that_left_no_trace_followed_the_empty_log() {
        let log = Lineage::of_one(epoch("L.00000002bbbb.1."));
        let first = "L.00000001aaaa.1.";
        let shared = 0;
        assert_eq!(log.stand(&at(first, 0), 0), Standing::OnLog { shared });
        assert_eq!(log.stand(&at(first, 3), 5), Standing::Forked { shared });
        let forgot = Lineage::of_one(epoch("L.00000003cccc.2t.00000002bbbb"));
        assert_eq!(forgot.stand(&at(first, 3), 200), Standing::Elsewhere);
    }

    #[test]
    fn other_lives_and_offsets_never_minted_start_over() {
        assert_eq!(
            two().stand(&at("M.00000001aaaa.1.", 5), 110),
            Standing::Elsewhere
        );
        let present = "L.00000002bbbb.2t.00000001aaaa";
        assert_eq!(two().stand(&at(present, 111), 110), Standing::Elsewhere);
        assert_eq!(
            Lineage::of_one(epoch("E")).stand(&at("E", 8), 7),
            Standing::Elsewhere
        );
    }
}
