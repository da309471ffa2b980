//! Whatever a client sends: a named error or close code, and nobody else notices.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    raw::{BINARY, CONTINUE, Raw, TEXT},
    seeded::Seeded,
    support::{Client, ENCODINGS, JSON, MSGPACK, TestNode, token},
    wire,
};

async fn greeted(node: &TestNode) -> Raw {
    let mut raw = Raw::upgrade(node.address(), "").await;
    let hello = json!({"t": "hello", "token": token("ada")}).to_string();
    raw.write(&Raw::message(TEXT, hello.as_bytes())).await;
    assert_eq!(raw.frames().await[0]["t"], "welcome");
    raw
}

#[tokio::test]
async fn a_message_that_is_not_of_the_protocol_is_closed_and_has_no_effect() {
    let node = TestNode::start().await;
    let deep = format!(
        "{{\"t\":\"pub\",\"ch\":\"news\",\"x\":{}",
        "[".repeat(90_000)
    );
    let many = vec!["{\"t\":\"pong\"}"; 1025].join("\n");
    let publish = "{\"t\":\"pub\",\"ch\":\"news\",\"d\":1}\n";
    for tail in [
        "{",
        "}",
        "[]",
        "null",
        "7",
        "{}",
        "{\"t\":7}",
        "{\"t\":\"sub\",\"ch\":\"a\",\"ch\":\"b\"}",
        "{\"t\":\"pong\"}{\"t\":\"pong\"}",
        "{\"t\":\"pong\"} x",
        "{\"t\":\"pong\",}",
        "{'t':'pong'}",
        "\u{feff}{\"t\":\"pong\"}",
        "{\"t\":\"pub\",\"d\":NaN}",
        "{\"t\":\"pub\",\"d\":01}",
        &deep,
        &many,
    ] {
        let mut client = node.client("ada").await;
        client.send_text(&format!("{publish}{tail}")).await;
        assert_eq!(client.refused_with_bye().await.0, 4400, "{:.60}", tail);
    }
    let mut client = node.client("ada").await;
    client.send_text("").await;
    assert_eq!(client.refused_with_bye().await.0, 4400);
    assert_eq!(
        node.client("ada").await.publish("news", json!(1)).await["o"],
        1
    );
}

#[tokio::test]
async fn broken_messagepack_is_closed() {
    let node = TestNode::start().await;
    let frame = wire::pack(&[json!({"t": "pub", "ch": "news", "d": 1})]);
    let mut nested = vec![0x82, 0xa1, b't', 0xa4];
    nested.extend(b"pong");
    nested.extend([0xa1, b'x']);
    let mut arrays = nested.clone();
    arrays.extend([0x91].repeat(90_000));
    let mut huge = nested.clone();
    huge.extend([0xdd, 0xff, 0xff, 0xff, 0xff]);
    let mut text = nested.clone();
    text.extend([0xdb, 0xff, 0xff, 0xff, 0xff, b'a']);
    let mut map = nested.clone();
    map.extend([0xdf, 0xff, 0xff, 0xff, 0xff]);
    let mut reserved = nested.clone();
    reserved.push(0xc1);
    let mut not_utf8 = nested;
    not_utf8.extend([0xa2, 0xff, 0xfe]);
    for tail in [
        vec![0xc1],
        vec![0x81],
        vec![0x90],
        vec![0x81, 1, 1],
        arrays,
        huge,
        text,
        map,
        reserved,
        not_utf8,
    ] {
        let mut client = Client::connect_as(node.address(), MSGPACK).await;
        client.hello("ada", json!({})).await;
        let mut message = frame.clone();
        message.extend(&tail);
        client.send_bytes(message).await;
        assert_eq!(
            client.refused_with_bye().await.0,
            4400,
            "{:?}",
            &tail[..tail.len().min(9)]
        );
    }
    assert_eq!(
        node.client("ada").await.publish("news", json!(1)).await["o"],
        1
    );
}

#[tokio::test]
async fn what_can_be_read_but_breaks_a_rule_is_answered_or_closed() {
    let node = TestNode::start().await;
    let rules = [
        json!({"t": "sub", "ch": ""}),
        json!({"t": "sub", "ch": "a\u{0}b"}),
        json!({"t": "sub", "ch": "a\u{85}b"}),
        json!({"t": "sub", "ch": " a"}),
        json!({"t": "sub", "ch": "x".repeat(201)}),
        json!({"t": "sub", "ch": null}),
        json!({"t": "unsub"}),
        json!({"t": "pub", "ch": "news", "d": (0..33).fold(json!(1), |inner, _| json!([inner]))}),
        json!({"t": "history", "ch": "news", "n": -1}),
        json!({"t": "history", "ch": "news", "n": 1.5}),
        json!({"t": "history", "ch": "news", "after": 1e300}),
        json!({"t": "state", "ch": "news", "from": "1"}),
        json!({"t": "auth"}),
    ];
    for protocol in ENCODINGS {
        let mut client = Client::connect_as(node.address(), protocol).await;
        client.hello("ada", json!({})).await;
        for frame in &rules {
            assert_eq!(
                client.refused(frame.clone()).await,
                (400, "bad_request".to_owned()),
                "{frame}"
            );
        }
        for frame in &rules {
            let mut client = Client::connect_as(node.address(), protocol).await;
            client.hello("ada", json!({})).await;
            client.send(frame.clone()).await;
            assert_eq!(client.refused_with_bye().await.0, 4400, "{frame}");
        }
        let mut wrong_number = Client::connect_as(node.address(), protocol).await;
        wrong_number.hello("ada", json!({})).await;
        wrong_number
            .send(json!({"t": "sub", "ch": "news", "i": "one"}))
            .await;
        assert_eq!(wrong_number.refused_with_bye().await.0, 4400);
    }
}

#[tokio::test]
async fn data_that_encodings_would_tell_apart_is_refused() {
    let node = TestNode::start().await;
    let mut client = node.client("ada").await;
    for data in [
        r#""\ud800""#,
        r#""\udc00\ud800""#,
        r#"{"a":1,"a":2}"#,
        "1e400",
        "-1e999",
    ] {
        client
            .send_text(&format!(r#"{{"t":"pub","ch":"news","i":77,"d":{data}}}"#))
            .await;
        let error = client.expect("error").await;
        assert_eq!(
            (&error["i"], &error["code"]),
            (&json!(77), &json!(400)),
            "{data}"
        );
    }
    for name in [r"\ud800", r"a\u0000", r"a\u007f"] {
        client
            .send_text(&format!(r#"{{"t":"sub","ch":"{name}","i":77}}"#))
            .await;
        assert_eq!(client.expect("error").await["code"], 400, "{name}");
    }
    let mut packed = Client::connect_as(node.address(), MSGPACK).await;
    packed.hello("ada", json!({})).await;
    let frame = |data: &[u8]| {
        let mut bytes = wire::pack(&[json!({"t": "pub", "ch": "news", "i": 77, "d": 0})]);
        let at = bytes
            .windows(2)
            .position(|two| two == [0xa1, b'd'])
            .unwrap()
            + 2;
        bytes.splice(at..=at, data.iter().copied());
        bytes
    };
    let nan = [&[0xcb][..], &f64::NAN.to_be_bytes()].concat();
    let infinite = [&[0xca][..], &f32::INFINITY.to_be_bytes()].concat();
    for data in [
        &nan[..],
        &infinite,
        &[0xc4, 1, 7],
        &[0xd4, 1, 7],
        &[0x81, 1, 1],
        &[0x82, 0xa1, b'a', 1, 0xa1, b'a', 2],
    ] {
        packed.send_bytes(frame(data)).await;
        let error = packed.expect("error").await;
        assert_eq!(
            (&error["i"], &error["code"]),
            (&json!(77), &json!(400)),
            "{data:?}"
        );
    }
    assert_eq!(client.publish("news", json!(1)).await["o"], 1);
}

#[tokio::test]
async fn ordinary_characters_make_ordinary_names() {
    let node = TestNode::start().await;
    for protocol in ENCODINGS {
        let mut client = Client::connect_as(node.address(), protocol).await;
        client.hello("ada", json!({})).await;
        for name in [
            "{a}",
            "a\"b\\c",
            "*",
            "a/b?c=d",
            "\u{1F600}",
            "a\u{2028}b",
            "a b",
            "__proto__",
            &"\u{e9}".repeat(100),
        ] {
            client.sub(name, json!({})).await;
            client.expect("live").await;
            client.publish(name, json!(name)).await;
            let msg = client.expect("msg").await;
            assert_eq!((&msg["ch"], &msg["d"]), (&json!(name), &json!(name)));
            client.ask(json!({"t": "unsub", "ch": name})).await;
        }
    }
}

#[tokio::test]
async fn an_unknown_type_is_answered_if_it_asks() {
    let node = TestNode::start().await;
    for protocol in ENCODINGS {
        let mut client = Client::connect_as(node.address(), protocol).await;
        client.hello("ada", json!({})).await;
        client
            .send(json!({"t": "teleport", "ch": 7, "x": {"y": [1]}}))
            .await;
        let refused = client.refused(json!({"t": "teleport", "ch": 7})).await;
        assert_eq!(refused, (404, "unknown_type".to_owned()));
        let ok = client
            .ask(json!({"t": "pub", "ch": "news", "d": 1, "color": {"deep": [1]}}))
            .await;
        assert_eq!(ok["t"], "ok");
    }
}

#[tokio::test]
async fn a_message_over_the_frame_limit_is_closed_as_such() {
    let node = TestNode::start().await;
    let large = " ".repeat((96 << 10) + 1);
    let mut client = node.client("ada").await;
    client.send_text(&large).await;
    assert_eq!(client.refused_with_bye().await.0, 4413);

    let mut raw = greeted(&node).await;
    raw.write(&[
        0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0,
    ])
    .await;
    assert_eq!(raw.close_code().await, Some(4413));

    let mut raw = greeted(&node).await;
    raw.write(&Raw::frame(TEXT, &[b' '; 60_000])).await;
    raw.write(&Raw::frame(CONTINUE, &[b' '; 60_000])).await;
    assert_eq!(raw.close_code().await, Some(4413));
}

#[tokio::test]
async fn a_message_may_come_in_any_number_of_pieces() {
    let node = TestNode::start().await;
    let mut raw = greeted(&node).await;
    let text = json!({"t": "pub", "ch": "news", "d": "caf\u{e9} \u{1F600}", "i": 1}).to_string();
    let mut bytes = Raw::frame(TEXT, &[]);
    for byte in text.as_bytes() {
        bytes.extend(Raw::frame(CONTINUE, &[*byte]));
        bytes.extend(Raw::message(9, b"ping"));
    }
    bytes.extend(Raw::message(CONTINUE, &[]));
    for byte in bytes.chunks(7) {
        raw.write(byte).await;
    }
    let mut pongs = 0;
    loop {
        let (first, payload) = raw.next().await.unwrap();
        if first == 0x8a {
            assert_eq!(payload, b"ping");
            pongs += 1;
        } else {
            let ok: Value = serde_json::from_slice(&payload).unwrap();
            assert_eq!((&ok["t"], &ok["o"]), (&json!("ok"), &json!(1)));
            break;
        }
    }
    assert!(pongs > 0);
}

#[tokio::test]
async fn what_breaks_the_websocket_protocol_is_closed() {
    let node = TestNode::start().await;
    let mut unmasked = Raw::message(TEXT, b"{}");
    unmasked[1] &= 0x7f;
    unmasked.drain(2..6);
    let fragment = Raw::frame(TEXT, b"{");
    for bytes in [
        unmasked,
        Raw::message(BINARY, b"{\"t\":\"pong\"}"),
        Raw::message(CONTINUE, b"{}"),
        [fragment.clone(), fragment].concat(),
        Raw::message(0x40 | TEXT, b"{}"),
        Raw::message(3, b"{}"),
        Raw::message(11, b""),
        Raw::frame(9, b"fragmented ping"),
        Raw::message(9, &[0; 126]),
        Raw::message(TEXT, &[0xff, 0xfe]),
        Raw::message(
            TEXT,
            b"{\"t\":\"pub\",\"i\":1,\"ch\":\"news\",\"d\":\"\xc3\x28\"}",
        ),
        Raw::message(
            TEXT,
            b"{\"t\":\"pub\",\"i\":1,\"ch\":\"news\",\"d\":\"\xed\xa0\x80\"}",
        ),
    ] {
        let mut raw = greeted(&node).await;
        raw.write(&bytes).await;
        assert_eq!(
            raw.close_code().await,
            Some(4400),
            "{:?}",
            &bytes[..bytes.len().min(8)]
        );
    }
    let mut client = Client::connect_as(node.address(), MSGPACK).await;
    client.hello("ada", json!({})).await;
    client.send_text("{}").await;
    assert_eq!(client.refused_with_bye().await.0, 4400);
}

#[tokio::test]
async fn a_client_that_closes_is_answered_and_keeps_its_session() {
    let node = TestNode::start().await;
    let mut raw = greeted(&node).await;
    raw.write(&Raw::message(8, &1000_u16.to_be_bytes())).await;
    assert_eq!(raw.close_code().await, Some(1000));
    let mut raw = greeted(&node).await;
    raw.write(&Raw::message(8, &[])).await;
    assert_eq!(raw.close_code().await, Some(1000));
}

impl Seeded {
    fn value(&mut self, depth: u64) -> Value {
        match self.below(if depth > 3 { 9 } else { 11 }) {
            0 => Value::Null,
            1 => json!(true),
            2 => json!(self.below(20)),
            3 => json!(self.next()),
            4 => json!(-1),
            5 => json!(1.5e300),
            6 => json!(self.pick(&[
                "news",
                "orders:1",
                "chat:x",
                "$presence:chat:x",
                "nowhere:x",
                "small:x"
            ])),
            7 => json!("\u{0}\u{ffff}"),
            8 => json!("x".repeat(usize::try_from(self.below(600)).unwrap())),
            9 => (0..self.below(4)).map(|_| self.value(depth + 1)).collect(),
            _ => self.map(depth + 1),
        }
    }

    fn map(&mut self, depth: u64) -> Value {
        const KEYS: [&str; 24] = [
            "ch", "e", "o", "d", "b", "k", "ev", "id", "ttl", "del", "if", "mode", "hz", "me",
            "last", "state", "before", "after", "n", "from", "c", "token", "subs", "x",
        ];
        let entries =
            (0..self.below(7)).map(|_| ((*self.pick(&KEYS)).to_owned(), self.value(depth)));
        Value::Object(entries.collect())
    }

    fn command(&mut self) -> Value {
        const TYPES: [&str; 10] = [
            "sub", "unsub", "pub", "history", "state", "ack", "auth", "pong", "what", "sub",
        ];
        let mut frame = self.map(0);
        frame["t"] = json!(self.pick(&TYPES));
        if self.below(4) > 0 {
            frame["ch"] = json!(self.pick(&["news", "orders:1", "chat:x", "small:x"]));
        }
        if self.below(8) > 0 {
            frame["i"] = json!(self.below(1000));
        }
        frame
    }

    fn message(&mut self, protocol: &str) -> Vec<u8> {
        let frames: Vec<Value> = (0..=self.below(3)).map(|_| self.command()).collect();
        let mut bytes = if protocol == JSON {
            let frames: Vec<String> = frames.iter().map(Value::to_string).collect();
            frames.join("\n").into_bytes()
        } else {
            rmp_serde::to_vec(&frames[0]).unwrap()
        };
        match self.below(6) {
            0 => {
                for _ in 0..=self.below(3) {
                    let at = usize::try_from(self.below(bytes.len() as u64)).unwrap();
                    bytes[at] = self.next().to_le_bytes()[0];
                }
            }
            1 => bytes.truncate(usize::try_from(self.below(bytes.len() as u64)).unwrap()),
            2 => {
                bytes = (0..self.below(200))
                    .map(|_| self.next().to_le_bytes()[0])
                    .collect()
            }
            _ => {}
        }
        bytes
    }
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Throws 20 messages at a node over each of so many connections.
async fn throw(address: std::net::SocketAddr, seed: u64, connections: u64) {
    let mut seeded = Seeded(seed);
    for _ in 0..connections {
        let protocol = *seeded.pick(&ENCODINGS);
        let mut raw =
            Raw::upgrade(address, &format!("Sec-WebSocket-Protocol: {protocol}\r\n")).await;
        let hello = json!({"t": "hello", "token": token("eve")});
        let (opcode, hello) = if protocol == JSON {
            (TEXT, hello.to_string().into_bytes())
        } else {
            (BINARY, wire::pack(&[hello]))
        };
        let mut bytes = Raw::message(opcode, &hello);
        for _ in 0..20 {
            bytes.extend(Raw::message(opcode, &seeded.message(protocol)));
        }
        raw.write(&bytes).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_messages_of_garbage_disturb_nobody() {
    let node = TestNode::start().await;
    let mut reader = node.client("ada").await;
    let mut writer = node.client("bob").await;
    reader.sub("news", json!({})).await;
    reader.expect("live").await;
    let before = resident_bytes();
    let throwers: Vec<_> = (1..=5_u64)
        .map(|seed| {
            tokio::spawn(throw(
                node.address(),
                seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
                100,
            ))
        })
        .collect();
    let (mut sent, mut seen, mut offset) = (0, 0, 0);
    while sent < 200 || throwers.iter().any(|thrower| !thrower.is_finished()) {
        sent += 1;
        writer.publish("news", json!({"mine": sent})).await;
        while seen < sent {
            let msg = tokio::time::timeout(Duration::from_secs(2), reader.expect("msg"))
                .await
                .unwrap();
            offset += 1;
            assert_eq!(msg["o"], offset);
            if msg["by"] == "bob" {
                seen += 1;
                assert_eq!(msg["d"]["mine"], seen);
            }
        }
    }
    for thrower in throwers {
        thrower.await.unwrap();
    }
    assert!(resident_bytes().saturating_sub(before) < 256 << 20);
}
