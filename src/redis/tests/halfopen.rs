//! A lane that is open but hears nothing: a proxy in between lets nothing through to whoever
//! subscribed, in either direction nothing is closed.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{connect, counting, number, server};

/// Lets everything through until it is told to keep what the subscribers of that moment should
/// hear; those who come later hear again.
struct Proxy {
    port: u16,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    /// Connections so far.
    opened: AtomicUsize,
    /// How many of them, from the first, keep what a subscriber should hear.
    frozen: AtomicUsize,
}

impl Gate {
    fn freeze(&self) {
        let opened = self.opened.load(Ordering::SeqCst);
        self.frozen.store(opened, Ordering::SeqCst);
    }
}

impl Proxy {
    async fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let gate = Arc::new(Gate::default());
        let kept = Arc::clone(&gate);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                pass(client, server, Arc::clone(&gate));
            }
        });
        Self { port, gate: kept }
    }
}

fn pass(client: TcpStream, server: TcpStream, gate: Arc<Gate>) {
    let number = gate.opened.fetch_add(1, Ordering::SeqCst);
    let subscribes = Arc::new(AtomicBool::new(false));
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let seen = Arc::clone(&subscribes);
    tokio::spawn(async move {
        let mut bytes = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
            if bytes[..count]
                .windows(9)
                .any(|window| window == b"SUBSCRIBE")
            {
                seen.store(true, Ordering::SeqCst);
            }
            to_server.write_all(&bytes[..count]).await.unwrap_or(());
        }
    });
    tokio::spawn(async move {
        let mut bytes = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
            let is_frozen = number < gate.frozen.load(Ordering::SeqCst);
            if !is_frozen || !subscribes.load(Ordering::SeqCst) {
                to_client.write_all(&bytes[..count]).await.unwrap_or(());
            }
        }
    });
}

#[tokio::test]
async fn a_lane_that_hears_nothing_is_cut_by_the_canary_and_built_again() {
    let server = server();
    let proxy = Proxy::start(server.port()).await;
    let mut lab = connect(&format!("redis://127.0.0.1:{}", proxy.port), counting()).await;
    lab.until_followed("a").await;
    let partition = lab.interest("a").partition;
    lab.doubt(partition).await;
    proxy.gate.freeze();
    // Calls go on: the connection for commands is another.
    assert_eq!(number(&lab.redis.call(lab.count("a")).await.unwrap()), 1);
    lab.doubt(partition).await;
    assert_eq!(number(&lab.redis.call(lab.count("a")).await.unwrap()), 2);
    assert_eq!(lab.hear("a", |number| number == 2).await, [2]);
}
