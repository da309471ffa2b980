//! Following against a real WebSocket server on the loopback interface.

use std::{net::Ipv4Addr, sync::Arc};

use bytes::Bytes;
use tidewire_protocol::{
    Epoch, ErrorCode, Frame, Name, Payload, Position, Publication,
    command::Hello,
    frame::{GapReason, Maxima, Recovery, StateItem, Welcome},
};
use tokio::net::TcpListener;
use tokio_tungstenite::{
    accept_hdr_async,
    tungstenite::handshake::server::{ErrorResponse, Request, Response},
};

use super::*;

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

fn epoch() -> Epoch {
    Epoch::new("e1").unwrap()
}

fn at(offset: u64) -> Position {
    Position {
        epoch: epoch(),
        offset,
    }
}

fn publication(offset: u64, key: Option<&str>) -> Arc<Publication> {
    Arc::new(Publication {
        offset,
        ts: 1_700_000_000_000,
        payload: Some(Payload::Json(Bytes::from(format!("{{\"n\":{offset}}}")))),
        key: key.map(|key| Name::new(key).unwrap()),
        event: None,
        id: None,
        by: Some(Name::new("ada").unwrap()),
        deleted: false,
        expires: None,
    })
}

fn msg(offset: u64) -> Frame {
    Frame::Msg {
        channel: channel("chat:1"),
        publication: publication(offset, None),
    }
}

fn welcome(resumed: bool) -> Frame {
    Frame::Welcome(Box::new(Welcome {
        session: "s-1".to_owned(),
        key: "key".to_owned(),
        ttl_ms: 300_000,
        resumed,
        user: None,
        heartbeat: 25,
        ts: 1_700_000_000_000,
        max: Maxima {
            frame: 1,
            data: 1,
            subs: 1,
        },
        expires: None,
        node: "n".to_owned(),
    }))
}

fn begun(offset: u64, recovery: Recovery) -> Frame {
    Frame::Subscribed {
        i: None,
        channel: channel("chat:1"),
        position: at(offset),
        recovery,
    }
}

/// Takes frames and answers what was printed.
fn printed(follower: &mut Follower, json: bool, frames: Vec<Frame>) -> String {
    let mut out = Vec::new();
    let mut printer = Printer::new(&mut out, json);
    for frame in frames {
        follower.take(frame, &mut printer).unwrap();
    }
    String::from_utf8(out).unwrap()
}

fn cursors(follower: &mut Follower) -> Vec<Option<Position>> {
    let Command::Hello(Hello { subs, .. }) = follower.hello(0) else {
        panic!("not a hello");
    };
    subs.unwrap().into_iter().map(|sub| sub.position).collect()
}

#[test]
fn what_was_seen_is_not_printed_again() {
    let mut follower = Follower::new(None, &[channel("chat:1")], Fallback::Now);
    let frames = vec![
        welcome(false),
        begun(4, Recovery::Fresh),
        msg(4),
        msg(5),
        msg(5),
        msg(6),
    ];
    let text = printed(&mut follower, false, frames);
    assert_eq!(text, "chat:1 5 <ada> {\"n\":5}\nchat:1 6 <ada> {\"n\":6}\n");
    assert_eq!(cursors(&mut follower), [Some(at(6))]);
}

#[test]
fn a_gap_a_rewind_and_a_reset_move_the_cursor() {
    let mut follower = Follower::new(None, &[channel("chat:1")], Fallback::Now);
    printed(&mut follower, false, vec![begun(4, Recovery::Fresh)]);
    let gap = Frame::Gap {
        channel: channel("chat:1"),
        from: 5,
        to: 9,
        reason: GapReason::Expired,
    };
    printed(&mut follower, false, vec![gap]);
    assert_eq!(cursors(&mut follower), [Some(at(9))]);
    let e2 = Epoch::new("e2").unwrap();
    let rewind = Frame::Rewind {
        channel: channel("chat:1"),
        epoch: e2.clone(),
        to: 7,
        lost: 2,
    };
    assert_eq!(
        printed(&mut follower, false, vec![rewind, msg(8)]),
        "chat:1 8 <ada> {\"n\":8}\n"
    );
    assert_eq!(
        cursors(&mut follower),
        [Some(Position {
            epoch: e2,
            offset: 8
        })]
    );
    printed(&mut follower, false, vec![begun(1, Recovery::Reset)]);
    assert_eq!(cursors(&mut follower), [Some(at(1))]);
}

#[test]
fn a_snapshot_is_printed_with_the_keys_of_the_wire() {
    let mut follower = Follower::new(None, &[channel("chat:1")], Fallback::State);
    let page = |more| Frame::State {
        channel: channel("chat:1"),
        items: vec![StateItem {
            epoch: epoch(),
            publication: publication(3, Some("eta")),
        }],
        more,
    };
    printed(
        &mut follower,
        true,
        vec![begun(9, Recovery::Fresh), page(true)],
    );
    assert_eq!(
        cursors(&mut follower),
        [None],
        "half a snapshot is no position"
    );
    let text = printed(&mut follower, true, vec![page(false)]);
    assert_eq!(cursors(&mut follower), [Some(at(9))]);
    assert_eq!(
        text,
        "{\"ch\":\"chat:1\",\"e\":\"e1\",\"o\":3,\"ts\":1700000000000,\"k\":\"eta\",\"by\":\"ada\",\"d\":{\"n\":3}}\n"
    );
}

#[test]
fn with_every_channel_refused_nothing_is_left() {
    let mut follower = Follower::new(
        None,
        &[channel("a"), channel("b"), channel("a")],
        Fallback::Now,
    );
    assert_eq!(cursors(&mut follower).len(), 2);
    let mut out = Vec::new();
    let mut printer = Printer::new(&mut out, false);
    let refused = |name| Frame::Unsubscribed {
        channel: channel(name),
        code: ErrorCode::Forbidden,
    };
    assert_eq!(follower.take(refused("a"), &mut printer).unwrap(), Next::Go);
    assert_eq!(
        follower.take(refused("b"), &mut printer).unwrap(),
        Next::NothingLeft
    );
}

#[expect(
    clippy::result_large_err,
    reason = "the library's callback has this shape"
)]
fn choose_json(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    let offered = request.headers().get(SEC_WEBSOCKET_PROTOCOL).unwrap();
    assert_eq!(offered, Encoding::Json.subprotocol());
    response
        .headers_mut()
        .insert(SEC_WEBSOCKET_PROTOCOL, offered.clone());
    Ok(response)
}

async fn accept(stream: TcpStream) -> WebSocketStream<TcpStream> {
    accept_hdr_async(stream, choose_json).await.unwrap()
}

async fn send_frames(socket: &mut WebSocketStream<TcpStream>, frames: &[Frame]) {
    let encoded = frames.iter().map(|frame| {
        let mut bytes = Vec::new();
        frame.encode(Encoding::Json, &mut bytes);
        String::from_utf8(bytes).unwrap()
    });
    let text = encoded.collect::<Vec<_>>().join("\n");
    socket.send(Message::Text(text.into())).await.unwrap();
}

async fn command(socket: &mut WebSocketStream<TcpStream>) -> Command {
    let message = socket.next().await.unwrap().unwrap();
    let mut commands = decode::commands(Encoding::Json, &message.into_data()).unwrap();
    assert_eq!(commands.len(), 1);
    commands.remove(0)
}

#[tokio::test]
async fn a_lost_connection_is_resumed_where_it_was() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let target = Target::at(&format!("http://{}", listener.local_addr().unwrap()));
    let node = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = accept(stream).await;
        let Command::Hello(first) = command(&mut socket).await else {
            panic!("not a hello");
        };
        assert_eq!(first.token.as_deref(), Some("token"));
        assert!(first.session.is_none());
        send_frames(
            &mut socket,
            &[
                welcome(false),
                begun(4, Recovery::Fresh),
                msg(5),
                Frame::Ping,
            ],
        )
        .await;
        assert_eq!(
            command(&mut socket).await,
            Command::Pong(vec![(channel("chat:1"), at(5))])
        );
        drop(socket);

        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = accept(stream).await;
        let Command::Hello(second) = command(&mut socket).await else {
            panic!("not a hello");
        };
        let session = second.session.unwrap();
        assert_eq!((session.id.as_str(), session.key.as_str()), ("s-1", "key"));
        assert_eq!(second.subs.unwrap()[0].position, Some(at(5)));
        let bye = Frame::Bye {
            code: CloseCode::Unauthenticated,
            retry_ms: None,
            attempt: None,
        };
        send_frames(
            &mut socket,
            &[welcome(true), begun(5, Recovery::Full), msg(6), bye],
        )
        .await;
        (first.subs, session.attempt)
    };
    let mut follower = Follower::new(
        Some("token".to_owned()),
        &[channel("chat:1")],
        Fallback::Last(3),
    );
    let mut out = Vec::new();
    let mut printer = Printer::new(&mut out, false);
    let (seen, ended) = tokio::join!(node, follow(&target, &mut follower, &mut printer));
    assert_eq!(seen.0.unwrap()[0].fallback, Fallback::Last(3));
    assert!(seen.1 > 1_700_000_000_000);
    assert!(
        ended
            .unwrap_err()
            .to_string()
            .contains("does not take the token")
    );
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "chat:1 5 <ada> {\"n\":5}\nchat:1 6 <ada> {\"n\":6}\n"
    );
}
