//! TLS of the node itself: `tokio-rustls` and `tokio-tungstenite` as the client, with the
//! self-signed certificate in `tls/`, which is valid for a hundred years and for nothing else.

use std::{sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, RootCertStore},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use crate::{
    process::{Place, Process},
    support::{JSON, PATIENCE, token},
};

const CERT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/process/tls/cert.pem");
const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/process/tls/key.pem");
/// 128 of these are 5 MB.
const DATA_BYTES: usize = 40_000;
const COUNT: u64 = 128;

type Socket = WebSocketStream<TlsStream<TcpStream>>;

fn start() -> (Place, Process) {
    let _already = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider().install_default();
    let place = Place::with("", &format!("[tls]\ncert = {CERT:?}\nkey = {KEY:?}"));
    let node = place.start();
    (place, node)
}

/// Connects and says hello; `slow`: with so small a buffer that the node feels a stall.
async fn connect(place: &Place, user: &str, slow: bool) -> Socket {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(CERT).unwrap())
        .unwrap();
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let socket = TcpSocket::new_v4().unwrap();
    if slow {
        socket.set_recv_buffer_size(8192).unwrap();
    }
    let stream = socket.connect(place.address()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap();
    let mut request = format!("wss://localhost:{}/v1/connect", place.port)
        .into_client_request()
        .unwrap();
    request
        .headers_mut()
        .insert("sec-websocket-protocol", JSON.parse().unwrap());
    let (mut socket, response) = client_async(request, stream).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], JSON);
    send(&mut socket, json!({"t": "hello", "token": token(user)})).await;
    assert_eq!(frames(&mut socket).await[0]["t"], "welcome");
    socket
}

async fn send(socket: &mut Socket, frame: Value) {
    let sent = socket.send(Message::text(frame.to_string()));
    sent.await.unwrap();
}

/// The frames of the next message.
async fn frames(socket: &mut Socket) -> Vec<Value> {
    let message = tokio::time::timeout(PATIENCE, socket.next())
        .await
        .expect("a message in time");
    let message = message.expect("the connection is open").unwrap();
    crate::wire::parse(message.to_text().unwrap())
}

async fn subscribe(socket: &mut Socket) {
    send(socket, json!({"t": "sub", "i": 1, "ch": "news"})).await;
    loop {
        if frames(socket)
            .await
            .iter()
            .any(|frame| frame["t"] == "live")
        {
            return;
        }
    }
}

/// Publishes 5 MB, one after the other.
async fn publish(socket: &mut Socket) {
    let data = "x".repeat(DATA_BYTES);
    for n in 1..=COUNT {
        send(socket, json!({"t": "pub", "i": n, "ch": "news", "d": data})).await;
        let answer = &frames(socket).await[0];
        assert_eq!((&answer["t"], &answer["o"]), (&json!("ok"), &json!(n)));
    }
}

/// Reads all of it, in order and without a hole.
async fn receive(socket: &mut Socket) {
    let mut next = 1;
    while next <= COUNT {
        for frame in frames(socket).await {
            if frame["t"] == "ping" {
                continue;
            }
            assert_eq!((&frame["t"], &frame["o"]), (&json!("msg"), &json!(next)));
            assert_eq!(frame["d"].as_str().unwrap().len(), DATA_BYTES);
            next += 1;
        }
    }
}

/// Closes, and expects the answer and the end of TLS after it.
async fn close(mut socket: Socket) {
    socket.close(None).await.unwrap();
    let mut heard = Vec::new();
    loop {
        let message = tokio::time::timeout(PATIENCE, socket.next())
            .await
            .expect("an end in time");
        match message {
            Some(Ok(message)) => heard.push(message),
            Some(Err(error)) => panic!("{error} after {heard:?}"),
            None => break,
        }
    }
    assert!(matches!(heard.last(), Some(Message::Close(_))), "{heard:?}");
    let mut stream = socket.into_inner();
    let rest = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 16])).await;
    assert_eq!(rest.expect("an end in time").expect("close_notify"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn megabytes_pass_through_tls_to_prompt_and_to_stalled_readers() {
    let (place, _node) = start();
    let mut writer = connect(&place, "bob", false).await;
    let mut prompt = connect(&place, "ada", false).await;
    let mut stalled = connect(&place, "cyd", true).await;
    subscribe(&mut prompt).await;
    subscribe(&mut stalled).await;
    tokio::join!(publish(&mut writer), receive(&mut prompt));
    receive(&mut stalled).await;
    for socket in [writer, prompt, stalled] {
        close(socket).await;
    }
}

#[tokio::test]
async fn bytes_after_the_end_of_tls_hang_nobody() {
    let (place, _node) = start();
    // More than the node has threads.
    for _ in 0..2 * std::thread::available_parallelism().unwrap().get() {
        let socket = connect(&place, "ada", false).await;
        let (mut stream, mut tls) = socket.into_inner().into_inner();
        tls.send_close_notify();
        let mut bytes = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut bytes).unwrap();
        }
        // More than TLS takes at once.
        bytes.extend([0; 20_000]);
        stream.write_all(&bytes).await.unwrap();
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        let _either = ended.expect("the node ends the connection");
    }
    close(connect(&place, "ada", false).await).await;
}

#[tokio::test]
async fn plain_http_on_the_port_of_tls_ends_at_once() {
    let (place, _node) = start();
    let mut stream = TcpStream::connect(place.address()).await.unwrap();
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let ended = stream.read_to_end(&mut answer);
    let ended = tokio::time::timeout(Duration::from_secs(5), ended).await;
    // A reset tells the client as much as an end.
    let _either = ended.expect("the connection ends");
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}
