//! What the proxy does to the bytes of a connection, with an echo behind it.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::harness::proxy::{Direction, Mode, Proxy, Whose};

/// An echo behind a proxy, and a connection through it.
async fn echo() -> (Proxy, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).await;
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = socket.split();
                let _over = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    let socket = TcpStream::connect(("127.0.0.1", proxy.port()))
        .await
        .unwrap();
    (proxy, socket)
}

const PATIENCE: Duration = Duration::from_secs(5);

async fn says(socket: &mut TcpStream, text: &[u8], patience: Duration) -> bool {
    socket.write_all(text).await.unwrap();
    let mut answer = vec![0; text.len()];
    let read = socket.read_exact(&mut answer);
    let heard = tokio::time::timeout(patience, read).await;
    heard.is_ok_and(|read| read.is_ok()) && answer == text
}

#[tokio::test]
async fn a_frozen_direction_holds_its_bytes_and_lets_them_go_again() {
    let (proxy, mut socket) = echo().await;
    assert!(says(&mut socket, b"one", PATIENCE).await);
    proxy.set(Whose::All, Direction::Down, Mode::Freeze);
    assert!(!says(&mut socket, b"two", Duration::from_millis(200)).await);
    proxy.set_all(Mode::Pass);
    let mut answer = [0; 3];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"two");
}

#[tokio::test]
async fn a_delay_comes_whole_and_in_order() {
    let (proxy, mut socket) = echo().await;
    assert!(says(&mut socket, b"one", PATIENCE).await);
    proxy.set(
        Whose::One(0),
        Direction::Up,
        Mode::Delay(Duration::from_millis(50)),
    );
    let begun = Instant::now();
    assert!(says(&mut socket, b"later", PATIENCE).await);
    assert!(begun.elapsed() >= Duration::from_millis(50));
    proxy.set_all(Mode::Trickle);
    assert!(says(&mut socket, b"byte by byte", PATIENCE).await);
}

#[tokio::test]
async fn a_cut_ends_the_connection_and_refusal_the_next_one() {
    let (proxy, mut socket) = echo().await;
    assert!(says(&mut socket, b"one", PATIENCE).await);
    assert_eq!(proxy.connections(), [0]);
    proxy.cut(Whose::One(0));
    assert_eq!(socket.read(&mut [0; 8]).await.unwrap_or(0), 0);
    proxy.refuse(true);
    let mut next = TcpStream::connect(("127.0.0.1", proxy.port()))
        .await
        .unwrap();
    assert_eq!(next.read(&mut [0; 8]).await.unwrap_or(0), 0);
}
