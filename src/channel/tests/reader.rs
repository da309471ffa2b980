//! The promise of a channel to its readers: whatever is appended, lost on the way, evicted,
//! blanked or begun anew, a reader that goes to history or state where it is told to sees each
//! offset once and in order, and in mode `latest` ends on the newest of every key.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Publish(Option<u8>, usize),
    /// Published, but the announcement is lost.
    Unheard(Option<u8>),
    /// An announcement comes twice.
    Again,
    Evict,
    Blank(u64),
    NewLife,
    /// The reader reads at most this much.
    Read(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let key = || proptest::option::weighted(0.8, 0..5_u8);
    prop_oneof![
        10 => (key(), 0..400_usize).prop_map(|(key, size)| Step::Publish(key, size)),
        1 => key().prop_map(Step::Unheard),
        1 => Just(Step::Again),
        1 => Just(Step::Evict),
        1 => (1..40_u64).prop_map(Step::Blank),
        1 => Just(Step::NewLife),
        6 => (1..2_000_usize).prop_map(Step::Read),
    ]
}

/// The stored log, a node's channel over it, and one reader.
struct World {
    mode: Mode,
    encoding: Encoding,
    channel: Channel,
    life: u32,
    log: Vec<Arc<Publication>>,
    cursor: u64,
    reader_life: u32,
    /// What it was told its delivery starts after.
    start: u64,
    seen: Vec<Arc<Publication>>,
}

impl World {
    fn new(mode: Mode, encoding: Encoding, tail_bytes: usize) -> Self {
        let channel = live(options(true, tail_bytes), 0);
        channel
            .join(Arc::new(Recorder::default()), 0, view(encoding, mode))
            .unwrap();
        Self {
            mode,
            encoding,
            channel,
            life: 0,
            log: Vec::new(),
            cursor: 0,
            reader_life: 0,
            start: 0,
            seen: Vec::new(),
        }
    }

    fn publish(&mut self, key: Option<u8>, size: usize, is_heard: bool) {
        let publication = publication(self.log.len() as u64 + 1, key, size);
        self.log.push(Arc::clone(&publication));
        if is_heard {
            self.channel.append(&epoch(self.life), &publication);
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Publish(key, size) => self.publish(key, size, true),
            Step::Unheard(key) => self.publish(key, 10, false),
            Step::Again => {
                if let Some(last) = self.log.last() {
                    let last = Arc::clone(last);
                    self.channel.append(&epoch(self.life), &last);
                    self.channel.append(&epoch(self.life), &last);
                }
            }
            Step::Evict => self.channel.evict(),
            Step::Blank(offset) => {
                if offset <= self.log.len() as u64 {
                    self.channel.blank(offset);
                }
            }
            Step::NewLife => {
                self.life += 1;
                self.log.clear();
                self.channel.reset(&head(self.life, 0));
            }
            Step::Read(bytes_max) => {
                self.read(bytes_max);
            }
        }
    }

    /// One step of the reader; false: it is at the head.
    fn read(&mut self, bytes_max: usize) -> bool {
        let mut message = empty(self.encoding);
        let read = self.channel.read(
            self.mode,
            at(self.reader_life, self.cursor),
            &mut message,
            bytes_max,
        );
        match read {
            Read::Copied { cursor, count, .. } => {
                let found = if message.is_empty() {
                    Vec::new()
                } else {
                    publications_in(message)
                };
                assert_eq!(found.len() as u64, count);
                self.take(found, cursor);
                true
            }
            Read::Behind => {
                self.load();
                true
            }
            Read::NewLife(head) => {
                let position = head.position;
                assert_eq!((head.life, position.epoch), (self.life, epoch(self.life)));
                self.reader_life = head.life;
                (self.cursor, self.start) = (position.offset, position.offset);
                self.seen.clear();
                true
            }
            Read::AtHead => false,
            Read::Full | Read::Gap { .. } | Read::Boundary(_) => {
                panic!("{read:?} with an empty message and history")
            }
        }
    }

    /// What history, or state, answers to a reader that is behind: a few at a time.
    fn load(&mut self) {
        let after: Vec<_> = self.log[usize::try_from(self.cursor).unwrap()..].to_vec();
        assert!(!after.is_empty(), "behind with nothing stored above");
        let owed: Vec<_> = match self.mode {
            Mode::Every => after.into_iter().take(3).collect(),
            Mode::Latest => {
                let newest: BTreeMap<_, _> = after
                    .iter()
                    .map(|publication| (publication.key.clone(), Arc::clone(publication)))
                    .collect();
                let mut newest: Vec<_> = newest.into_values().collect();
                newest.sort_by_key(|publication| publication.offset);
                newest.truncate(3);
                newest
            }
        };
        let cursor = owed.last().unwrap().offset;
        self.take(owed, cursor);
    }

    fn take(&mut self, found: Vec<Arc<Publication>>, cursor: u64) {
        for publication in found {
            let last = self.seen.last().map_or(0, |last| last.offset);
            match self.mode {
                Mode::Every => assert_eq!(publication.offset, self.cursor + 1),
                Mode::Latest => assert!(publication.offset > last.max(self.cursor)),
            }
            assert_eq!(
                publication,
                self.log[usize::try_from(publication.offset).unwrap() - 1]
            );
            self.cursor = publication.offset;
            self.seen.push(publication);
        }
        assert!(cursor >= self.cursor && cursor <= self.log.len() as u64);
        self.cursor = cursor;
    }

    fn check_end(&mut self) {
        self.publish(Some(0), 10, true);
        while self.read(500) {}
        assert_eq!(self.cursor, self.log.len() as u64);
        let newest: BTreeMap<_, _> = self
            .log
            .iter()
            .filter(|publication| publication.offset > self.start)
            .map(|publication| (publication.key.clone(), publication.offset))
            .collect();
        let shown: BTreeMap<_, _> = self
            .seen
            .iter()
            .map(|publication| (publication.key.clone(), publication.offset))
            .collect();
        assert_eq!(shown, newest);
    }
}

proptest! {
    #![proptest_config(cases(200))]
    #[test]
    fn a_reader_sees_what_its_mode_promises(
        steps in proptest::collection::vec(step(), 1..80),
        is_latest: bool,
        binary: bool,
        tail_bytes in 1..4_000_usize,
    ) {
        let mode = if is_latest { Mode::Latest } else { Mode::Every };
        let mut world = World::new(mode, ENCODINGS[usize::from(binary)], tail_bytes);
        for step in steps {
            world.apply(step);
        }
        world.check_end();
    }
}
