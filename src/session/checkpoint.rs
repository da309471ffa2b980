//! The durable form of a session: its subscriptions with acknowledged floors, as MessagePack.
//!
//! Unknown fields are ignored and missing ones have defaults, so that nodes of neighbouring
//! versions resume each other's sessions.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidewire_protocol::{
    ChannelName, Epoch, Name, Position,
    command::{Fallback, Mode},
};

use super::{
    Event, Member, Phase, Session, Sub, Wishes,
    events::{Recoveries, What},
};

/// A session as the store has it.
#[derive(Debug, Default, PartialEq)]
pub struct Stored {
    pub subs: Vec<StoredSub>,
    /// What happened to the session, oldest first.
    pub events: Vec<Event>,
}

/// A subscription as the store has it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredSub {
    pub channel: ChannelName,
    /// What the application acknowledged.
    pub floor: Position,
    /// The floor is the beginning after a reset that nobody acknowledged: it is told again.
    pub is_unheard: bool,
    pub mode: Mode,
    pub fallback: Fallback,
    pub hz: Option<u32>,
    pub member: Option<Box<Member>>,
}

impl StoredSub {
    /// Whether it is this subscription with all its wishes, and has a position in it.
    pub(super) fn is_of(&self, sub: &Sub) -> bool {
        let Wishes {
            mode,
            fallback,
            hz,
            member,
        } = &sub.wishes;
        self.channel == *sub.channel.name()
            && self.floor.epoch != Epoch::unknown()
            && self.is_unheard == sub.is_unheard
            && (self.mode, self.fallback, self.hz) == (*mode, *fallback, *hz)
            && self.member == *member
    }
}

#[derive(Serialize, Deserialize, Default)]
struct Body {
    #[serde(default)]
    subs: Vec<Entry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    events: Vec<Happened>,
}

/// An event in few bytes; one of a kind this version does not know is passed over.
#[derive(Serialize, Deserialize)]
struct Happened {
    at: u64,
    n: Box<str>,
    #[serde(default)]
    k: u8,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    v: Vec<u16>,
}

const BEGAN: u8 = 1;
const RESUMED: u8 = 2;
const CLOSED: u8 = 3;

impl Happened {
    fn of(event: &Event) -> Self {
        let (k, v) = match event.what {
            What::Began => (BEGAN, Vec::new()),
            What::Resumed(Recoveries { full, reset, fresh }) => (RESUMED, vec![full, reset, fresh]),
            What::Closed { code } => (CLOSED, code.into_iter().collect()),
        };
        Self {
            at: event.at,
            n: event.node.clone(),
            k,
            v,
        }
    }

    fn event(self) -> Option<Event> {
        let number = |at: usize| self.v.get(at).copied();
        let what = match self.k {
            BEGAN => What::Began,
            RESUMED => What::Resumed(Recoveries {
                full: number(0)?,
                reset: number(1)?,
                fresh: number(2)?,
            }),
            CLOSED => What::Closed { code: number(0) },
            _unknown => return None,
        };
        Some(Event {
            at: self.at,
            node: self.n,
            what,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct Entry {
    ch: String,
    e: String,
    o: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unheard: bool,
    #[serde(default)]
    latest: bool,
    #[serde(default)]
    state: bool,
    #[serde(default)]
    last: Option<u32>,
    #[serde(default)]
    hz: Option<u32>,
    #[serde(default)]
    member: Option<(String, String)>,
}

fn entry(sub: &Sub) -> Entry {
    // A cursor of a life that ended means nothing, and one whose snapshot is not complete, or is owed
    // again with an unheard reset, says more than the client was given: the subscription goes on from a
    // reset.
    let has_snapshot = sub.wishes.fallback == Fallback::State;
    let epoch = match sub.progress.phase {
        Phase::Snapshot { .. } => None,
        Phase::Replay | Phase::Live if sub.is_unheard && has_snapshot => None,
        Phase::Replay | Phase::Live => sub.channel.epoch_at(sub.progress.place()),
    };
    let (epoch, floor) = epoch.map_or_else(|| (Epoch::unknown(), 0), |epoch| (epoch, sub.floor));
    Entry {
        ch: sub.channel.name().to_string(),
        e: epoch.to_string(),
        o: floor,
        unheard: sub.is_unheard,
        latest: sub.wishes.mode == Mode::Latest,
        state: sub.wishes.fallback == Fallback::State,
        last: match sub.wishes.fallback {
            Fallback::Last(n) => Some(n),
            Fallback::Now | Fallback::State => None,
        },
        hz: sub.wishes.hz,
        member: sub.wishes.member.as_ref().map(|member| {
            (
                member.key.to_string(),
                String::from_utf8_lossy(&member.me).into_owned(),
            )
        }),
    }
}

pub(super) fn encode(session: &Session) -> Bytes {
    let body = Body {
        subs: session.subs().map(|(_, sub)| entry(sub)).collect(),
        events: session.events.as_slice().iter().map(Happened::of).collect(),
    };
    rmp_serde::to_vec_named(&body).map_or_else(|_never_fails_in_memory| Bytes::new(), Bytes::from)
}

fn stored(entry: Entry) -> Option<StoredSub> {
    let member = match entry.member {
        Some((key, me)) => Some(Box::new(Member {
            key: Name::new(&key).ok()?,
            me: Bytes::from(me),
        })),
        None => None,
    };
    Some(StoredSub {
        channel: ChannelName::new(&entry.ch).ok()?,
        floor: Position {
            epoch: Epoch::new(&entry.e).ok()?,
            offset: entry.o,
        },
        is_unheard: entry.unheard,
        mode: if entry.latest {
            Mode::Latest
        } else {
            Mode::Every
        },
        fallback: match (entry.state, entry.last) {
            (true, _) => Fallback::State,
            (false, Some(n)) => Fallback::Last(n),
            (false, None) => Fallback::Now,
        },
        hz: entry.hz,
        member,
    })
}

/// Reads a checkpoint's body; one just claimed is empty. None: it is not a checkpoint.
pub fn decode(body: &[u8]) -> Option<Stored> {
    if body.is_empty() {
        return Some(Stored::default());
    }
    let body: Body = rmp_serde::from_slice(body).ok()?;
    Some(Stored {
        subs: body.subs.into_iter().filter_map(stored).collect(),
        events: body
            .events
            .into_iter()
            .filter_map(Happened::event)
            .collect(),
    })
}
