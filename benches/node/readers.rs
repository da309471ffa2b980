//! Readers that count what is delivered to them, with as little work as counting can be, so that
//! the core they share with the measured program is left to it.

use std::{
    cell::RefCell,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    net::TcpStream,
    sync::Notify,
};

use super::latencies::Latencies;

/// Begins the data of every publication of the benches, and appears nowhere else in a payload.
pub const MARK: u8 = b'@';

/// Longest wait for deliveries: they are lost then.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most bytes of one read: what a program has piled up for a reader is taken at once.
const READ_BYTES: usize = 64 * 1024;
/// Bytes that are counted together, so that a count fits a byte: the compiler makes vectors of it.
const COUNTED_TOGETHER: usize = 192;

thread_local! {
    /// Where all readers of a thread read into: it stays in the cache.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// What all readers of a run came to.
#[derive(Debug)]
pub struct Count {
    /// Publications.
    pub delivered: AtomicU64,
    /// Bytes, headers of frames included.
    pub bytes: AtomicU64,
    /// WebSocket messages.
    pub messages: AtomicU64,
    /// From the last `publish` to each delivery.
    pub latencies: Latencies,
    /// How many publications somebody waits for.
    wanted: AtomicU64,
    reached: Notify,
    begun: Instant,
    /// µs from `begun` to the last `publish`.
    published: AtomicU64,
}

impl Default for Count {
    fn default() -> Self {
        Self {
            delivered: AtomicU64::default(),
            bytes: AtomicU64::default(),
            messages: AtomicU64::default(),
            latencies: Latencies::default(),
            wanted: AtomicU64::default(),
            reached: Notify::new(),
            begun: Instant::now(),
            published: AtomicU64::default(),
        }
    }
}

impl Count {
    /// What is delivered from here on was published here.
    pub fn publish(&self) {
        self.published.store(self.micros(), Ordering::SeqCst);
    }

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

    fn add(&self, read: Read) {
        self.bytes.fetch_add(read.bytes as u64, Ordering::Relaxed);
        self.messages.fetch_add(read.messages, Ordering::Relaxed);
        if read.marks == 0 {
            return;
        }
        let published = self.published.load(Ordering::SeqCst);
        let took = self.micros().saturating_sub(published);
        self.latencies.add(took, read.marks);
        let before = self.delivered.fetch_add(read.marks, Ordering::SeqCst);
        if before + read.marks >= self.wanted.load(Ordering::SeqCst) {
            self.reached.notify_one();
        }
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap()
    }
}

/// Counts until the connection ends.
pub async fn count(stream: TcpStream, count: Arc<Count>) {
    let mut reader = Reader::new(stream);
    while let Some(read) = reader.read().await {
        count.add(read);
    }
}

/// What one read brought.
#[derive(Debug, Clone, Copy)]
pub struct Read {
    pub bytes: usize,
    /// Messages that began in it.
    pub messages: u64,
    /// Publications.
    pub marks: u64,
}

/// A connection that is only listened to.
#[derive(Debug)]
pub struct Reader {
    stream: TcpStream,
    frames: Frames,
}

impl Reader {
    pub fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            frames: Frames::default(),
        }
    }

    /// Waits for bytes. None: the connection has ended.
    pub async fn read(&mut self) -> Option<Read> {
        poll_fn(|context| self.poll_read(context)).await
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Option<Read>> {
        BUFFER.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            let result = ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer));
            let bytes = buffer.filled();
            if result.is_err() || bytes.is_empty() {
                return Poll::Ready(None);
            }
            let (messages, marks) = self.frames.feed(bytes);
            Poll::Ready(Some(Read {
                bytes: bytes.len(),
                messages,
                marks,
            }))
        })
    }
}

/// Where in a server's stream of frames a reader is.
#[derive(Debug, Default)]
struct Frames {
    /// A header that is not whole yet.
    header: Vec<u8>,
    /// Bytes left of the present payload.
    left: usize,
}

impl Frames {
    /// Answers how many messages begin in these bytes, and how many marks are in their payloads.
    fn feed(&mut self, mut bytes: &[u8]) -> (u64, u64) {
        let (mut messages, mut marks) = (0, 0);
        while !bytes.is_empty() {
            if self.left > 0 {
                let (payload, rest) = bytes.split_at(self.left.min(bytes.len()));
                marks += marks_in(payload);
                self.left -= payload.len();
                bytes = rest;
                continue;
            }
            let whole = if self.header.is_empty() {
                header(bytes)
            } else {
                None
            };
            if let Some((length, payload)) = whole {
                bytes = &bytes[length..];
                self.left = payload;
                messages += 1;
                continue;
            }
            self.header.push(bytes[0]);
            bytes = &bytes[1..];
            if let Some((_, payload)) = header(&self.header) {
                self.header.clear();
                self.left = payload;
                messages += 1;
            }
        }
        (messages, marks)
    }
}

fn marks_in(payload: &[u8]) -> u64 {
    let marks = |bytes: &[u8]| {
        let marks = bytes.iter().map(|byte| u8::from(*byte == MARK));
        u64::from(marks.sum::<u8>())
    };
    payload.chunks(COUNTED_TOGETHER).map(marks).sum()
}

/// The bytes of a header and those of its payload. None: the header is not whole.
fn header(bytes: &[u8]) -> Option<(usize, usize)> {
    match bytes.get(1)? & 0x7f {
        126 => {
            let length = bytes.get(2..4)?.try_into().unwrap();
            Some((4, usize::from(u16::from_be_bytes(length))))
        }
        127 => {
            let length = bytes.get(2..10)?.try_into().unwrap();
            Some((10, usize::try_from(u64::from_be_bytes(length)).unwrap()))
        }
        short => Some((2, usize::from(short))),
    }
}
