//! What failovers do to readers: primaries that lag, primaries that were left and go on, lost and
//! late announcements, doubts, pages that were read before; against a model of the log.
//!
//! Whatever happens, what a client was given is explained: no hole without a `gap`, nothing of a
//! generation before its `rewind`, and in the end only what survived.

mod log;
mod reader;

use proptest::prelude::*;

use self::{log::Log, reader::Reader};
use super::*;
use crate::channel::{Appended, Settled};

#[derive(Debug, Clone)]
enum Event {
    Publish(Option<u8>),
    /// Announcements arrive.
    Hear(usize),
    /// One is lost.
    Miss,
    /// A replica that lacks so many takes over.
    FailOver(usize),
    /// A primary that was left accepts and announces one.
    PublishOnLeft,
    Delete,
    Trim(u64),
    Evict,
    /// The node asks for the head.
    Ask,
    /// The answer arrives.
    Answer,
    /// A reader reads at most this much, and gets the page it waits for.
    Read(usize, usize),
    Load(usize),
    ComeBack(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let key = || proptest::option::weighted(0.7, 0..3_u8);
    prop_oneof![
        8 => key().prop_map(Event::Publish),
        8 => (1..4_usize).prop_map(Event::Hear),
        1 => Just(Event::Miss),
        2 => (0..4_usize).prop_map(Event::FailOver),
        2 => Just(Event::PublishOnLeft),
        1 => prop_oneof![9 => Just(Event::Ask), 1 => Just(Event::Delete)],
        1 => (0..6_u64).prop_map(Event::Trim),
        1 => Just(Event::Evict),
        2 => Just(Event::Ask),
        2 => Just(Event::Answer),
        8 => (0..READERS, 1..600_usize).prop_map(|(reader, bytes)| Event::Read(reader, bytes)),
        4 => (0..READERS).prop_map(Event::Load),
        1 => (0..READERS).prop_map(Event::ComeBack),
    ]
}

/// Every mode with every fallback that differs.
const READERS: usize = 5;

struct World {
    log: Log,
    channel: Arc<Channel>,
    readers: Vec<Reader>,
    /// What was answered to the last question, and the version of the log when it was asked.
    answer: Option<(Head, u64)>,
    doubted: bool,
}

impl World {
    fn new(keeps_history: bool, tail_bytes: usize) -> Self {
        let options = ChannelOptions {
            counts: None,
            keeps_history,
            tail_bytes,
        };
        let log = Log::new(keeps_history);
        let channel = Channel::new(ChannelName::new("room:1").unwrap(), options);
        assert!(channel.cut(&log.head()));
        let channel = Arc::new(channel);
        let readers = [
            (Mode::Every, Fallback::Now),
            (Mode::Every, Fallback::State),
            (Mode::Every, Fallback::Last(2)),
            (Mode::Latest, Fallback::Now),
            (Mode::Latest, Fallback::State),
        ];
        Self {
            readers: readers
                .map(|(mode, fallback)| Reader::new(&channel, mode, fallback))
                .into(),
            log,
            channel,
            answer: None,
            doubted: false,
        }
    }

    fn hear(&mut self) {
        if let Some((epoch, publication)) = self.log.announced.pop_front() {
            match self.channel.append(&epoch, &publication) {
                Appended::Added { .. } | Appended::Dropped => {}
                Appended::Doubted => self.doubted = true,
                Appended::Refused => panic!("a defect"),
            }
        }
    }

    fn settle(&mut self) {
        if let Some((head, version)) = self.answer.take() {
            self.doubted = self.channel.settle(&head, version).0 == Settled::Unsure;
        }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Publish(key) => self.log.publish(key),
            Event::Hear(count) => (0..count).for_each(|_| self.hear()),
            Event::Miss => drop(self.log.announced.pop_front()),
            Event::FailOver(lag) => self.log.fail_over(lag),
            Event::PublishOnLeft => self.log.publish_on_left(),
            Event::Delete => self.log.delete(),
            Event::Trim(kept) => self.log.trim(kept),
            Event::Evict => self.channel.evict(),
            Event::Ask => self.answer = Some((self.log.head(), self.channel.version().0)),
            Event::Answer => self.settle(),
            Event::Read(reader, bytes_max) => {
                self.readers[reader].read(&self.log, bytes_max);
            }
            Event::Load(reader) => self.doubted |= self.readers[reader].load(&self.log),
            Event::ComeBack(reader) => self.readers[reader].come_back(&self.log),
        }
    }

    /// Everything arrives, the log is compared, and all read to the end.
    fn come_to_rest(&mut self) {
        while !self.log.announced.is_empty() {
            self.hear();
        }
        self.settle();
        for _ in 0..2 {
            self.apply(Event::Ask);
            self.settle();
        }
        for reader in &mut self.readers {
            reader.load(&self.log);
            for _ in 0..1_000 {
                let has_more = reader.read(&self.log, 500);
                assert!(!reader.load(&self.log), "the page is of the channel's log");
                if !has_more {
                    break;
                }
            }
            reader.check(&self.log);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn whatever_fails_what_a_client_was_given_is_explained(
        events in proptest::collection::vec(event(), 1..120),
        keeps_history in proptest::bool::weighted(0.8),
        tail_bytes in 1..2_000_usize,
    ) {
        let mut world = World::new(keeps_history, tail_bytes);
        for event in events {
            world.apply(event);
        }
        world.come_to_rest();
    }
}
