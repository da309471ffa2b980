//! Memory under readers that stop reading: the same run with and without them.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    server::{Server, token},
    socket,
};

/// Bytes of data in one publication.
const DATA_BYTES: usize = 8 * 1024;
/// Readers that read.
const HEALTHY: usize = 10;

pub async fn run(stalled: usize, megabytes: usize) {
    let without = peak(0, megabytes).await;
    let with = peak(stalled, megabytes).await;
    let more = (with as f64 - without as f64) / (1024.0 * 1024.0);
    println!(
        "slow: {stalled} readers that stop while {megabytes} MB are published: peak of resident memory {more:+.1} MiB against the same run without them (must: under 64)"
    );
    assert!(more < 64.0, "memory grew with slow readers");
}

/// The peak of resident memory while everything is published and read by the healthy ones.
async fn peak(stalled: usize, megabytes: usize) -> u64 {
    let server = Server::start().await;
    let token = token();
    let count = megabytes * 1_000_000 / DATA_BYTES;
    let mut idle = Vec::new();
    for _ in 0..stalled {
        idle.push(
            socket::open(
                server.address,
                &socket::hello(&token, &["busy"]),
                r#""t":"live""#,
            )
            .await,
        );
    }
    let mut readers = Vec::new();
    for _ in 0..HEALTHY {
        let stream = socket::open(
            server.address,
            &socket::hello(&token, &["busy"]),
            r#""t":"live""#,
        )
        .await;
        readers.push(tokio::spawn(read_until(stream, format!(r#""o":{count},"#))));
    }
    let mut publisher = socket::publisher(server.address, &token).await;
    let frame = socket::text(&format!(
        r#"{{"t":"pub","ch":"busy","d":"{}"}}"#,
        "x".repeat(DATA_BYTES)
    ));
    let mut peak = server.resident();
    for number in 0..count {
        publisher.write_all(&frame).await.unwrap();
        if number % 64 == 0 {
            peak = peak.max(server.resident());
        }
    }
    for reader in readers {
        tokio::time::timeout(Duration::from_secs(60), reader)
            .await
            .expect("healthy readers notice nothing")
            .unwrap();
        peak = peak.max(server.resident());
    }
    peak
}

async fn read_until(mut stream: TcpStream, wanted: String) {
    let mut buffer = vec![0; 256 * 1024];
    let mut kept = Vec::new();
    loop {
        let count = stream.read(&mut buffer).await.unwrap();
        assert!(count > 0, "a healthy reader was closed");
        kept.extend_from_slice(&buffer[..count]);
        if kept
            .windows(wanted.len())
            .any(|window| window == wanted.as_bytes())
        {
            return;
        }
        let keep = kept.len().saturating_sub(wanted.len());
        kept.drain(..keep);
    }
}
