//! What goes wrong in a run, and when. A family of seeds is biased towards one kind of trouble,
//! after the interleavings that the design must survive; every run has some of everything else.

use std::time::Duration;

use super::random::Random;

/// One thing that goes wrong. Numbers name nodes and clients, modulo how many there are.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// The standby takes over. `lossy`: without what it did not get yet.
    FailOver {
        lossy: bool,
        zombie: bool,
    },
    /// Everything is gone.
    Flush,
    /// How far the standby is behind from here on, ms.
    Lag(u64),
    /// A connection for announcements ends.
    CutLane(usize),
    /// One loses everything from here on and nobody is told.
    FreezeLane(usize),
    /// Some of the next announcements are lost without a word, or come twice.
    DropNext(usize, u64),
    DoubleNext(usize, u64),
    /// What is under way is lost in a full buffer.
    Overflow(usize),
    /// Calls and answers are lost this often in a thousand, for a while.
    Storm(u64),
    Pause(usize, u64),
    Kill(usize, u64),
    Drain(usize, u64),
    /// A node leaves, and the one its clients would go to dies.
    DrainAndKill(usize),
    CutClient(usize),
    FreezeClient(usize, u64),
    Double(usize),
    /// The first of two connections of one session loses its welcome.
    WelcomeLost(usize),
    Forget(usize),
    Acknowledge(usize),
    Again(usize),
    Steal(usize),
    Delete(usize),
    Blank(usize),
    /// The tombstones of a state are dropped.
    DropTombstones(usize),
}

/// What a run is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    Everything,
    LaggingFailover,
    Zombies,
    LosslessFailover,
    Lanes,
    SilentLoss,
    ClaimLost,
    DoubleResume,
    DuplicatedTab,
    MoveToTheDead,
    RewindAtHello,
    UnsubAtTheCut,
    Tombstones,
    States,
    Gaps,
    SlowSockets,
    TailsEvicted,
    Lives,
    Storms,
    Forgetting,
}

impl Family {
    pub const ALL: [Self; 20] = [
        Self::Everything,
        Self::LaggingFailover,
        Self::Zombies,
        Self::LosslessFailover,
        Self::Lanes,
        Self::SilentLoss,
        Self::ClaimLost,
        Self::DoubleResume,
        Self::DuplicatedTab,
        Self::MoveToTheDead,
        Self::RewindAtHello,
        Self::UnsubAtTheCut,
        Self::Tombstones,
        Self::States,
        Self::Gaps,
        Self::SlowSockets,
        Self::TailsEvicted,
        Self::Lives,
        Self::Storms,
        Self::Forgetting,
    ];

    pub fn of(seed: u64) -> Self {
        Self::ALL[usize::try_from(seed % Self::ALL.len() as u64).unwrap()]
    }

    /// Whether tails hold next to nothing.
    pub const fn is_tight(self) -> bool {
        matches!(self, Self::TailsEvicted | Self::Tombstones)
    }

    /// How many of a thousand clients are slow.
    pub const fn slow(self) -> u64 {
        if matches!(self, Self::SlowSockets) {
            800
        } else if self.is_tight() {
            500
        } else {
            100
        }
    }

    /// How many of a thousand publications with a key remove it.
    pub const fn removes(self) -> u64 {
        if matches!(self, Self::Tombstones) {
            300
        } else {
            120
        }
    }

    /// The namespaces its channels are drawn from.
    pub const fn namespaces(self) -> &'static [&'static str] {
        match self {
            Self::Tombstones | Self::States => &["state", "thin"],
            Self::Gaps => &["few", "none", "thin"],
            Self::LaggingFailover | Self::LosslessFailover | Self::Zombies => {
                &["log", "log", "state", "few"]
            }
            Self::Everything
            | Self::Lanes
            | Self::SilentLoss
            | Self::ClaimLost
            | Self::DoubleResume
            | Self::DuplicatedTab
            | Self::MoveToTheDead
            | Self::RewindAtHello
            | Self::UnsubAtTheCut
            | Self::SlowSockets
            | Self::TailsEvicted
            | Self::Lives
            | Self::Storms
            | Self::Forgetting => &["log", "log", "few", "none", "state", "thin"],
        }
    }

    /// One fault of the kind it is about.
    fn own(self, random: &mut Random) -> Vec<Fault> {
        let (node, client) = (random.index(8), random.index(8));
        match self {
            Self::Everything => vec![any(random)],
            Self::LaggingFailover => vec![
                Fault::Lag(random.between(50, 1500)),
                Fault::FailOver {
                    lossy: true,
                    zombie: random.chance(200),
                },
            ],
            Self::Zombies => vec![
                Fault::Lag(random.between(1, 300)),
                Fault::FailOver {
                    lossy: random.chance(500),
                    zombie: true,
                },
            ],
            Self::LosslessFailover => vec![Fault::FailOver {
                lossy: false,
                zombie: false,
            }],
            Self::Lanes => vec![match random.below(3) {
                0 => Fault::CutLane(node),
                1 => Fault::FreezeLane(node),
                _ => Fault::Overflow(node),
            }],
            Self::SilentLoss => vec![if random.chance(700) {
                Fault::DropNext(node, random.between(1, 4))
            } else {
                Fault::DoubleNext(node, random.between(1, 4))
            }],
            Self::ClaimLost => vec![
                Fault::Lag(random.between(200, 1500)),
                Fault::Pause(node, random.between(500, 4000)),
                Fault::CutClient(client),
                Fault::FailOver {
                    lossy: true,
                    zombie: false,
                },
            ],
            Self::DoubleResume => vec![if random.chance(500) {
                Fault::Double(client)
            } else {
                Fault::WelcomeLost(client)
            }],
            Self::DuplicatedTab => vec![Fault::Steal(client)],
            Self::MoveToTheDead => vec![Fault::DrainAndKill(node)],
            Self::RewindAtHello => vec![
                Fault::Lag(random.between(200, 1500)),
                Fault::CutClient(client),
                Fault::FailOver {
                    lossy: true,
                    zombie: false,
                },
                Fault::CutClient(random.index(8)),
            ],
            Self::UnsubAtTheCut => vec![Fault::Again(client), Fault::CutLane(node)],
            Self::Tombstones => {
                let mut faults = vec![
                    Fault::FreezeClient(client, random.between(300, 2500)),
                    Fault::DropTombstones(random.index(8)),
                ];
                // A resume begins above what was dropped; a reader that lives goes on below it.
                if random.chance(500) {
                    faults.push(Fault::CutClient(client));
                }
                faults
            }
            Self::States => vec![Fault::CutClient(client), Fault::Again(random.index(8))],
            Self::Gaps => vec![
                Fault::FreezeClient(client, random.between(300, 3000)),
                Fault::CutClient(random.index(8)),
            ],
            Self::SlowSockets => vec![Fault::FreezeClient(client, random.between(100, 2000))],
            Self::TailsEvicted if random.chance(500) => {
                vec![Fault::CutClient(client), Fault::Overflow(node)]
            }
            // Pages come of the new log while heads, which would tell of it, are lost.
            Self::TailsEvicted => vec![
                Fault::FailOver {
                    lossy: random.chance(500),
                    zombie: true,
                },
                Fault::Storm(random.between(100, 400)),
            ],
            Self::Lives => vec![match random.below(4) {
                0 => Fault::Flush,
                1 => Fault::Blank(random.index(8)),
                _ => Fault::Delete(random.index(8)),
            }],
            Self::Storms => vec![Fault::Storm(random.between(50, 400))],
            Self::Forgetting => vec![Fault::Acknowledge(client), Fault::Forget(client)],
        }
    }
}

fn any(random: &mut Random) -> Fault {
    let at = random.index(8);
    match random.below(24) {
        0 => Fault::FailOver {
            lossy: random.chance(700),
            zombie: random.chance(300),
        },
        1 => Fault::Lag(random.between(1, 1500)),
        2 => Fault::CutLane(at),
        3 => Fault::FreezeLane(at),
        4 => Fault::DropNext(at, random.between(1, 3)),
        5 => Fault::DoubleNext(at, random.between(1, 3)),
        6 => Fault::Overflow(at),
        7 => Fault::Storm(random.between(20, 300)),
        8 => Fault::Pause(at, random.between(200, 4000)),
        9 => Fault::Kill(at, random.between(100, 3000)),
        10 => Fault::Drain(at, random.between(100, 3000)),
        11 | 12 => Fault::CutClient(at),
        13 | 14 => Fault::FreezeClient(at, random.between(100, 3000)),
        15 => Fault::Double(at),
        16 => Fault::Forget(at),
        17 | 18 => Fault::Acknowledge(at),
        19 | 20 => Fault::Again(at),
        21 => Fault::Steal(at),
        22 => Fault::Blank(at),
        _ => Fault::DropTombstones(at),
    }
}

/// When what goes wrong, ms since the begin, in order.
pub fn schedule(family: Family, random: &mut Random, end_ms: u64) -> Vec<(u64, Fault)> {
    let mut schedule = Vec::new();
    let mut now_ms = random.between(300, 1200);
    while now_ms < end_ms {
        if random.chance(650) {
            let mut at_ms = now_ms;
            for fault in family.own(random) {
                schedule.push((at_ms, fault));
                at_ms += random.between(0, 400);
            }
        } else {
            schedule.push((now_ms, any(random)));
        }
        now_ms += random.between(100, 1500);
    }
    schedule.sort_by_key(|(at_ms, _)| *at_ms);
    schedule
}

/// How long a storm takes.
pub const STORM: Duration = Duration::from_millis(800);
