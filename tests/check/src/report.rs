//! What was found wrong, by class.

use std::{collections::BTreeMap, fmt};

/// Violations kept of one class: the first ones tell the story, a broken build makes millions.
const KEPT_PER_CLASS: usize = 20;

/// The ways to break the promises (the first five after `jepsen.tests.kafka`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A publication that was refused was read, or is in the log.
    RefusedButRead,
    /// Two publications at one position.
    TwoPayloads,
    /// An acknowledged publication is not in the log, and no loss of its end explains it.
    LostAcknowledged,
    /// A publication was left out and nothing was said.
    Skip,
    /// A publication came after a later one.
    Inversion,
    /// The application was given a publication twice.
    Repeat,
    /// What the application holds is not in the log, and it was not told.
    Phantom,
    /// A delivery began below what the client held, or under another epoch, and nothing was said.
    PositionBack,
    /// A publication is in the log twice.
    TwiceInLog,
    /// A `rewind` that does not say where the client stands, or takes back what survived.
    WrongRewind,
    /// A `gap` over what is there, or not behind the cursor.
    WrongGap,
    /// A reset of a position that was on the log.
    NeedlessReset,
    /// The values held by key are not those of the state.
    WrongState,
    /// A write of a session by an owner that was replaced.
    StaleOwner,
    /// A client that should be live is not at the head after all faults are over.
    NotLive,
    /// A message of a channel the client does not read, or that nobody published there.
    Foreign,
}

/// One violation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What kind.
    pub class: Class,
    /// The number of the event that showed it, in the order fed; past the last: the end.
    pub at: usize,
    /// What happened, for people.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at event {}: {}", self.class, self.at, self.text)
    }
}

/// The verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The first violations of each class, in the order found.
    pub violations: Vec<Violation>,
    /// How many there were of each.
    pub counts: BTreeMap<Class, usize>,
    /// Publications given to applications and judged.
    pub deliveries: u64,
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// Whether this class was violated.
    #[must_use]
    pub fn has(&self, class: Class) -> bool {
        self.counts.contains_key(&class)
    }

    pub(crate) fn add(&mut self, class: Class, at: usize, text: String) {
        let count = self.counts.entry(class).or_insert(0);
        *count += 1;
        if *count <= KEPT_PER_CLASS {
            self.violations.push(Violation { class, at, text });
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} deliveries judged, {:?}",
            self.deliveries, self.counts
        )?;
        self.violations
            .iter()
            .try_for_each(|violation| writeln!(f, "  {violation}"))
    }
}
