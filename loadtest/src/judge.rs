//! Judges what readers were given by the numbers in it: lost, repeated, disordered.
//!
//! Every reader's task feeds its own [`Follower`]; the stage asks all of them at the end. It holds
//! one number per reader and stream, so that tens of thousands of readers can be judged, where
//! `tests/check` keeps every publication and judges the finer promises of `tests/sim` and
//! `tests/chaos`. It never looks at offsets or epochs: the product cannot talk it round.

use std::sync::atomic::{AtomicU64, Ordering};

/// Holes a reader may have in one stream at a time; past them what is missing counts as lost even
/// if it comes later. A sound run has none.
const HOLES_MAX: usize = 1_024;

/// What a reader is owed of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Every number.
    Every,
    /// Rising numbers, and the last one in the end.
    Latest,
}

/// What became of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was due, or overtook others that are missing now.
    Taken,
    /// It had come before.
    Repeated,
    /// It came after one with a higher number.
    Disordered,
}

/// What was published, by stream; the same for all readers.
#[derive(Debug)]
pub struct Ledger {
    streams: Vec<Published>,
    /// The number of the second stream; the first is 0.
    second: u32,
}

#[derive(Debug, Default)]
struct Published {
    given: AtomicU64,
    acknowledged: AtomicU64,
}

impl Ledger {
    /// So many streams, of which nothing is published.
    pub fn new(streams: usize) -> Self {
        Self::part(streams, 1)
    }

    /// So many streams: 0, and those from `second` on.
    pub fn part(streams: usize, second: u32) -> Self {
        let mut list = Vec::new();
        list.resize_with(streams, Published::default);
        Self {
            streams: list,
            second,
        }
    }

    /// So many were published and acknowledged, as somebody else knows.
    pub fn set(&self, stream: u32, last: u64) {
        if let Some(stream) = self.stream(stream) {
            stream.given.store(last, Ordering::Relaxed);
            stream.acknowledged.store(last, Ordering::Relaxed);
        }
    }

    /// The next number of a stream; from here on every reader of it is owed it.
    pub fn next(&self, stream: u32) -> u64 {
        self.stream(stream)
            .map_or(0, |stream| stream.given.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The hub has answered for one more of this stream.
    pub fn acknowledge(&self, stream: u32) {
        if let Some(stream) = self.stream(stream) {
            stream.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The highest number of a stream.
    pub fn last(&self, stream: u32) -> u64 {
        self.stream(stream)
            .map_or(0, |stream| stream.given.load(Ordering::Relaxed))
    }

    /// How many were published, and how many of those were acknowledged.
    pub fn totals(&self) -> (u64, u64) {
        let sum = |of: fn(&Published) -> &AtomicU64| {
            let streams = self.streams.iter();
            streams
                .map(|stream| of(stream).load(Ordering::Relaxed))
                .sum()
        };
        (
            sum(|stream| &stream.given),
            sum(|stream| &stream.acknowledged),
        )
    }

    fn stream(&self, stream: u32) -> Option<&Published> {
        let at = match stream {
            0 => 0,
            stream => stream.checked_sub(self.second)? + 1,
        };
        self.streams.get(usize::try_from(at).ok()?)
    }
}

/// One reader's account.
#[derive(Debug)]
pub struct Follower {
    rule: Rule,
    tracks: Vec<Track>,
}

#[derive(Debug)]
struct Track {
    stream: u32,
    /// The first number this reader is owed.
    from: u64,
    /// One past the highest that came.
    next: u64,
    /// Overtaken ranges, both ends included.
    holes: Vec<(u64, u64)>,
    /// Overtaken and no longer told apart.
    beyond: u64,
}

impl Follower {
    /// A reader that is owed nothing yet.
    pub const fn new(rule: Rule) -> Self {
        Self {
            rule,
            tracks: Vec::new(),
        }
    }

    /// From this number on, every one of the stream is owed. Said again, it changes nothing: who
    /// comes back is still owed what it was.
    pub fn owe(&mut self, stream: u32, from: u64) {
        if let Err(at) = self.find(stream) {
            let track = Track {
                stream,
                from,
                next: from,
                holes: Vec::new(),
                beyond: 0,
            };
            self.tracks.insert(at, track);
        }
    }

    /// A message came.
    pub fn take(&mut self, stream: u32, number: u64) -> Verdict {
        let Ok(at) = self.find(stream) else {
            self.owe(stream, number + 1);
            return Verdict::Taken;
        };
        let rule = self.rule;
        let track = &mut self.tracks[at];
        if number >= track.next {
            if number > track.next && rule == Rule::Every {
                track.overtake(number);
            }
            track.next = number + 1;
            return Verdict::Taken;
        }
        match rule {
            Rule::Every if track.fill(number) => Verdict::Disordered,
            Rule::Latest if number + 1 < track.next => Verdict::Disordered,
            Rule::Every | Rule::Latest => Verdict::Repeated,
        }
    }

    /// Messages owed and not here.
    pub fn missing(&self, ledger: &Ledger) -> u64 {
        let tracks = self.tracks.iter();
        tracks.map(|track| track.missing(self.rule, ledger)).sum()
    }

    /// Messages owed in all: under [`Rule::Latest`] the last of each stream.
    pub fn owed(&self, ledger: &Ledger) -> u64 {
        let of = |track: &Track| match (self.rule, ledger.last(track.stream) + 1) {
            (Rule::Every, end) => end.saturating_sub(track.from),
            (Rule::Latest, end) => u64::from(end > track.from),
        };
        self.tracks.iter().map(of).sum()
    }

    /// One hole in words, for whoever looks for its cause.
    pub fn example(&self, ledger: &Ledger) -> Option<String> {
        let lacking = |track: &&Track| track.missing(self.rule, ledger) > 0;
        let track = self.tracks.iter().find(lacking)?;
        let last = ledger.last(track.stream);
        let (from, to) = track.holes.first().copied().unwrap_or((track.next, last));
        Some(format!(
            "stream {} of 1 to {last}: {from} to {to} did not come",
            track.stream
        ))
    }

    fn find(&self, stream: u32) -> Result<usize, usize> {
        self.tracks
            .binary_search_by_key(&stream, |track| track.stream)
    }
}

impl Track {
    fn overtake(&mut self, number: u64) {
        let hole = (self.next, number - 1);
        if self.holes.len() < HOLES_MAX {
            self.holes.push(hole);
        } else {
            self.beyond += number - self.next;
        }
    }

    /// Whether the number was in a hole, which it leaves.
    fn fill(&mut self, number: u64) -> bool {
        let within = |&(from, to): &(u64, u64)| from <= number && number <= to;
        let Some(at) = self.holes.iter().position(within) else {
            return false;
        };
        let (from, to) = self.holes.remove(at);
        if number < to {
            self.holes.insert(at, (number + 1, to));
        }
        if from < number {
            self.holes.insert(at, (from, number - 1));
        }
        true
    }

    fn missing(&self, rule: Rule, ledger: &Ledger) -> u64 {
        let tail = (ledger.last(self.stream) + 1).saturating_sub(self.next);
        match rule {
            Rule::Latest => u64::from(tail > 0),
            Rule::Every => {
                let holes = self.holes.iter().map(|(from, to)| to - from + 1);
                tail + self.beyond + holes.sum::<u64>()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(count: u64) -> Ledger {
        let ledger = Ledger::new(1);
        for _ in 0..count {
            ledger.next(0);
        }
        ledger
    }

    fn follower(rule: Rule, numbers: &[u64]) -> (Follower, Vec<Verdict>) {
        let mut follower = Follower::new(rule);
        follower.owe(0, 1);
        let verdicts = numbers.iter().map(|number| follower.take(0, *number));
        let verdicts = verdicts.collect();
        (follower, verdicts)
    }

    #[test]
    fn everything_once_and_in_order_is_all_that_is_owed() {
        let (follower, verdicts) = follower(Rule::Every, &[1, 2, 3]);
        assert_eq!(verdicts, [Verdict::Taken; 3]);
        assert_eq!(follower.missing(&published(3)), 0);
        assert_eq!(follower.owed(&published(3)), 3);
    }

    #[test]
    fn a_hole_is_lost_and_so_is_an_end_that_never_came() {
        let (follower, _) = follower(Rule::Every, &[1, 3, 6]);
        assert_eq!(follower.missing(&published(8)), 1 + 2 + 2);
        let example = follower.example(&published(8));
        assert_eq!(
            example.as_deref(),
            Some("stream 0 of 1 to 8: 2 to 2 did not come")
        );
    }

    #[test]
    fn what_comes_late_is_disordered_and_what_comes_again_is_repeated() {
        let (follower, verdicts) = follower(Rule::Every, &[1, 4, 2, 3, 4, 2]);
        let late = [Verdict::Disordered; 2];
        let again = [Verdict::Repeated; 2];
        assert_eq!(verdicts[2..4], late);
        assert_eq!(verdicts[4..], again);
        assert_eq!(follower.missing(&published(4)), 0);
    }

    #[test]
    fn who_joins_late_is_owed_what_follows() {
        let mut follower = Follower::new(Rule::Every);
        follower.owe(0, 5);
        assert_eq!(follower.take(0, 5), Verdict::Taken);
        follower.owe(0, 6);
        assert_eq!(follower.owed(&published(6)), 2);
        assert_eq!(follower.missing(&published(6)), 1);
    }

    #[test]
    fn the_newest_may_leave_out_but_not_go_back_and_not_stop_early() {
        let (follower, verdicts) = follower(Rule::Latest, &[2, 5, 5, 4]);
        let expected = [
            Verdict::Taken,
            Verdict::Taken,
            Verdict::Repeated,
            Verdict::Disordered,
        ];
        assert_eq!(verdicts, expected);
        assert_eq!(follower.missing(&published(5)), 0);
        assert_eq!(follower.missing(&published(6)), 1);
    }

    #[test]
    fn more_holes_than_are_kept_are_lost_all_the_same() {
        let odd: Vec<u64> = (0..2_000).map(|step| 1 + 2 * step).collect();
        let (follower, _) = follower(Rule::Every, &odd);
        assert_eq!(follower.missing(&published(3_999)), 1_999);
    }
}
