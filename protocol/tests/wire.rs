//! The exact bytes of some frames, and the rules of names, codes and data one by one.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use tidewire_protocol::{
    ChannelName, CloseCode, Encoding, Epoch, ErrorCode, Frame, Name, Payload, PayloadError,
    Position, Publication, encode, payload::write_msgpack,
};

fn publication() -> Publication {
    Publication {
        offset: 119,
        ts: 1_760_000_000_456,
        payload: Some(Payload::from_json_text(b" {\"at\":\n\"door\"} ").unwrap()),
        key: Some(Name::new("courier").unwrap()),
        event: None,
        id: Some(Name::new("01JAV").unwrap()),
        by: Some(Name::new("ada").unwrap()),
        deleted: false,
        expires: None,
    }
}

#[test]
fn a_msg_is_one_compact_line() {
    let mut out = b"before".to_vec();
    let channel = ChannelName::new("orders:42").unwrap();
    encode::msg(Encoding::Json, &channel, &publication(), &mut out);
    let expected = r#"before{"t":"msg","ch":"orders:42","o":119,"d":{"at": "door"},"k":"courier","id":"01JAV","ts":1760000000456,"by":"ada"}"#;
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn a_msg_in_messagepack_uses_the_shortest_formats() {
    let mut out = Vec::new();
    let channel = ChannelName::new("a").unwrap();
    let publication = Publication {
        payload: Some(Payload::bytes(vec![1, 2].into())),
        key: None,
        id: None,
        by: None,
        ..publication()
    };
    encode::msg(Encoding::MessagePack, &channel, &publication, &mut out);
    let expected = b"\x85\xa1t\xa3msg\xa2ch\xa1a\xa1o\x77\xa1b\xc4\x02\x01\x02\
                     \xa2ts\xcf\x00\x00\x01\x99\xc8\x2c\xc1\xc8";
    assert_eq!(
        out.escape_ascii().to_string(),
        expected.escape_ascii().to_string()
    );
}

#[test]
fn an_error_carries_what_stands_there() {
    let frame = Frame::Error {
        i: Some(3),
        code: ErrorCode::PreconditionFailed,
        text: "another \"came\" first".into(),
        retry_ms: None,
        position: Some(Position {
            epoch: Epoch::new("7f.2").unwrap(),
            offset: 120,
        }),
    };
    let mut out = Vec::new();
    frame.encode(Encoding::Json, &mut out);
    let expected = r#"{"t":"error","i":3,"code":412,"name":"precondition_failed","text":"another \"came\" first","e":"7f.2","o":120}"#;
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn data_is_refused_for_its_reason() {
    let json = |text: &str| Payload::from_json_text(text.as_bytes()).unwrap_err();
    assert_eq!(json(""), PayloadError::Syntax { at: 0 });
    assert_eq!(json("[1] x"), PayloadError::Syntax { at: 4 });
    assert_eq!(json("1e400"), PayloadError::Number);
    assert_eq!(json("\"\\ud800\""), PayloadError::Surrogate);
    assert_eq!(json("{\"a\":1,\"\\u0061\":2}"), PayloadError::DuplicateKey);
    assert_eq!(
        json(&("[".repeat(33) + &"]".repeat(33))),
        PayloadError::TooDeep
    );
    assert_eq!(
        Payload::from_json_text(b"\"\xff\"").unwrap_err(),
        PayloadError::Utf8
    );
    let msgpack = |bytes: &[u8]| Payload::from_msgpack(bytes).unwrap_err();
    assert_eq!(msgpack(b""), PayloadError::Syntax { at: 0 });
    assert_eq!(msgpack(b"\x01\x01"), PayloadError::Syntax { at: 1 });
    assert_eq!(msgpack(b"\x81\x01\x01"), PayloadError::Key);
    assert_eq!(msgpack(b"\xd4\x01\x01"), PayloadError::Extension);
    assert_eq!(msgpack(b"\xc4\x00"), PayloadError::Bytes);
    assert_eq!(msgpack(b"\xca\x7f\xc0\x00\x00"), PayloadError::Number);
    assert_eq!(msgpack(b"\xa1\xff"), PayloadError::Utf8);
}

#[test]
fn minus_zero_and_whole_doubles_stay_doubles() {
    for (text, written) in [
        ("-0", "-0.0"),
        ("1.0", "1.0"),
        ("1e3", "1000.0"),
        ("7", "7"),
    ] {
        let mut wire = Vec::new();
        write_msgpack(text.as_bytes(), &mut wire);
        let back = Payload::from_msgpack(&wire).unwrap();
        assert_eq!(back, Payload::from_json_text(written.as_bytes()).unwrap());
    }
}

#[test]
fn every_channel_has_a_presence_channel_a_client_can_name() {
    let channel = ChannelName::new(&"n".repeat(200)).unwrap();
    let presence = channel.presence();
    assert_eq!(ChannelName::new(presence.as_str()).as_ref(), Ok(&presence));
    assert_eq!(presence.presence_of(), Some(channel));
    assert!(ChannelName::new(&"n".repeat(201)).is_err());
}

#[test]
fn codes_that_are_not_known_go_by_their_band() {
    for code in ErrorCode::ALL {
        assert_eq!(
            ErrorCode::from_wire(code.number().into(), code.name()),
            code
        );
    }
    assert_eq!(
        ErrorCode::from_wire(404, "unknown_key"),
        ErrorCode::UnknownChannel
    );
    assert_eq!(ErrorCode::from_wire(418, "teapot"), ErrorCode::BadRequest);
    assert_eq!(ErrorCode::from_wire(599, "odd"), ErrorCode::Internal);
    for code in CloseCode::ALL {
        assert_eq!(CloseCode::from_wire(code.number().into()), code);
    }
    assert!(CloseCode::from_wire(4499).blocks());
    assert!(!CloseCode::from_wire(4599).blocks());
    assert!(!CloseCode::from_wire(1006).blocks());
}
