//! One subscription as the node holds it, and the client at its other end, which checks that each
//! frame follows from those before.

use std::collections::BTreeMap;

use tidewire_protocol::{
    Frame, decode,
    frame::{Publication, Recovery},
};

use super::*;
use crate::{
    channel::{HEADER_BYTES_MAX, Message},
    session::{End, Paged, Step, put},
};

/// What a client knows of a channel.
#[derive(Debug)]
struct Client {
    mode: Mode,
    position: Position,
    /// Where delivery began, or began anew; of what lies below, nothing is owed.
    begun: u64,
    /// By offset, what it was given and was not taken back; gaps are none.
    seen: BTreeMap<u64, Option<Arc<Publication>>>,
    /// The newest of each key.
    state: BTreeMap<Option<Name>, Arc<Publication>>,
    /// A snapshot was completed: the state is that of the channel.
    is_whole: bool,
}

impl Client {
    fn start_over(&mut self, position: Position) {
        self.begun = position.offset;
        self.position = position;
        self.seen.clear();
        self.state.clear();
        self.is_whole = false;
    }

    fn set(&mut self, publication: &Arc<Publication>) {
        let held = self.state.get(&publication.key);
        if held.is_none_or(|held| held.offset < publication.offset) {
            self.state
                .insert(publication.key.clone(), Arc::clone(publication));
        }
    }

    fn take(&mut self, log: &Log, frame: Frame) {
        match frame {
            Frame::Msg { publication, .. } => {
                let Position { epoch, offset } = &self.position;
                match self.mode {
                    Mode::Every => assert_eq!(publication.offset, offset + 1, "a silent hole"),
                    Mode::Latest => assert!(publication.offset > *offset),
                }
                let real = log.at(epoch, publication.offset);
                assert_eq!(Some(&publication), real, "a phantom of another generation");
                self.position.offset = publication.offset;
                self.set(&publication);
                self.seen.insert(publication.offset, Some(publication));
            }
            Frame::Gap { from, to, .. } => {
                assert_eq!(from, self.position.offset + 1);
                assert!(to >= from);
                self.seen.extend((from..=to).map(|offset| (offset, None)));
                self.position.offset = to;
            }
            Frame::Rewind {
                epoch, to, lost, ..
            } => {
                assert_ne!(epoch, self.position.epoch);
                // In mode latest the cursor may have passed offsets that were conflated.
                match self.mode {
                    Mode::Every => assert_eq!(lost, self.position.offset - to),
                    Mode::Latest => assert!(lost >= self.position.offset.saturating_sub(to)),
                }
                self.seen.split_off(&(to + 1));
                self.state.retain(|_, held| held.offset <= to);
                self.begun = self.begun.min(to);
                self.position = Position { epoch, offset: to };
            }
            Frame::Subscribed {
                position,
                recovery: Recovery::Reset,
                ..
            } => self.start_over(position),
            Frame::State { items, more, .. } => {
                for item in items {
                    assert!(item.publication.offset <= self.position.offset);
                    self.set(&item.publication);
                }
                self.is_whole |= !more;
            }
            Frame::Live { offset, .. } => {
                assert!(offset >= self.position.offset);
                self.position.offset = offset;
            }
            other => panic!("{other:?} to a subscription"),
        }
    }
}

/// A subscription, its client, and a page that is on its way.
#[derive(Debug)]
pub struct Reader {
    sub: Sub,
    client: Client,
    page: Option<(Progress, Loaded)>,
}

impl Reader {
    pub fn new(channel: &Arc<Channel>, mode: Mode, fallback: Fallback) -> Self {
        let wishes = Wishes {
            fallback,
            mode,
            ..wishes()
        };
        let view = View {
            encoding: Encoding::Json,
            mode,
        };
        let joined = channel.join(Arc::new(Nobody), 0, view).unwrap();
        let position = joined.head.position;
        let cursor = position.offset;
        let progress = Progress {
            life: joined.head.life,
            segment: joined.head.segment,
            cursor,
            left_out: cursor,
            begun: cursor,
            phase: Phase::Replay,
            replayed: 0,
        };
        Self {
            sub: Sub {
                channel: Arc::clone(channel),
                reader: joined.key,
                number: 0,
                wishes,
                progress,
                floor: cursor,
                is_unheard: false,
                due_ms: 0,
                armed: false,
            },
            client: Client {
                mode,
                begun: cursor,
                position,
                seen: BTreeMap::new(),
                state: BTreeMap::new(),
                is_whole: false,
            },
            page: None,
        }
    }

    fn give(&mut self, log: &Log, message: Message, step: &Step) {
        let bytes = message.into_bytes();
        let bytes = &bytes[HEADER_BYTES_MAX..];
        if !bytes.is_empty() {
            for frame in decode::frames(Encoding::Json, bytes).unwrap() {
                self.client.take(log, frame);
            }
        }
        step.take_effect(&mut self.sub);
        assert!(self.sub.floor <= self.sub.progress.cursor);
        if self.client.mode == Mode::Every {
            assert_eq!(self.client.position.offset, self.sub.progress.cursor);
        }
        if let Some(epoch) = self.sub.channel.epoch_at(self.sub.progress.place()) {
            assert_eq!(epoch, self.client.position.epoch);
        }
    }

    /// Reads once. False: there was nothing to do.
    pub fn read(&mut self, log: &Log, bytes_max: usize) -> bool {
        let mut message = Message::reusing(Encoding::Json, Vec::new());
        let (step, end) = Step::read(0, &self.sub, &mut message, bytes_max);
        let moved = step.progress != self.sub.progress;
        self.give(log, message, &step);
        if end == End::Done {
            // Nobody calls again before something happens.
            let mut message = Message::reusing(Encoding::Json, Vec::new());
            let (again, _) = Step::read(0, &self.sub, &mut message, bytes_max);
            assert!(again.progress == self.sub.progress && message.is_empty());
        }
        if end == End::Behind {
            if self.page.is_none() {
                self.page = Some((self.sub.progress, log.load(Need::of(&self.sub))));
            }
            return true;
        }
        moved
    }

    /// The page that was asked for arrives. True: it is of another log than the channel's.
    pub fn load(&mut self, log: &Log) -> bool {
        let Some((progress, loaded)) = self.page.take() else {
            return false;
        };
        if progress != self.sub.progress {
            return false;
        }
        let mut message = Message::reusing(Encoding::Json, Vec::new());
        match put(0, &self.sub, &loaded, &mut message) {
            Paged::Moved(step) => self.give(log, message, &step),
            Paged::Nothing => {}
            Paged::OtherLog => return true,
        }
        false
    }

    /// The connection is lost; the client comes back with what it knows.
    pub fn come_back(&mut self, log: &Log) {
        let channel = Arc::clone(&self.sub.channel);
        let head = log.head();
        let view = View {
            encoding: Encoding::Json,
            mode: self.client.mode,
        };
        channel.leave(self.sub.reader, view);
        let joined = channel.join(Arc::new(Nobody), 0, view).unwrap();
        let position = self.client.position.clone();
        let standing = channel.stand(&position, &head.position);
        let request = StartRequest {
            position: Some(position.clone()),
            fallback: self.sub.wishes.fallback,
            mode: self.client.mode,
        };
        let start = plan(&request, &standing, &joined.head, Some(&head));
        (self.sub.reader, self.sub.progress) = (joined.key, start.progress);
        self.sub.floor = start.progress.cursor;
        self.page = None;
        match start.recovery {
            Recovery::Full => assert_eq!(start.position, position),
            Recovery::Reset => self.client.start_over(start.position),
            Recovery::Fresh => panic!("it came back with a position"),
        }
        if let Some(boundary) = start.rewind {
            let mut message = Message::reusing(Encoding::Json, Vec::new());
            let mut step = Step::at(0, &self.sub);
            step.cross(&self.sub, boundary, &mut message);
            self.give(log, message, &step);
        }
    }

    /// Once nothing is on its way: all that the client holds is on the surviving log, and all of
    /// that it was given, or told that it is gone.
    pub fn check(&self, log: &Log) {
        let head = log.head().position;
        let client = &self.client;
        assert_eq!(client.position.epoch, head.epoch);
        for (offset, seen) in &client.seen {
            if let Some(publication) = seen {
                assert_eq!(log.at(&head.epoch, *offset), Some(publication), "a phantom");
            }
        }
        if client.is_whole {
            let keyed = |state: &BTreeMap<Option<Name>, Arc<Publication>>| {
                let mut state = state.clone();
                state.remove(&None);
                state
            };
            assert_eq!(keyed(&client.state), keyed(&log.newest(1)));
        }
        match client.mode {
            Mode::Every => {
                assert_eq!(client.position.offset, head.offset);
                let owed = client.begun + 1..=head.offset;
                let unexplained: Vec<_> = owed.filter(|at| !client.seen.contains_key(at)).collect();
                assert_eq!(unexplained, [0_u64; 0], "silent holes");
            }
            Mode::Latest => {
                for (key, newest) in log.newest(client.begun + 1) {
                    let shown = client.state.get(&key).map(|shown| shown.offset);
                    assert_eq!(shown, Some(newest.offset), "{key:?}");
                }
            }
        }
    }
}
