//! What hostile messages may cost: memory in proportion to their bytes, never to what they claim.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::System;

use cap::Cap;
use tidewire_protocol::{Encoding, Payload, decode};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Bytes allocated in all while `work` runs, those given back included. The counter is the
/// process's, so this file is one test in one thread.
fn cost<T>(work: impl FnOnce() -> T) -> usize {
    let before = ALLOCATOR.total_allocated();
    drop(work());
    ALLOCATOR.total_allocated() - before
}

/// A message of `head`, then `filler` up to `length` bytes.
fn message(head: &[u8], filler: &[u8], length: usize) -> Vec<u8> {
    let mut message = head.to_vec();
    while message.len() < length {
        message.extend_from_slice(filler);
    }
    message
}

const LENGTH: usize = 96 * 1024;

/// A map `{t: "hello", subs: …}` and the like, cut off after the key.
fn msgpack_frame(kind: &str, key: &str) -> Vec<u8> {
    let mut frame = vec![0x82, 0xa1, b't'];
    for text in [kind, key] {
        frame.push(0xa0 | u8::try_from(text.len()).unwrap());
        frame.extend_from_slice(text.as_bytes());
    }
    frame
}

#[test]
fn a_message_costs_what_its_bytes_cost() {
    claims_cost_nothing();
    hostile_messages_cost_what_their_bytes_cost();
    a_publication_is_decoded_into_its_own_memory();
}

fn claims_cost_nothing() {
    let msgpack = Encoding::MessagePack;
    for head in [
        0xdc_u8, 0xdd, 0xde, 0xdf, 0xc5, 0xc6, 0xda, 0xdb, 0xc8, 0xc9,
    ] {
        for (kind, key) in [
            ("hello", "subs"),
            ("pub", "d"),
            ("pub", "b"),
            ("ack", "c"),
            ("x", "y"),
        ] {
            let mut claim = msgpack_frame(kind, key);
            claim.extend_from_slice(&[head, 0xff, 0xff, 0xff, 0xff, 0xff]);
            let spent = cost(|| decode::commands(msgpack, &claim).is_ok());
            assert!(spent < 1024, "{kind} {key} {head:x}: {spent}");
            let spent = cost(|| decode::frames(msgpack, &claim).is_ok());
            assert!(spent < 1024, "{kind} {key} {head:x}: {spent}");
            let spent = cost(|| Payload::from_msgpack(&claim[claim.len() - 6..]).is_ok());
            assert!(spent < 1024, "{head:x}: {spent}");
        }
    }
}

fn hostile_messages_cost_what_their_bytes_cost() {
    let msgpack = Encoding::MessagePack;
    let json = |text: &[u8]| cost(|| decode::commands(Encoding::Json, text).is_ok());
    let hostile = [
        message(b"{\"t\":\"pub\",\"i\":1,\"ch\":\"a\",\"d\":", b"[", LENGTH),
        message(
            b"{\"t\":\"pub\",\"i\":1,\"ch\":\"a\",\"d\":",
            b"{\"a\":",
            LENGTH,
        ),
        message(b"{\"t\":\"hello\",\"subs\":[{}", b",{}", LENGTH),
        message(
            b"{\"t\":\"ack\",\"c\":{\"a\":[\"e\",1]",
            b",\"a\":[\"e\",1]",
            LENGTH,
        ),
        message(b"", b"{}\n", LENGTH),
        message(b"", b"{\"t\":\"x\"}\n", LENGTH),
    ];
    for text in &hostile {
        let spent = json(text);
        assert!(spent < 4 * LENGTH, "{}: {spent}", text[..30].escape_ascii());
    }
    let mut keys = message(
        b"{\"t\":\"pub\",\"ch\":\"a\",\"d\":{\"\":0",
        b",\"\":0",
        LENGTH,
    );
    keys.extend_from_slice(b"}}");
    let spent = json(&keys);
    assert!(
        spent < 24 * LENGTH,
        "a key of two bytes is remembered by its place: {spent}"
    );
    let empty_maps = vec![0x80; LENGTH];
    let spent = cost(|| decode::commands(msgpack, &empty_maps).is_ok());
    assert!(spent < 2 * LENGTH, "{spent}");
    let mut many = vec![0xdd, 0, 1, 0, 0];
    many.resize(5 + 0x1_0000, 1);
    let spent = cost(|| Payload::from_msgpack(&many).unwrap());
    assert!(spent < 8 * many.len(), "{spent}");
}

fn a_publication_is_decoded_into_its_own_memory() {
    let text = message(
        b"{\"t\":\"pub\",\"i\":1,\"ch\":\"a\",\"d\":[0",
        b",0",
        20_000,
    );
    let text = [&text[..], b"]}"].concat();
    let spent = cost(|| decode::commands(Encoding::Json, &text).unwrap());
    assert!(spent < text.len() + 2048, "{spent}");
}
