//! Readers that count what is delivered to them, with as little work as counting can be, so that
//! the core they share with the measured program is left to it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{io::AsyncReadExt, net::TcpStream, sync::Notify};

/// Begins the data of every publication of the benches, and appears nowhere else in a payload.
pub const MARK: u8 = b'@';

/// Longest wait for deliveries: they are lost then.
const PATIENCE: Duration = Duration::from_secs(60);

/// What all readers of a run came to.
#[derive(Debug, Default)]
pub struct Count {
    /// Publications.
    pub delivered: AtomicU64,
    /// Bytes, headers of frames included.
    pub bytes: AtomicU64,
    /// WebSocket messages.
    pub messages: AtomicU64,
    /// How many publications somebody waits for.
    wanted: AtomicU64,
    reached: Notify,
}

impl Count {
    /// Waits until so many publications were delivered; panics if more were.
    pub async fn reach(&self, wanted: u64) {
        self.wanted.store(wanted, Ordering::SeqCst);
        let reached = async {
            while self.delivered.load(Ordering::SeqCst) < wanted {
                self.reached.notified().await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, reached).await.is_ok();
        let delivered = self.delivered.load(Ordering::SeqCst);
        assert!(
            in_time && delivered == wanted,
            "{delivered} of {wanted} delivered"
        );
    }

    fn add(&self, bytes: usize, messages: u64, publications: u64) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.messages.fetch_add(messages, Ordering::Relaxed);
        let before = self.delivered.fetch_add(publications, Ordering::SeqCst);
        if before + publications >= self.wanted.load(Ordering::SeqCst) {
            self.reached.notify_one();
        }
    }
}

/// Counts until the connection ends.
pub async fn count(mut stream: TcpStream, count: Arc<Count>) {
    let mut buffer = vec![0; 4 * 1024];
    let mut frames = Frames::default();
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        let (messages, marks) = frames.feed(&buffer[..length]);
        count.add(length, messages, marks);
    }
}

/// Where in a server's stream of frames a reader is.
#[derive(Debug, Default)]
struct Frames {
    header: Vec<u8>,
    /// Bytes left of the present payload.
    left: usize,
}

impl Frames {
    /// Answers how many messages begin in these bytes, and how many marks are in their payloads.
    fn feed(&mut self, mut bytes: &[u8]) -> (u64, u64) {
        let (mut messages, mut marks) = (0, 0);
        while !bytes.is_empty() {
            if self.left == 0 {
                self.header.push(bytes[0]);
                bytes = &bytes[1..];
                if let Some(length) = payload_length(&self.header) {
                    self.header.clear();
                    self.left = length;
                    messages += 1;
                }
                continue;
            }
            let (payload, rest) = bytes.split_at(self.left.min(bytes.len()));
            marks += payload.iter().filter(|byte| **byte == MARK).count() as u64;
            self.left -= payload.len();
            bytes = rest;
        }
        (messages, marks)
    }
}

/// The length in a whole header.
fn payload_length(header: &[u8]) -> Option<usize> {
    match (header.get(1)? & 0x7f, header.len()) {
        (126, 4) => Some(usize::from(u16::from_be_bytes([header[2], header[3]]))),
        (127, 10) => {
            let mut length = [0; 8];
            length.copy_from_slice(&header[2..]);
            usize::try_from(u64::from_be_bytes(length)).ok()
        }
        (126 | 127, _) => None,
        (short, _) => Some(usize::from(short)),
    }
}
