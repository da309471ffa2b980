//! Server CPU per delivery, beside the kernel's floor in the same run: a bare loop that writes
//! the same bytes to the same number of sockets.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{
    server::{Server, token},
    socket,
};

/// Bytes of data in one publication.
const DATA_BYTES: usize = 128;

pub async fn run(channels: usize, readers: usize, rate: usize, seconds: usize) {
    let node = node(channels, readers, rate, seconds).await;
    let floor = floor(readers / channels, readers, rate, seconds).await;
    println!(
        "fanout: {channels} channels, {readers} readers, {rate}/s: {:.2} us of server CPU per delivery; bare writes {floor:.2}; ratio {:.2}",
        node,
        node / floor,
    );
}

async fn node(channels: usize, readers: usize, rate: usize, seconds: usize) -> f64 {
    let server = Server::start().await;
    let token = token();
    let delivered = Arc::new(AtomicU64::new(0));
    for number in 0..readers {
        let hello = socket::hello(&token, &format!("c{}", number % channels));
        let stream = socket::open(server.address, number, &hello, r#""t":"live""#).await;
        tokio::spawn(count_frames(stream, Arc::clone(&delivered)));
    }
    let mut publisher = socket::open(
        server.address,
        0,
        &format!(r#"{{"t":"hello","token":"{token}"}}"#),
        "welcome",
    )
    .await;
    let cpu = server.cpu_seconds();
    let data = "x".repeat(DATA_BYTES);
    paced(rate, seconds, async |number| {
        let frame = socket::text(&format!(
            r#"{{"t":"pub","ch":"c{}","d":"{data}"}}"#,
            number % channels
        ));
        publisher.write_all(&frame).await.unwrap();
    })
    .await;
    let wanted = (rate * seconds * readers / channels) as u64;
    let begun = Instant::now();
    while delivered.load(Ordering::Relaxed) < wanted {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{} of {wanted} delivered",
            delivered.load(Ordering::Relaxed)
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    (server.cpu_seconds() - cpu) * 1e6 / wanted as f64
}

/// The sender's CPU for one write per delivery, by a thread that does nothing else.
async fn floor(per_publication: usize, readers: usize, rate: usize, seconds: usize) -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut senders = Vec::new();
    for _ in 0..readers {
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        tokio::spawn(count_frames(client.unwrap(), Arc::default()));
        let sender = accepted.unwrap().0.into_std().unwrap();
        sender.set_nodelay(true).unwrap();
        senders.push(sender);
    }
    let frame = vec![b'{'; DATA_BYTES + 80];
    tokio::task::spawn_blocking(move || {
        let cpu = thread_cpu_seconds();
        let begun = Instant::now();
        for number in 0..rate * seconds {
            let due = begun + Duration::from_secs_f64(number as f64 / rate as f64);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            for at in 0..per_publication {
                std::io::Write::write_all(
                    &mut &senders[(number * per_publication + at) % senders.len()],
                    &frame,
                )
                .unwrap();
            }
        }
        (thread_cpu_seconds() - cpu) * 1e6 / (rate * seconds * per_publication) as f64
    })
    .await
    .unwrap()
}

fn thread_cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

/// Calls at a steady rate, open loop.
async fn paced(rate: usize, seconds: usize, mut call: impl AsyncFnMut(usize)) {
    let begun = tokio::time::Instant::now();
    for number in 0..rate * seconds {
        tokio::time::sleep_until(begun + Duration::from_secs_f64(number as f64 / rate as f64))
            .await;
        call(number).await;
    }
}

async fn count_frames(mut stream: TcpStream, delivered: Arc<AtomicU64>) {
    let mut buffer = vec![0; 4 * 1024];
    let marker = br#""t":"msg""#;
    let mut kept = Vec::new();
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..count]);
        let found = kept
            .windows(marker.len())
            .filter(|window| window == marker)
            .count();
        delivered.fetch_add(found as u64, Ordering::Relaxed);
        let keep = kept.len().saturating_sub(marker.len() - 1);
        kept.drain(..keep);
    }
}
