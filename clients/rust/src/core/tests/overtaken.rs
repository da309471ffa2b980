//! The log of one channel against a model of make before break and failovers: a second connection
//! serves from where its hello said, while the first goes on, and generations come and go between
//! the two. Whatever the order, the application holds what the log holds, and nothing that
//! survived is taken back from it.

use proptest::prelude::*;
use tidewire_protocol::{Epoch, Position, command::Mode, frame::Recovery};

use crate::core::log::{ChannelLog, Step};

/// A place in the log: the generation, and the offset in it.
type Place = (usize, u64);

/// One generation: it minted what lies above `begin`, up to `head`.
#[derive(Debug)]
struct Generation {
    begin: u64,
    head: u64,
}

/// All generations of a channel; the last one mints.
#[derive(Debug)]
struct Lineage(Vec<Generation>);

impl Lineage {
    fn last(&self) -> Place {
        let last = self.0.len() - 1;
        (last, self.0[last].head)
    }

    /// Up to where a generation's log survived, and the generation that goes on from there.
    fn end(&self, of: usize) -> (u64, Option<usize>) {
        let later = (of + 1..self.0.len()).rev();
        let next = later.min_by_key(|later| self.0[*later].begin);
        let end = next.map_or(self.0[of].head, |next| self.0[next].begin);
        (end, next)
    }

    fn survives(&self, (generation, offset): Place) -> bool {
        offset <= self.end(generation).0
    }

    /// Who minted what the log holds at this offset.
    fn minted(&self, offset: u64) -> usize {
        let holds = |of: &usize| self.0[*of].begin < offset && self.survives((*of, offset));
        (0..self.0.len()).find(holds).unwrap()
    }
}

/// A connection as the node has it.
#[derive(Debug, Clone, Copy)]
struct Served {
    /// What was asked for and is not answered; inside, no position.
    asked: Option<Option<Place>>,
    at: Option<Place>,
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Publish,
    /// The next generation goes on from so much before the head.
    FailOver(u64),
    /// The living connection answers what was asked, or gives the next frame.
    Pull,
    /// It gives the next frame, though something was asked.
    PullFirst,
    /// A second connection says hello.
    Open,
    /// It is welcomed.
    Welcome,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => Just(Act::Publish),
        2 => (0..5_u64).prop_map(Act::FailOver),
        8 => Just(Act::Pull),
        2 => Just(Act::PullFirst),
        2 => Just(Act::Open),
        2 => Just(Act::Welcome),
    ];
    proptest::collection::vec(act, 1..100)
}

fn epoch(generation: usize) -> Epoch {
    Epoch::new(&format!("e{generation}")).unwrap()
}

struct Journey {
    lineage: Lineage,
    log: ChannelLog,
    living: Served,
    next: Option<Served>,
    /// What the application holds above this offset: who minted each.
    base: u64,
    held: Vec<usize>,
}

impl Journey {
    fn new() -> Self {
        let mut log = ChannelLog::new(None);
        log.opening(Mode::Every, None);
        Self {
            lineage: Lineage(vec![Generation { begin: 0, head: 0 }]),
            log,
            living: Served {
                asked: Some(None),
                at: None,
            },
            next: None,
            base: 0,
            held: Vec::new(),
        }
    }

    fn cursor(&self) -> Option<Place> {
        let Position { epoch, offset } = self.log.cursor.as_ref()?;
        Some((epoch.as_str()[1..].parse().unwrap(), *offset))
    }

    fn act(&mut self, act: Act) {
        let last = self.lineage.0.len() - 1;
        match act {
            Act::Publish => self.lineage.0[last].head += 1,
            Act::FailOver(lost) => {
                let begin = self.lineage.0[last].head.saturating_sub(lost);
                self.lineage.0.push(Generation { begin, head: begin });
            }
            Act::Pull => match self.living.asked.take() {
                Some(asked) => self.answer(asked),
                None => self.give(),
            },
            Act::PullFirst => self.give(),
            Act::Open if self.next.is_none() => {
                let asked = Some(self.cursor());
                self.next = Some(Served { asked, at: None });
            }
            Act::Open => {}
            Act::Welcome => {
                if let Some(next) = self.next.take() {
                    self.living = next;
                    self.log.lost();
                    let asked = next.asked.flatten();
                    self.log
                        .opening(Mode::Every, asked.map(|(generation, _)| epoch(generation)));
                }
            }
        }
    }

    /// `ok`: after the position that was asked for, or from now on.
    fn answer(&mut self, asked: Option<Place>) {
        let (start, recovery) = match asked {
            Some(asked) => (asked, Recovery::Full),
            None => (self.lineage.last(), Recovery::Fresh),
        };
        self.living.at = Some(start);
        let begins = self.log.cursor.is_none();
        let position = Position {
            epoch: epoch(start.0),
            offset: start.1,
        };
        let step = self.log.begun(position, recovery);
        let Step::Begun { kept, .. } = step else {
            return self.take(step, start.0);
        };
        if !kept {
            assert!(begins, "a beginning leaves out what is owed");
            self.base = start.1;
        }
    }

    /// The next frame of the living connection.
    fn give(&mut self) {
        let Some((generation, offset)) = self.living.at else {
            return;
        };
        let (end, next) = self.lineage.end(generation);
        let (step, minted) = if offset < end {
            self.living.at = Some((generation, offset + 1));
            (self.log.message(offset + 1), generation)
        } else if let Some(next) = next {
            self.living.at = Some((next, end));
            (self.log.rewind(&epoch(next), end, offset - end), next)
        } else {
            (self.log.live(offset), generation)
        };
        self.take(step, minted);
    }

    fn take(&mut self, step: Step, minted: usize) {
        match step {
            Step::Nothing | Step::Live { .. } => {}
            Step::Deliver { skipped, .. } => {
                assert_eq!(skipped, 0);
                self.held.push(minted);
                let at = self.base + self.held.len() as u64;
                assert_eq!(self.cursor(), Some((minted, at)), "it is what it is called");
            }
            Step::Rewind => {
                let to = self.cursor().unwrap().1;
                while self.base + self.held.len() as u64 > to {
                    let at = self.base + self.held.len() as u64;
                    let Some(minted) = self.held.pop() else {
                        self.base = to;
                        break;
                    };
                    let taken = (minted, at);
                    assert!(!self.lineage.survives(taken), "{taken:?} is in the log");
                }
            }
            Step::Hole => {
                let cursor = self.cursor();
                self.living.asked = Some(cursor);
                self.log
                    .opening(Mode::Every, cursor.map(|(generation, _)| epoch(generation)));
            }
            Step::Begun { .. } | Step::Gap { .. } => panic!("{step:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn what_is_held_is_what_the_log_holds_however_connections_and_failovers_cross(acts in acts()) {
        let mut journey = Journey::new();
        for act in acts {
            journey.act(act);
        }
        let head = journey.lineage.last().1;
        let frames = usize::try_from(head).unwrap() + journey.lineage.0.len();
        for _ in 0..4 * (frames + 4) {
            journey.act(Act::Pull);
        }
        let owed: Vec<usize> = (journey.base + 1..=head)
            .map(|offset| journey.lineage.minted(offset))
            .collect();
        prop_assert_eq!(journey.held, owed);
    }
}
