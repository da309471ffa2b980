//! Publishers that wait for acknowledgements and stop when the node is gone.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{http::Http, server::token, socket};

/// Channels of each publisher, in turns.
pub const CHANNELS: usize = 100;
/// Publications on their way to be acknowledged, over a socket.
const WINDOW: u64 = 256;
/// Items of a batch.
const BATCH: u64 = 100;
/// Most bytes of answers in one read.
const READ_BYTES: usize = 64 * 1024;
/// Bytes of data in one publication.
const DATA_BYTES: usize = 128;

/// What one publisher has published.
#[derive(Debug)]
pub struct Publisher {
    number: usize,
    /// The number of the last publication that was acknowledged in each channel.
    pub acknowledged: Vec<u64>,
    /// By all publishers.
    all: Arc<AtomicU64>,
    sent: u64,
    answered: u64,
}

impl Publisher {
    pub fn new(number: usize, all: Arc<AtomicU64>) -> Self {
        Self {
            number,
            acknowledged: vec![0; CHANNELS],
            all,
            sent: 0,
            answered: 0,
        }
    }

    pub fn channel(&self, channel: usize) -> String {
        format!("p{}-{channel}", self.number)
    }

    /// The next publication: its channel, id and data.
    fn next(&mut self) -> (String, String, String) {
        let (channel, number) = place(self.sent);
        let id = format!("{}-{}", self.number, self.sent);
        self.sent += 1;
        (self.channel(channel), id, data(number))
    }

    /// The publication was accepted at this offset.
    fn acknowledge(&mut self, publication: u64, offset: u64) {
        let (channel, number) = place(publication);
        assert_eq!(offset, number, "{}", self.channel(channel));
        assert_eq!(self.acknowledged[channel] + 1, number, "in order");
        self.acknowledged[channel] = number;
        self.answered += 1;
        self.all.fetch_add(1, Ordering::SeqCst);
    }
}

/// Where the publisher's `publication`th goes: the channel, and its number there.
fn place(publication: u64) -> (usize, u64) {
    let channels = CHANNELS as u64;
    let channel = usize::try_from(publication % channels).unwrap();
    (channel, publication / channels + 1)
}

fn data(number: u64) -> String {
    let mut data = format!("{number} ");
    data.extend(std::iter::repeat_n('x', DATA_BYTES - data.len()));
    data
}

/// The number in a publication's data.
pub fn number(data: &str) -> u64 {
    data.split(' ').next().unwrap().parse().unwrap()
}

/// Publishes over a socket until the node is gone.
pub async fn websocket(server: SocketAddr, mut publisher: Publisher) -> Publisher {
    let mut stream = socket::publisher(server, &token()).await;
    let mut answers = Vec::new();
    loop {
        let under_way = publisher.sent - publisher.answered;
        if under_way <= WINDOW / 2 && write(&mut stream, &mut publisher).await.is_none() {
            return publisher;
        }
        answers.reserve(READ_BYTES);
        if !matches!(stream.read_buf(&mut answers).await, Ok(1..)) {
            return publisher;
        }
        let whole = answers.iter().rposition(|byte| *byte == b'}');
        let rest = answers.split_off(whole.map_or(0, |at| at + 1));
        for (publication, offset) in acknowledgements(&answers) {
            publisher.acknowledge(publication, offset);
        }
        answers = rest;
    }
}

/// Fills the window. None: the node is gone.
async fn write(stream: &mut TcpStream, publisher: &mut Publisher) -> Option<()> {
    let mut frames = Vec::new();
    while publisher.sent - publisher.answered < WINDOW {
        let i = publisher.sent + 1;
        let (channel, id, data) = publisher.next();
        frames.extend(socket::text(&format!(
            r#"{{"t":"pub","i":{i},"ch":"{channel}","id":"{id}","d":"{data}"}}"#
        )));
    }
    stream.write_all(&frames).await.ok()
}

/// What whole frames acknowledge: the publication and its offset.
fn acknowledgements(frames: &[u8]) -> Vec<(u64, u64)> {
    let text = String::from_utf8_lossy(frames);
    assert!(
        !text.contains(r#""t":"error""#) && !text.contains(r#""dup""#),
        "{text}"
    );
    let answers = text.split(r#"{"t":"ok","#).skip(1);
    answers
        .map(|answer| (field(answer, r#""i":"#) - 1, field(answer, r#""o":"#)))
        .collect()
}

fn field(text: &str, name: &str) -> u64 {
    let (_, after) = text.split_once(name).unwrap_or_else(|| panic!("{text}"));
    let digits = after.find(|letter: char| !letter.is_ascii_digit());
    after[..digits.unwrap()].parse().unwrap()
}

/// Publishes batches over HTTP until the node is gone.
pub async fn http(server: SocketAddr, mut publisher: Publisher) -> Publisher {
    let mut http = Http::connect(server).await;
    loop {
        let first = publisher.sent;
        let mut body = r#"{"items":["#.to_owned();
        for item in 0..BATCH {
            let (channel, id, data) = publisher.next();
            let comma = if item == 0 { "" } else { "," };
            write!(
                body,
                r#"{comma}{{"channel":"{channel}","id":"{id}","data":"{data}"}}"#
            )
            .unwrap();
        }
        body.push_str("]}");
        let Some(answer) = http.request("POST /v1/batch", &body).await else {
            return publisher;
        };
        assert!(!answer.contains(r#""duplicate":true"#), "{answer}");
        let results = answer.split(r#"{"channel":"#).skip(1);
        let offsets: Vec<_> = results.map(|one| field(one, r#""offset":"#)).collect();
        assert_eq!(offsets.len() as u64, BATCH);
        for (publication, offset) in (first..).zip(offsets) {
            publisher.acknowledge(publication, offset);
        }
    }
}
