//! One WebSocket: made, written and read on a task of its own.
//!
//! Spawned by the driver, which hears of it through a channel that holds one message: while the
//! driver takes none, the socket is not read. It never reconnects and knows nothing of sessions.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tidewire_protocol::{Command, Encoding, decode, limits::MESSAGE_BYTES_MAX};
use tokio::{net::TcpStream, sync::mpsc, time::timeout};
use tokio_tungstenite::{
    Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config,
    connect_async_tls_with_config,
    tungstenite::{
        self, Message, Utf8Bytes,
        client::IntoClientRequest,
        handshake::client::{Request, Response},
        http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL},
        protocol::{CloseFrame, WebSocketConfig},
    },
};

use super::{Endpoint, Tls};
use crate::core::{ConnectionId, Received, SocketEnd};

/// From the name's look-up to the end of the WebSocket handshake: after it another try is worth
/// more.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How long the node may take to answer a close.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// A socket that takes nothing for so long is dead: the heartbeat has given it up before.
const WRITE_WITHIN: Duration = Duration::from_secs(60);
/// The library's default read buffer holds 128 KiB from the start; most messages are small.
const READ_BUFFER_BYTES: usize = 8 * 1024;
/// What is written at once.
const WRITE_BUFFER_BYTES: usize = 8 * 1024;
/// Commands waiting for a socket that takes none: a full outbox, all reads and subscriptions, and
/// as many answers to pings as anybody waits for. Past it the connection counts as lost.
pub(crate) const OUTGOING_MAX: usize = 2_048;

/// What goes to a socket.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Command(Command),
    Close(u16),
}

/// What comes from one.
#[derive(Debug)]
pub(crate) enum Incoming {
    Opened,
    Received(Received),
    Ended(SocketEnd),
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// One connection's life. Its end is told last, unless the driver has dropped the other end.
pub(super) async fn run(
    id: ConnectionId,
    endpoint: Endpoint,
    mut outgoing: mpsc::Receiver<Outgoing>,
    incoming: mpsc::Sender<(ConnectionId, Incoming)>,
) {
    let dialed = tokio::select! {
        dialed = dial(&endpoint) => dialed,
        // Before it is open there is nothing to send: it is to be closed.
        _close = outgoing.recv() => Err(DialError::GivenUp),
    };
    let end = match dialed {
        Ok((socket, encoding)) => converse(socket, encoding, id, outgoing, &incoming).await,
        Err(error) => {
            // Not the address: it may hold a password.
            tracing::debug!(%error, "no connection");
            error.end()
        }
    };
    // A driver that is gone needs no word.
    let _unheard = incoming.send((id, Incoming::Ended(end))).await;
}

#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("no answer in time")]
    Late,
    #[error("given up before it was made")]
    GivenUp,
    #[error(transparent)]
    WebSocket(#[from] Box<tungstenite::Error>),
}

impl DialError {
    fn end(&self) -> SocketEnd {
        if let Self::WebSocket(error) = self
            && let tungstenite::Error::Http(response) = &**error
        {
            return SocketEnd::Http(response.status().as_u16());
        }
        SocketEnd::Unreachable
    }
}

async fn dial(endpoint: &Endpoint) -> Result<(Socket, Encoding), DialError> {
    let mut request = endpoint
        .url
        .as_str()
        .into_client_request()
        .map_err(Box::new)?;
    let offer = HeaderValue::from_static(match endpoint.encoding {
        Encoding::Json => "tidewire.v1.json",
        Encoding::MessagePack => "tidewire.v1.msgpack, tidewire.v1.json",
    });
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, offer);
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let connector = match &endpoint.tls {
        Tls::Web => None,
        Tls::Configured(config) => Some(Connector::Rustls(std::sync::Arc::clone(config))),
    };
    let connecting = connect(endpoint, request, config, connector);
    let connected = timeout(CONNECT_WITHIN, connecting).await;
    let (socket, response) = connected
        .map_err(|_elapsed| DialError::Late)?
        .map_err(Box::new)?;
    let answer = response.headers().get(SEC_WEBSOCKET_PROTOCOL);
    let packed = answer.is_some_and(|name| name == Encoding::MessagePack.subprotocol());
    let encoding = if packed {
        Encoding::MessagePack
    } else {
        Encoding::Json
    };
    Ok((socket, encoding))
}

async fn connect(
    endpoint: &Endpoint,
    request: Request,
    config: WebSocketConfig,
    connector: Option<Connector>,
) -> Result<(Socket, Response), tungstenite::Error> {
    let Some(dialer) = &endpoint.dialer else {
        return connect_async_tls_with_config(request, Some(config), true, connector).await;
    };
    let host = request.uri().host().unwrap_or_default();
    let port = request.uri().port_u16();
    let port = port.unwrap_or(if request.uri().scheme_str() == Some("wss") {
        443
    } else {
        80
    });
    let stream = dialer(format!("{host}:{port}")).await?;
    stream.set_nodelay(true)?;
    client_async_tls_with_config(request, stream, Some(config), connector).await
}

/// Writes and reads side by side, until one of them ends.
async fn converse(
    socket: Socket,
    encoding: Encoding,
    id: ConnectionId,
    mut outgoing: mpsc::Receiver<Outgoing>,
    incoming: &mpsc::Sender<(ConnectionId, Incoming)>,
) -> SocketEnd {
    if incoming.send((id, Incoming::Opened)).await.is_err() {
        return SocketEnd::Broken;
    }
    let (mut sink, mut stream) = socket.split();
    let ended = tokio::select! {
        closed = write(&mut sink, encoding, &mut outgoing) => closed.then_some(()),
        end = read(&mut stream, encoding, id, incoming) => return end,
    };
    if ended.is_some() {
        // The node's answer to the close is waited for, so that nothing of ours is cut off.
        let rest = async { while stream.next().await.is_some_and(|message| message.is_ok()) {} };
        let _late = timeout(CLOSE_WITHIN, rest).await;
    }
    SocketEnd::Broken
}

/// Writes commands until told to close (true), or the socket takes none (false).
async fn write(
    sink: &mut SplitSink<Socket, Message>,
    encoding: Encoding,
    outgoing: &mut mpsc::Receiver<Outgoing>,
) -> bool {
    while let Some(first) = outgoing.recv().await {
        let mut next = Some(first);
        while let Some(item) = next {
            let message = match item {
                Outgoing::Command(command) => message(&command, encoding),
                Outgoing::Close(code) => {
                    let frame = CloseFrame {
                        code: code.into(),
                        reason: Utf8Bytes::default(),
                    };
                    return in_time(sink.send(Message::Close(Some(frame)))).await;
                }
            };
            if !in_time(sink.feed(message)).await {
                return false;
            }
            next = outgoing.try_recv().ok();
        }
        if !in_time(sink.flush()).await {
            return false;
        }
    }
    false
}

async fn in_time(writing: impl Future<Output = Result<(), tungstenite::Error>>) -> bool {
    matches!(timeout(WRITE_WITHIN, writing).await, Ok(Ok(())))
}

async fn read(
    stream: &mut SplitStream<Socket>,
    encoding: Encoding,
    id: ConnectionId,
    incoming: &mpsc::Sender<(ConnectionId, Incoming)>,
) -> SocketEnd {
    while let Some(Ok(message)) = stream.next().await {
        let received = match (message, encoding) {
            (Message::Text(text), Encoding::Json) => decode::frames(encoding, text.as_bytes()),
            (Message::Binary(bytes), Encoding::MessagePack) => decode::frames(encoding, &bytes),
            // The other kind of message is no frame of this protocol.
            (Message::Text(_) | Message::Binary(_), _) => Err(decode::DecodeError::NoType),
            (Message::Close(frame), _) => {
                let code = frame.map(|frame| SocketEnd::Closed(frame.code.into()));
                return code.unwrap_or(SocketEnd::Broken);
            }
            (Message::Ping(_) | Message::Pong(_) | Message::Frame(_), _) => Ok(Vec::new()),
        };
        if incoming
            .send((id, Incoming::Received(received)))
            .await
            .is_err()
        {
            // The driver takes nothing more: what it still has to say ends the connection.
            std::future::pending::<()>().await;
        }
    }
    SocketEnd::Broken
}

fn message(command: &Command, encoding: Encoding) -> Message {
    let mut bytes = Vec::new();
    // The codec writes nothing for what no version of the protocol says; a probe is just that.
    if let Command::Unknown { i } = command {
        probe(i.unwrap_or_default(), encoding, &mut bytes);
    } else {
        command.encode(encoding, &mut bytes);
    }
    match encoding {
        // A codec that wrote no UTF-8 would be seen by the node as an empty message and refused.
        Encoding::Json => Message::Text(String::from_utf8(bytes).unwrap_or_default().into()),
        Encoding::MessagePack => Message::Binary(Bytes::from(bytes)),
    }
}

/// `{"t":"ping","i":…}`: a command no node knows, whose refusal is a sign of life.
fn probe(i: u64, encoding: Encoding, bytes: &mut Vec<u8>) {
    match encoding {
        Encoding::Json => {
            bytes.extend_from_slice(format!("{{\"t\":\"ping\",\"i\":{i}}}").as_bytes())
        }
        Encoding::MessagePack => {
            bytes.extend_from_slice(b"\x82\xa1t\xa4ping\xa1i\xcf");
            bytes.extend_from_slice(&i.to_be_bytes());
        }
    }
}
