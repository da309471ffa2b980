//! Node-local logs against simple models. What the modules share: publications, the frames a
//! client would see of them, and a reader that keeps who marked it.

mod compacted;
mod frames;
mod log;
mod reader;
mod segments;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use parking_lot::Mutex;
use proptest::test_runner::Config;
use tidewire_protocol::{
    ChannelName, Encoding, Epoch, Name, Payload, Position, decode, encode, frame::Publication,
};

use super::{log::ENCODINGS, *};
use crate::{broker::Head, telemetry::tally::Tally};

/// Cases of a property here: enough to meet every pair of operations, in well under a second.
fn cases(cases: u32) -> Config {
    Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    }
}

fn name() -> ChannelName {
    ChannelName::new("room:1").unwrap()
}

fn epoch(life: u32) -> Epoch {
    Epoch::new(&format!("e{life}")).unwrap()
}

fn head(life: u32, offset: u64) -> Head {
    let position = Position {
        epoch: epoch(life),
        offset,
    };
    Head::of_one(position, offset + 1, 0)
}

fn publication(offset: u64, key: Option<u8>, size: usize) -> Arc<Publication> {
    Arc::new(Publication {
        offset,
        ts: 1_000 + offset,
        payload: Some(Payload::bytes(Bytes::from(vec![b'x'; size]))),
        key: key.map(|key| Name::new(&format!("k{key}")).unwrap()),
        event: None,
        id: None,
        by: None,
        deleted: false,
        expires: None,
    })
}

/// What becomes of a publication that continues a clean channel.
const OWED: Appended = Appended::Added {
    owes_mark: true,
    hole: false,
};
/// One that continues a channel whose readers are to be marked anyway.
const ADDED: Appended = Appended::Added {
    owes_mark: false,
    hole: false,
};

/// The frame of a publication as it goes to a client.
fn encoded(encoding: Encoding, publication: &Publication) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode::msg(encoding, &name(), publication, &mut bytes);
    bytes
}

fn joined(encoding: Encoding, frames: &[Vec<u8>]) -> Vec<u8> {
    frames.join(encode::separator(encoding))
}

const fn at(life: u32, cursor: u64) -> Place {
    Place {
        life,
        segment: 0,
        cursor,
    }
}

fn empty(encoding: Encoding) -> Message {
    Message::reusing(encoding, Vec::new())
}

/// The publications of a message, as the client reads them.
fn publications_in(message: Message) -> Vec<Arc<Publication>> {
    let encoding = message.encoding();
    let bytes = message.into_bytes();
    decode::frames(encoding, &bytes[HEADER_BYTES_MAX..])
        .unwrap()
        .into_iter()
        .map(|frame| match frame {
            tidewire_protocol::Frame::Msg { publication, .. } => publication,
            other => panic!("not a publication: {other:?}"),
        })
        .collect()
}

fn options(keeps_history: bool, tail_bytes: usize) -> ChannelOptions {
    ChannelOptions {
        counts: None,
        keeps_history,
        tail_bytes,
    }
}

fn live(options: ChannelOptions, offset: u64) -> Channel {
    let channel = Channel::new(name(), options);
    assert!(channel.cut(&head(0, offset)));
    channel
}

const fn view(encoding: Encoding, mode: Mode) -> View {
    View { encoding, mode }
}

/// A reader that only counts its marks and pulls.
#[derive(Debug, Default)]
struct Recorder {
    marks: Mutex<Vec<u8>>,
    queued: AtomicBool,
    pulls: AtomicUsize,
}

impl Reader for Recorder {
    fn mark(&self, slot: u8) -> bool {
        self.marks.lock().push(slot);
        !self.queued.swap(true, Ordering::AcqRel)
    }

    fn pull(self: Arc<Self>, _tally: &mut Tally<'_>) {
        self.queued.store(false, Ordering::Release);
        self.pulls.fetch_add(1, Ordering::Relaxed);
    }
}
