//! A client's socket with the least code: a handshake, masked text out, bytes in.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

/// Parts the addresses of clients, 127.128.0.0 on, from those of programs; ids have 22 bits.
const OWN: u8 = 128;

/// Connects, says hello with these subscriptions (JSON) and reads until `ready` was seen in what came.
pub async fn open(server: SocketAddr, hello: &str, ready: &str) -> TcpStream {
    open_and_see(server, hello, (ready, 1)).await.0
}

/// The same, with what came until `ready` was seen so many times.
pub async fn open_and_see(
    server: SocketAddr,
    hello: &str,
    (ready, times): (&str, usize),
) -> (TcpStream, String) {
    let mut stream = connect(server).await;
    let request = format!(
        "GET /v1/connect HTTP/1.1\r\nHost: {server}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: tidewire.v1.json\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\r\nAccept-Language: en\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    expect(&mut stream, "\r\n\r\n", 1).await;
    stream.write_all(&text(hello)).await.unwrap();
    let seen = expect(&mut stream, ready, times).await;
    (stream, seen)
}

/// Connects from an address of this process' own, where nobody else takes ports. Dropping the
/// socket resets the connection: a port that waited out its end would be missing in the next round.
pub async fn connect(server: SocketAddr) -> TcpStream {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let own = Ipv4Addr::new(127, OWN | high, middle, low);
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((own, 0))).unwrap();
    let stream = socket.connect(server).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_zero_linger().unwrap();
    stream
}

/// Reads until a text came so many times; answers all that did.
async fn expect(stream: &mut TcpStream, wanted: &str, times: usize) -> String {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    let has = |seen: &[u8]| {
        let windows = seen.windows(wanted.len());
        windows
            .filter(|window| *window == wanted.as_bytes())
            .count()
            >= times
    };
    while !has(&seen) {
        let count = stream.read(&mut buffer).await.unwrap();
        assert!(
            count > 0,
            "the node closed: {}",
            String::from_utf8_lossy(&seen)
        );
        seen.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&seen).into_owned()
}

/// A masked text frame; the mask is zero, which is a mask like any other.
pub fn text(payload: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | u8::try_from(length).unwrap()),
        length => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload.as_bytes());
    frame
}

/// A hello that subscribes to channels, and asks to be taken for alive as long as it may: the
/// readers of the benches never say anything.
pub fn hello(token: &str, channels: &[&str]) -> String {
    let subs: Vec<_> = channels
        .iter()
        .map(|channel| format!(r#"{{"ch":"{channel}"}}"#))
        .collect();
    let subs = subs.join(",");
    format!(r#"{{"t":"hello","token":"{token}","hb":240,"subs":[{subs}]}}"#)
}

/// A connection that may publish; it may be silent as long as the readers.
pub async fn publisher(server: SocketAddr, token: &str) -> TcpStream {
    open(server, &hello(token, &[]), "welcome").await
}
