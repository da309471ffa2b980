//! A reader with the least code, for tens of thousands of them: one task and no buffer each.
//!
//! The client library keeps three tasks, two WebSocket buffers and a queue for each client, some
//! 40 KiB, and reads every key of every frame: right for a program, too much beside the node that
//! is measured on the same two cores. This one finds number and offset in a `msg` without parsing
//! the rest, and resumes by the plain rule: the session, and the position of each channel. It
//! never publishes.

pub mod websocket;

use std::{
    cell::RefCell,
    io,
    net::SocketAddr,
    sync::Arc,
    sync::atomic::Ordering,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use tidewire_client::{ChannelName, Epoch, Position};
use tidewire_protocol::{
    Command, Encoding, Frame,
    command::{Fallback, Hello, ResumeKey, Sub},
    decode,
    frame::Recovery,
};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{Instant, timeout_at},
};

use crate::{
    hub::turn,
    message::Stamp,
    meter::count,
    stage::{Seat, Stage},
};

/// What one read takes; one buffer for each thread of the runtime.
const READ_BYTES: usize = 64 * 1024;
/// From connecting to having caught up.
const OPEN_WITHIN: Duration = Duration::from_secs(30);
/// Before the second try, up to this and at random; doubled for each after it.
const RETRY_MS: u64 = 1_000;
/// Doubled so often at most.
const DOUBLED_MAX: u32 = 4;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// A channel a reader reads: one stream is published in it.
#[derive(Debug)]
pub struct Wanted {
    /// Which.
    pub channel: ChannelName,
    /// What is published in it.
    pub stream: u32,
    /// Its keyed state comes first.
    pub state: bool,
}

/// A reader, connected or not.
#[derive(Debug)]
pub struct Light {
    seat: Seat,
    number: usize,
    buffer: Option<u32>,
    /// Seconds; none: the node's default.
    heartbeat: Option<u64>,
    place: Place,
    /// How often it went on to another node.
    step: usize,
    wanted: Vec<(Wanted, Option<Position>)>,
    session: Option<(String, String)>,
    attempt: u64,
    stamps: Vec<Stamp>,
}

/// A connection and the part of a frame that came last.
#[derive(Debug)]
pub struct Line {
    stream: TcpStream,
    torn: Vec<u8>,
}

/// What all readers of a run share.
#[derive(Debug, Clone)]
pub struct Place {
    nodes: Arc<[SocketAddr]>,
    token: Option<Arc<str>>,
}

impl Place {
    /// Of this stage's hub.
    pub fn of(stage: &Stage) -> Result<Self> {
        Ok(Self {
            nodes: stage.hub.addresses()?.into(),
            token: stage.hub.token("load").map(Arc::from),
        })
    }
}

impl Light {
    /// A reader that is not connected; its number says which node it begins with.
    pub fn new(seat: Seat, place: &Place, number: usize, wanted: Vec<Wanted>) -> Self {
        Self {
            seat,
            number,
            buffer: None,
            heartbeat: None,
            place: place.clone(),
            step: 0,
            wanted: wanted.into_iter().map(|wanted| (wanted, None)).collect(),
            session: None,
            attempt: 0,
            stamps: Vec::new(),
        }
    }

    /// With a heartbeat of so many seconds.
    pub const fn heartbeat(mut self, seconds: u64) -> Self {
        self.heartbeat = Some(seconds);
        self
    }

    /// With so many bytes of the kernel's memory for what it does not read.
    pub const fn buffer(mut self, bytes: u32) -> Self {
        self.buffer = Some(bytes);
        self
    }

    /// Connects, or comes back, and returns when every channel has caught up.
    pub async fn open(&mut self) -> io::Result<Line> {
        let opened = tokio::time::timeout(OPEN_WITHIN, self.try_open()).await;
        let line = opened.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))?;
        self.seat
            .stage
            .meter
            .connections
            .fetch_add(1, Ordering::Relaxed);
        Ok(line)
    }

    async fn try_open(&mut self) -> io::Result<Line> {
        let nodes = &self.place.nodes;
        let to = nodes[turn(self.number, nodes.len(), self.step)];
        let mut stream = websocket::dial(to, self.number, self.buffer).await?;
        let torn = websocket::upgrade(&mut stream, to).await?;
        let mut hello = Vec::new();
        self.hello().encode(Encoding::Json, &mut hello);
        stream.write_all(&websocket::text(&hello)).await?;
        let mut line = Line { stream, torn };
        let mut behind = self.wanted.len();
        while behind > 0 {
            let live = self.read(&mut line).await?;
            behind = behind.saturating_sub(live);
        }
        Ok(line)
    }

    fn hello(&mut self) -> Command {
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let unix_ms = u64::try_from(unix.as_millis()).unwrap_or_default();
        self.attempt = unix_ms.max(self.attempt + 1);
        let subs = self.wanted.iter().map(|(wanted, position)| Sub {
            i: None,
            channel: wanted.channel.clone(),
            position: position.clone(),
            fallback: if wanted.state {
                Fallback::State
            } else {
                Fallback::Now
            },
            mode: tidewire_client::Mode::Every,
            hz: None,
            me: None,
        });
        Command::Hello(Hello {
            token: self.place.token.as_deref().map(str::to_owned),
            session: self.session.as_ref().map(|(id, key)| ResumeKey {
                id: id.clone(),
                key: key.clone(),
                attempt: self.attempt,
            }),
            subs: Some(subs.collect()),
            heartbeat: self.heartbeat,
            sdk: None,
        })
    }

    /// Reads until the load is over, and comes back whenever the connection is lost.
    pub async fn run(mut self, mut line: Line) {
        loop {
            while self.read(&mut line).await.is_ok() {}
            drop(line);
            let stage = Arc::clone(&self.seat.stage);
            stage.meter.connections.fetch_sub(1, Ordering::Relaxed);
            if stage.is_over() {
                return;
            }
            count(&stage.meter.lost_connections);
            let mut tries = 0;
            line = loop {
                self.step += 1;
                match self.open().await {
                    Ok(line) => break line,
                    Err(_again) if stage.is_over() => return,
                    Err(_again) => {}
                }
                let spread = self
                    .attempt
                    .wrapping_mul(0x9e37_79b9)
                    .wrapping_add(self.number as u64);
                let most = RETRY_MS << tries.min(DOUBLED_MAX);
                tokio::time::sleep(Duration::from_millis(spread % most)).await;
                tries += 1;
            };
            count(&stage.meter.resumes);
        }
    }

    /// Reads until this moment.
    pub async fn run_until(&mut self, line: &mut Line, moment: Instant) -> io::Result<()> {
        while timeout_at(moment, line.stream.readable()).await.is_ok() {
            self.read(line).await?;
        }
        Ok(())
    }

    /// Takes what is there, waiting for it; how many channels caught up.
    async fn read(&mut self, line: &mut Line) -> io::Result<usize> {
        if line.torn.is_empty() || websocket::first(&line.torn).is_none() {
            loop {
                line.stream.readable().await?;
                match self.fill(line) {
                    Ok(Some(done)) => return self.after(line, done).await,
                    Ok(None) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        let torn = std::mem::take(&mut line.torn);
        let done = self.take(&torn, line)?;
        self.after(line, done).await
    }

    /// One read of the socket; none: there was nothing after all.
    fn fill(&mut self, line: &mut Line) -> io::Result<Option<Done>> {
        BUFFER.with_borrow_mut(|buffer| {
            let count = match line.stream.try_read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            };
            if line.torn.is_empty() {
                return self.take(&buffer[..count], line).map(Some);
            }
            let mut torn = std::mem::take(&mut line.torn);
            torn.extend_from_slice(&buffer[..count]);
            self.take(&torn, line).map(Some)
        })
    }

    /// Takes every whole frame; the rest waits for more.
    fn take(&mut self, bytes: &[u8], line: &mut Line) -> io::Result<Done> {
        let mut rest = bytes;
        let mut done = Done::default();
        while let Some((incoming, length)) = websocket::first(rest) {
            rest = &rest[length..];
            match incoming {
                websocket::Incoming::Text(message) => {
                    for frame in message.split(|byte| *byte == b'\n') {
                        self.frame(frame, &mut done)?;
                    }
                }
                websocket::Incoming::Close(code) => {
                    let why = format!("the node closed: {code:?}");
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, why));
                }
                websocket::Incoming::Other => {}
            }
        }
        line.torn.extend_from_slice(rest);
        if !self.stamps.is_empty() {
            self.seat.heard(&self.stamps);
            self.stamps.clear();
        }
        Ok(done)
    }

    async fn after(&mut self, line: &mut Line, done: Done) -> io::Result<usize> {
        if done.pinged {
            line.stream
                .write_all(&websocket::text(br#"{"t":"pong"}"#))
                .await?;
        }
        Ok(done.live)
    }

    fn frame(&mut self, frame: &[u8], done: &mut Done) -> io::Result<()> {
        if frame.starts_with(br#"{"t":"msg""#)
            && let Some((offset, stamp)) = Stamp::find(frame)
        {
            let held = self
                .wanted
                .iter_mut()
                .find(|(wanted, _)| wanted.stream == stamp.stream);
            if let Some((_, Some(position))) = held {
                position.offset = offset;
            }
            self.stamps.push(stamp);
            return Ok(());
        }
        let frames = decode::frames(Encoding::Json, frame).map_err(io::Error::other)?;
        for frame in frames {
            self.other(frame, done)?;
        }
        Ok(())
    }

    fn other(&mut self, frame: Frame, done: &mut Done) -> io::Result<()> {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "whatever else a node says asks nothing of this reader"
        )]
        match frame {
            Frame::Welcome(welcome) => {
                if self.session.is_some() && !welcome.resumed {
                    count(&self.seat.stage.meter.forgotten);
                }
                self.session = Some((welcome.session, welcome.key));
            }
            Frame::Subscribed {
                channel,
                position,
                recovery,
                ..
            } => self.began(&channel, position, recovery),
            Frame::Live { .. } => done.live += 1,
            Frame::Rewind {
                channel, epoch, to, ..
            } => self.rewound(&channel, epoch, to),
            Frame::Gap { .. } => count(&self.seat.stage.meter.told_losses),
            Frame::Ping => done.pinged = true,
            Frame::Unsubscribed { channel, code } => {
                let what = format!("{channel} is refused: {}", code.name());
                if !code.temporary() {
                    self.seat.stage.fail(what.clone());
                }
                // What passes by itself is asked for again on the next connection.
                return Err(io::Error::other(what));
            }
            _ => {}
        }
        Ok(())
    }

    fn began(&mut self, channel: &ChannelName, position: Position, recovery: Recovery) {
        let held = self
            .wanted
            .iter_mut()
            .find(|(wanted, _)| wanted.channel == *channel);
        let Some((wanted, held)) = held else { return };
        match recovery {
            // One publisher fills a channel of this run: its numbers are the offsets.
            Recovery::Fresh => self.seat.owe(wanted.stream, position.offset + 1),
            Recovery::Reset => count(&self.seat.stage.meter.told_losses),
            Recovery::Full => {}
        }
        *held = Some(position);
    }

    fn rewound(&mut self, channel: &ChannelName, epoch: Epoch, to: u64) {
        let held = self
            .wanted
            .iter_mut()
            .find(|(wanted, _)| wanted.channel == *channel);
        if let Some((_, Some(held))) = held {
            held.epoch = epoch;
            held.offset = held.offset.min(to);
        }
    }
}

#[derive(Debug, Default)]
struct Done {
    live: usize,
    pinged: bool,
}
