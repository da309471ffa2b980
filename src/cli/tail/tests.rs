//! Following against a real WebSocket server on the loopback interface.

use std::{net::Ipv4Addr, sync::Arc};

use bytes::Bytes;
use futures_util::SinkExt;
use tidewire_protocol::{
    Command, Encoding, Epoch, ErrorCode, Frame, Name, Payload, Position, Publication,
    command::Fallback,
    decode,
    frame::{Maxima, Recovery, StateItem, Welcome},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
        http::header::SEC_WEBSOCKET_PROTOCOL,
    },
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

/// Tells events of one channel and answers what was printed.
fn printed(json: bool, events: Vec<Event>) -> String {
    let mut out = Vec::new();
    let mut printer = Printer::new(&mut out, json);
    let mut told = Told::new(1);
    for event in events {
        told.take(&channel("chat:1"), &event, &mut printer).unwrap();
    }
    String::from_utf8(out).unwrap()
}

#[test]
fn a_publication_is_printed_for_people() {
    let message = Event::Message(tidewire_client::Message {
        epoch: epoch(),
        publication: publication(5, None),
        replayed: false,
        skipped: 0,
    });
    let events = vec![Event::Fresh(at(4)), message, Event::Reset(at(1))];
    assert_eq!(printed(false, events), "chat:1 5 <ada> {\"n\":5}\n");
}

#[test]
fn a_snapshot_is_printed_with_the_keys_of_the_wire() {
    let page = Event::State {
        items: vec![StateItem {
            epoch: epoch(),
            publication: publication(3, Some("eta")),
        }],
        more: false,
    };
    assert_eq!(
        printed(true, vec![page]),
        "{\"ch\":\"chat:1\",\"e\":\"e1\",\"o\":3,\"ts\":1700000000000,\"k\":\"eta\",\"by\":\"ada\",\"d\":{\"n\":3}}\n"
    );
}

#[test]
fn with_every_channel_refused_nothing_is_left() {
    let mut out = Vec::new();
    let mut printer = Printer::new(&mut out, false);
    let mut told = Told::new(2);
    for (name, left) in [("a", true), ("b", false)] {
        let refused = Event::Refused {
            code: ErrorCode::Forbidden,
            text: String::new(),
        };
        told.take(&channel(name), &refused, &mut printer).unwrap();
        assert_eq!(told.nothing_left(), !left);
    }
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
        assert!(matches!(command(&mut socket).await, Command::Pong(_)));
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
    let client = connect(&target, Some("token".to_owned())).unwrap();
    let mut out = Vec::new();
    let mut printer = Printer::new(&mut out, false);
    let channels = [channel("chat:1")];
    let following = follow(client, &channels, &Start::Last(3), &mut printer);
    let (seen, ended) = tokio::join!(node, following);
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
