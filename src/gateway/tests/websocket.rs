//! The WebSocket wire: whatever way a stream is cut into reads, the same messages come out.

use std::io::Cursor;

use proptest::prelude::*;
use tidewire_protocol::Encoding;
use tokio_tungstenite::tungstenite::{
    Message, WebSocket,
    protocol::{
        Role, WebSocketConfig,
        frame::{
            FrameHeader,
            coding::{CloseCode, Control, Data, OpCode},
        },
    },
};

use crate::{
    channel::HEADER_BYTES_MAX,
    gateway::websocket::{self, Inbox, Incoming, WireError},
};

const MAX: usize = 70_000;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Heard {
    Message(Vec<u8>),
    Ping(Vec<u8>),
    Close,
}

/// Feeds the reads until one fails.
fn feed(reads: &[&[u8]]) -> (Vec<Heard>, Result<(), WireError>) {
    feed_as(Encoding::MessagePack, reads)
}

fn feed_as(encoding: Encoding, reads: &[&[u8]]) -> (Vec<Heard>, Result<(), WireError>) {
    let mut inbox = Inbox::new(encoding, MAX);
    let mut heard = Vec::new();
    for read in reads {
        let fed = inbox.feed(&mut read.to_vec(), |incoming| {
            heard.push(match incoming {
                Incoming::Message(message) => Heard::Message(message.to_vec()),
                Incoming::Ping(payload) => Heard::Ping(payload.to_vec()),
                Incoming::Close => Heard::Close,
            });
        });
        if fed.is_err() {
            return (heard, fed);
        }
    }
    (heard, Ok(()))
}

/// A frame as a client writes it.
fn frame(opcode: OpCode, is_final: bool, mask: u32, payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader {
        is_final,
        opcode,
        mask: Some(mask.to_be_bytes()),
        ..FrameHeader::default()
    };
    let mut bytes = Vec::new();
    header.format(payload.len() as u64, &mut bytes).unwrap();
    let masked = payload
        .iter()
        .zip(mask.to_be_bytes().into_iter().cycle())
        .map(|(byte, mask)| byte ^ mask);
    bytes.extend(masked);
    bytes
}

const BINARY: OpCode = OpCode::Data(Data::Binary);
const TEXT: OpCode = OpCode::Data(Data::Text);
const CONTINUE: OpCode = OpCode::Data(Data::Continue);
const PING: OpCode = OpCode::Control(Control::Ping);
const PONG: OpCode = OpCode::Control(Control::Pong);
const CLOSE: OpCode = OpCode::Control(Control::Close);

/// Something a client says, as frames and as what is to be heard of it.
#[derive(Debug, Clone)]
struct Said {
    bytes: Vec<u8>,
    heard: Vec<Heard>,
}

fn payload(max: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..max)
}

fn whole() -> impl Strategy<Value = Said> {
    let lengths = prop_oneof![
        payload(40),
        prop::sample::select(vec![0, 125, 126, 127, 65_535, 65_536])
            .prop_map(|length| vec![0xa7; length]),
    ];
    (lengths, any::<u32>()).prop_map(|(payload, mask)| Said {
        bytes: frame(BINARY, true, mask, &payload),
        heard: vec![Heard::Message(payload)],
    })
}

fn control() -> impl Strategy<Value = Said> {
    (payload(126), any::<u32>(), any::<bool>()).prop_map(|(payload, mask, is_ping)| Said {
        bytes: frame(if is_ping { PING } else { PONG }, true, mask, &payload),
        heard: if is_ping {
            vec![Heard::Ping(payload)]
        } else {
            Vec::new()
        },
    })
}

/// A message in pieces, with control frames between them.
fn fragmented() -> impl Strategy<Value = Said> {
    let piece = (payload(60), any::<u32>(), proptest::option::of(control()));
    proptest::collection::vec(piece, 2..6).prop_map(|pieces| {
        let mut said = Said {
            bytes: Vec::new(),
            heard: Vec::new(),
        };
        let (mut message, last) = (Vec::new(), pieces.len() - 1);
        for (at, (piece, mask, control)) in pieces.into_iter().enumerate() {
            let opcode = if at == 0 { BINARY } else { CONTINUE };
            said.bytes.extend(frame(opcode, at == last, mask, &piece));
            message.extend(piece);
            if at < last
                && let Some(control) = control
            {
                said.bytes.extend(control.bytes);
                said.heard.extend(control.heard);
            }
        }
        said.heard.push(Heard::Message(message));
        said
    })
}

fn cut<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.sort_unstable();
    let mut reads = Vec::new();
    let mut from = 0;
    for to in at {
        reads.push(&bytes[from..to]);
        from = to;
    }
    reads.push(&bytes[from..]);
    reads
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_stream_is_heard_alike_however_it_is_cut(
        said in proptest::collection::vec(prop_oneof![whole(), control(), fragmented()], 1..8),
        closes: bool,
        after in payload(30),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut bytes: Vec<u8> = said.iter().flat_map(|said| said.bytes.clone()).collect();
        let mut expected: Vec<_> = said.into_iter().flat_map(|said| said.heard).collect();
        if closes {
            bytes.extend(frame(CLOSE, true, 9, &[3, 232]));
            bytes.extend(after);
            expected.push(Heard::Close);
        }
        prop_assert_eq!(feed(&cut(&bytes, &cuts)), (expected, Ok(())));
    }

    #[test]
    fn noise_is_heard_alike_however_it_is_cut(
        bytes in payload(600),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        prop_assert_eq!(feed(&cut(&bytes, &cuts)), feed(&[&bytes]));
    }

    #[test]
    fn noise_in_a_good_stream_is_heard_alike_however_it_is_cut(
        said in proptest::collection::vec(prop_oneof![control(), fragmented()], 1..6),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let mut bytes: Vec<u8> = said.into_iter().flat_map(|said| said.bytes).collect();
        for (at, flip) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
        }
        prop_assert_eq!(feed(&cut(&bytes, &cuts)), feed(&[&bytes]));
    }

    #[test]
    fn what_the_library_writes_is_read(payload in payload(300), chunk in 1..40_usize) {
        let mut client = WebSocket::from_raw_socket(
            Cursor::new(Vec::new()),
            Role::Client,
            Some(WebSocketConfig::default()),
        );
        client.send(Message::binary(payload.clone())).unwrap();
        client.send(Message::Ping(payload[..payload.len().min(125)].to_vec().into())).unwrap();
        client.close(None).unwrap();
        let bytes = client.into_inner().into_inner();
        let reads: Vec<_> = bytes.chunks(chunk).collect();
        let ping = payload[..payload.len().min(125)].to_vec();
        let expected = vec![Heard::Message(payload), Heard::Ping(ping), Heard::Close];
        prop_assert_eq!(feed(&reads), (expected, Ok(())));
    }
}

#[test]
fn what_breaks_the_rules_is_refused() {
    let unmasked = {
        let mut bytes = Vec::new();
        let header = FrameHeader {
            is_final: true,
            opcode: BINARY,
            ..FrameHeader::default()
        };
        header.format(3, &mut bytes).unwrap();
        bytes.extend(b"abc");
        bytes
    };
    let reserved = |bit: u8| {
        let mut bytes = frame(BINARY, true, 1, b"abc");
        bytes[0] |= bit;
        bytes
    };
    let two = |one: Vec<u8>, next: Vec<u8>| [one, next].concat();
    let rows = [
        ("unmasked", unmasked, WireError::Broken),
        ("reserved bit 1", reserved(0x40), WireError::Broken),
        ("reserved bit 2", reserved(0x20), WireError::Broken),
        ("reserved bit 3", reserved(0x10), WireError::Broken),
        (
            "text on a binary connection",
            frame(TEXT, true, 1, b"{}"),
            WireError::Broken,
        ),
        (
            "a reserved data opcode",
            frame(OpCode::Data(Data::Reserved(3)), true, 1, b""),
            WireError::Broken,
        ),
        (
            "a reserved control opcode",
            frame(OpCode::Control(Control::Reserved(11)), true, 1, b""),
            WireError::Broken,
        ),
        (
            "a continuation of nothing",
            frame(CONTINUE, true, 1, b"a"),
            WireError::Broken,
        ),
        (
            "a message inside a message",
            two(frame(BINARY, false, 1, b"a"), frame(BINARY, true, 1, b"b")),
            WireError::Broken,
        ),
        (
            "a control frame in pieces",
            frame(PING, false, 1, b"a"),
            WireError::Broken,
        ),
        (
            "a long control frame",
            frame(PING, true, 1, &[0; 126]),
            WireError::Broken,
        ),
        (
            "a message over the limit",
            frame(BINARY, true, 1, &[0; MAX + 1]),
            WireError::TooLarge,
        ),
        (
            "fragments over the limit",
            two(
                frame(BINARY, false, 1, &[0; MAX]),
                frame(CONTINUE, true, 1, b"a"),
            ),
            WireError::TooLarge,
        ),
    ];
    for (what, bytes, error) in rows {
        let before = frame(BINARY, true, 7, b"before");
        let stream = [before, bytes].concat();
        let expected = (vec![Heard::Message(b"before".to_vec())], Err(error));
        assert_eq!(feed(&[&stream]), expected, "{what}");
        let single: Vec<_> = stream.chunks(1).collect();
        if stream.len() < 1_000 {
            assert_eq!(feed(&single), expected, "{what}, byte by byte");
        }
    }
    let too_large = &frame(BINARY, true, 1, &[0; MAX + 1])[..14];
    assert_eq!(
        feed(&[too_large]).1,
        Err(WireError::TooLarge),
        "by its header alone"
    );
    let mut endless = vec![0x82, 0xff];
    endless.extend([0xff; 12]);
    assert!(feed(&[&endless]).1.is_err());
}

#[test]
fn a_message_of_exactly_the_limit_passes_whole_or_in_pieces() {
    let message = vec![1; MAX];
    let whole = frame(BINARY, true, 5, &message);
    let pieces = [
        frame(BINARY, false, 5, &message[..MAX - 1]),
        frame(CONTINUE, false, 5, &[]),
        frame(CONTINUE, true, 5, &[1]),
    ]
    .concat();
    for stream in [whole, pieces] {
        assert_eq!(
            feed(&[&stream]),
            (vec![Heard::Message(message.clone())], Ok(()))
        );
    }
    let text = frame(TEXT, true, 5, b"{}");
    let heard = vec![Heard::Message(b"{}".to_vec())];
    assert_eq!(feed_as(Encoding::Json, &[&text]), (heard, Ok(())));
}

/// What a client's library reads of the node's bytes.
fn read_by_library(bytes: Vec<u8>) -> Message {
    let mut client = WebSocket::from_raw_socket(Cursor::new(bytes), Role::Client, None);
    client.read().unwrap()
}

#[test]
fn sealed_messages_are_what_clients_read() {
    for length in [0, 1, 125, 126, 65_535, 65_536, 200_000] {
        let payload = vec![b'j'; length];
        for encoding in [Encoding::Json, Encoding::MessagePack] {
            let mut bytes = vec![0; HEADER_BYTES_MAX];
            bytes.extend_from_slice(&payload);
            let begin = websocket::seal(encoding, &mut bytes);
            let expected = match encoding {
                Encoding::Json => Message::text(String::from_utf8(payload.clone()).unwrap()),
                Encoding::MessagePack => Message::binary(payload.clone()),
            };
            assert_eq!(
                read_by_library(bytes[begin..].to_vec()),
                expected,
                "{length}"
            );
        }
    }
}

#[test]
fn pongs_and_closes_are_what_clients_read() {
    let pong = read_by_library(websocket::pong(b"ping"));
    assert_eq!(pong, Message::Pong(b"ping".to_vec().into()));
    let Message::Close(Some(close)) = read_by_library(websocket::close(4409, "replaced")) else {
        panic!("no close frame");
    };
    assert_eq!(close.code, CloseCode::from(4409));
    assert_eq!(close.reason.as_str(), "replaced");
}
