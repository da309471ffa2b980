//! The whole core against a model of a node: connections that are cut, moved and deliver late,
//! frames that come twice or are left out, histories that expire and logs that lose their end.
//! Whatever happens, the application's copy of the log is the node's, or it was told where not.

use proptest::prelude::*;
use serde_json::{Value, json};
use tidewire_protocol::{
    Command, Position,
    command::{Fallback, Mode, Sub},
};

use super::world::{World, welcome};
use crate::{
    Event, Payload, Status,
    core::{ReaderId, SocketEnd, Wish},
};

/// What may happen; numbers choose among connections, newest first.
#[derive(Debug, Clone, Copy)]
enum Act {
    Publish,
    /// The node reads what the client sent.
    Read(usize),
    /// It delivers what comes next.
    Deliver(usize),
    /// It delivers again what came so long ago.
    Repeat(usize, usize),
    /// It leaves some out without a word.
    Skip(usize, usize),
    /// History keeps only so many.
    Expire(usize),
    /// The log loses its last ones.
    Lose(usize),
    Cut(usize),
    Move,
    Wait(u64),
    Park,
    Unpark,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        12 => Just(Act::Publish),
        12 => (0..3_usize).prop_map(Act::Read),
        24 => (0..2_usize).prop_map(Act::Deliver),
        3 => (0..2_usize, 0..5_usize).prop_map(|(at, back)| Act::Repeat(at, back)),
        1 => (0..2_usize, 1..4_usize).prop_map(|(at, count)| Act::Skip(at, count)),
        1 => (0..6_usize).prop_map(Act::Expire),
        2 => (1..4_usize).prop_map(Act::Lose),
        2 => (0..2_usize).prop_map(Act::Cut),
        2 => Just(Act::Move),
        6 => (0..2_000_u64).prop_map(Act::Wait),
        1 => Just(Act::Park),
        2 => Just(Act::Unpark),
    ];
    proptest::collection::vec(act, 1..150)
}

/// One connection as the node serves it.
#[derive(Debug, Clone, Default)]
struct Served {
    opened: bool,
    cut: bool,
    /// The life and offset delivered last, where it is subscribed.
    at: Option<(usize, usize)>,
    live: bool,
}

struct Journey {
    world: World,
    reader: ReaderId,
    /// The node's log; a publication's data is its own number.
    log: Vec<u64>,
    published: u64,
    /// After which offset each life of the log went on; the first is life 0.
    lives: Vec<usize>,
    kept: usize,
    connections: Vec<Served>,
    /// The application's copy; none where it was told that nothing can be had.
    copy: Vec<Option<u64>>,
    begun: bool,
}

impl Journey {
    fn new() -> Self {
        let mut world = World::new(vec!["token".to_owned()]);
        let wish = Wish {
            after: None,
            fallback: Fallback::Now,
            mode: Mode::Every,
            hz: None,
            me: None,
        };
        let reader = world.subscribe("c", wish);
        Self {
            world,
            reader,
            log: Vec::new(),
            published: 0,
            lives: vec![0],
            kept: 0,
            connections: Vec::new(),
            copy: Vec::new(),
            begun: false,
        }
    }

    /// The connection so many before the newest.
    fn connection(&mut self, back: usize) -> Option<usize> {
        self.world.settle();
        self.connections
            .resize_with(self.world.sockets.len(), Served::default);
        let at = self.connections.len().checked_sub(back + 1)?;
        (!self.connections[at].cut).then_some(at)
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Publish => {
                self.published += 1;
                self.log.push(self.published);
            }
            Act::Read(back) => {
                if let Some(at) = self.connection(back) {
                    self.read(at);
                }
            }
            Act::Deliver(back) => {
                if let Some(at) = self.connection(back) {
                    self.deliver(at);
                }
            }
            Act::Repeat(back, before) => {
                if let Some(at) = self.connection(back)
                    && let Some((life, offset)) = self.connections[at].at
                    && let Some(offset) = offset.checked_sub(before).filter(|offset| *offset > 0)
                    && offset <= self.reach(life)
                {
                    self.world.push(at, &[self.msg(offset)]);
                }
            }
            Act::Skip(back, count) => {
                if let Some(at) = self.connection(back)
                    && let Some((life, offset)) = self.connections[at].at
                {
                    let reach = self.reach(life).max(offset);
                    self.connections[at].at = Some((life, (offset + count).min(reach)));
                }
            }
            Act::Expire(left) => self.kept = self.kept.max(self.log.len().saturating_sub(left)),
            Act::Lose(count) => {
                let to = self.log.len().saturating_sub(count).max(self.kept);
                self.log.truncate(to);
                self.lives.push(to);
            }
            Act::Cut(back) => {
                if let Some(at) = self.connection(back) {
                    self.connections[at].cut = true;
                    self.world.end(at, SocketEnd::Broken);
                }
            }
            Act::Move => {
                for at in 0..self.connections.len() {
                    if !self.connections[at].cut {
                        self.world
                            .push(at, &[json!({"t": "move", "in": 0, "by": 30_000})]);
                    }
                }
            }
            Act::Wait(ms) => self.world.advance(ms),
            Act::Park => self.world.engine.park(self.reader),
            Act::Unpark => self.world.engine.unpark(self.reader),
        }
        self.world.settle();
        self.look();
    }

    /// How far this life of the log goes as later ones have it.
    fn reach(&self, life: usize) -> usize {
        let later = self.lives.get(life + 1..).unwrap_or_default();
        later.iter().copied().min().unwrap_or(self.log.len())
    }

    fn msg(&self, offset: usize) -> Value {
        json!({"t": "msg", "ch": "c", "o": offset, "d": self.log[offset - 1], "ts": 1})
    }

    /// Reads what the client sent on a connection, and answers.
    fn read(&mut self, at: usize) {
        if !std::mem::replace(&mut self.connections[at].opened, true) {
            self.world.open(at);
        }
        while let Some(command) = self.world.sent(at) {
            #[expect(clippy::wildcard_enum_match_arm, reason = "the model answers no other")]
            match command {
                Command::Hello(hello) => {
                    self.world.push(at, &[welcome("s1", "k1", self.world.now)]);
                    for sub in hello.subs.unwrap() {
                        self.subscribe(at, &sub);
                    }
                }
                Command::Sub(sub) => self.subscribe(at, &sub),
                Command::Unsub { i, .. } => {
                    self.connections[at].at = None;
                    if let Some(i) = i {
                        self.world.push(at, &[json!({"t": "ok", "i": i})]);
                    }
                }
                _ => {}
            }
        }
    }

    fn subscribe(&mut self, at: usize, sub: &Sub) {
        let asked = sub.position.as_ref().map(|Position { epoch, offset }| {
            let life = epoch.as_str().strip_prefix('e').unwrap().parse().unwrap();
            (life, usize::try_from(*offset).unwrap())
        });
        let rec = if asked.is_some() { "full" } else { "fresh" };
        let (life, offset) = asked.unwrap_or((self.lives.len() - 1, self.log.len()));
        self.connections[at].at = Some((life, offset));
        self.connections[at].live = false;
        let mut ok =
            json!({"t": "ok", "ch": "c", "e": format!("e{life}"), "o": offset, "rec": rec});
        if let Some(i) = sub.i {
            ok["i"] = i.into();
        }
        self.world.push(at, &[ok]);
    }

    /// Delivers what comes next on a connection: the end of a life, a gap, a publication, or that
    /// there is no more.
    fn deliver(&mut self, at: usize) {
        let Some((life, offset)) = self.connections[at].at else {
            return;
        };
        let next_life = self.lives.get(life + 1).copied();
        let reach = next_life.unwrap_or(self.log.len()).min(self.reach(life));
        let (frame, to) = if let Some(to) = next_life.filter(|to| offset >= *to) {
            let lost = offset - to;
            let epoch = format!("e{}", life + 1);
            let rewind = json!({"t": "rewind", "ch": "c", "e": epoch, "to": to, "lost": lost});
            (rewind, (life + 1, to))
        } else if offset >= reach && next_life.is_none() {
            if std::mem::replace(&mut self.connections[at].live, true) {
                return;
            }
            (
                json!({"t": "live", "ch": "c", "o": offset, "n": 0}),
                (life, offset),
            )
        } else if offset >= reach {
            // What lies between was lost by a later life: nobody can have it.
            let to = next_life.unwrap_or(reach);
            let gap =
                json!({"t": "gap", "ch": "c", "from": offset + 1, "to": to, "reason": "expired"});
            (gap, (life, to))
        } else if offset < self.kept {
            let to = self.kept.min(reach);
            let gap =
                json!({"t": "gap", "ch": "c", "from": offset + 1, "to": to, "reason": "expired"});
            (gap, (life, to))
        } else {
            (self.msg(offset + 1), (life, offset + 1))
        };
        self.connections[at].at = Some(to);
        self.world.push(at, &[frame]);
    }

    /// The application keeps its copy.
    fn look(&mut self) {
        while let Some(event) = self.world.event() {
            match event {
                Event::Fresh(position) => {
                    assert!(!std::mem::replace(&mut self.begun, true), "begun once");
                    self.copy = vec![None; usize::try_from(position.offset).unwrap()];
                }
                Event::Message(message) => {
                    let offset = usize::try_from(message.publication.offset).unwrap();
                    assert_eq!(
                        offset,
                        self.copy.len() + 1,
                        "in order, once, nothing left out"
                    );
                    let Some(Payload::Json(text)) = &message.publication.payload else {
                        panic!("{message:?}");
                    };
                    self.copy.push(Some(serde_json::from_slice(text).unwrap()));
                }
                Event::Gap { from, to, .. } => {
                    assert_eq!(usize::try_from(from).unwrap(), self.copy.len() + 1);
                    self.copy.resize(usize::try_from(to).unwrap(), None);
                }
                Event::Rewind { to, .. } => {
                    let to = usize::try_from(to).unwrap();
                    assert!(to <= self.copy.len());
                    self.copy.truncate(to);
                }
                Event::Live { position, .. } => {
                    assert_eq!(usize::try_from(position.offset).unwrap(), self.copy.len());
                }
                Event::Reset(_) | Event::State { .. } | Event::Stale(_) | Event::Refused { .. } => {
                    panic!("{event:?}")
                }
            }
        }
    }

    /// A node that does its work brings the reader to the head; its copy is the log.
    fn arrive(&mut self) {
        self.act(Act::Unpark);
        for at in 0..self.connections.len() {
            self.connections[at].cut = true;
            self.world.end(at, SocketEnd::Broken);
        }
        let rounds = 4 * (self.log.len() + self.lives.len()) + 8;
        while !matches!(self.world.status, Status::Online(_)) {
            self.act(Act::Wait(250));
            self.act(Act::Read(0));
        }
        for _ in 0..rounds {
            self.act(Act::Read(0));
            self.act(Act::Deliver(0));
        }
        assert!(
            self.begun,
            "{:?} {:?}",
            self.world.status,
            self.connections.last()
        );
        assert_eq!(self.copy.len(), self.log.len(), "brought to the head");
        for (copied, published) in self.copy.iter().zip(&self.log) {
            assert!(
                copied.is_none_or(|copied| copied == *published),
                "{:?} {:?}",
                self.copy,
                self.log
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn the_copy_of_the_application_is_the_log_of_the_node(acts in acts()) {
        let mut journey = Journey::new();
        for act in acts {
            journey.act(act);
        }
        journey.arrive();
    }
}
