//! The client's end of a socket in memory: WebSocket frames, masks of zeros, and how long bytes
//! are under way.

use std::{io::Cursor, sync::Arc, time::Duration};

use tidewire_protocol::{Command, Encoding, Frame, decode};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

use super::world::World;
use crate::gateway::memory::Pipe;

/// A client's connection.
#[derive(Debug)]
pub struct Wire {
    pub pipe: Arc<Pipe>,
    encoding: Encoding,
    torn: Vec<u8>,
    /// When the bytes that are there were under way long enough.
    due: Option<Instant>,
    /// Nothing goes through before.
    frozen_until: Instant,
    /// Sent while frozen.
    held: Vec<u8>,
    /// Most bytes taken at once.
    takes: usize,
    delay_ms: u64,
}

/// What came in.
#[derive(Debug)]
pub enum Incoming {
    Frame(Box<Frame>),
    /// The connection ended.
    Closed,
}

impl Wire {
    pub fn new(pipe: Arc<Pipe>, encoding: Encoding, takes: usize, delay_ms: u64) -> Self {
        Self {
            pipe,
            encoding,
            torn: Vec::new(),
            due: None,
            frozen_until: Instant::now(),
            held: Vec::new(),
            takes,
            delay_ms,
        }
    }

    pub fn send(&mut self, commands: &[Command]) {
        let mut payload = Vec::new();
        for command in commands {
            if !payload.is_empty() && self.encoding == Encoding::Json {
                payload.push(b'\n');
            }
            command.encode(self.encoding, &mut payload);
        }
        let data = match self.encoding {
            Encoding::Json => Data::Text,
            Encoding::MessagePack => Data::Binary,
        };
        let header = FrameHeader {
            is_final: true,
            opcode: OpCode::Data(data),
            mask: Some([0; 4]),
            ..FrameHeader::default()
        };
        let mut bytes = Vec::new();
        header.format(payload.len() as u64, &mut bytes).unwrap();
        bytes.extend(payload);
        if Instant::now() < self.frozen_until {
            self.held.extend(bytes);
        } else {
            self.pipe.send(&bytes);
        }
    }

    /// Nothing goes through for this long.
    pub fn freeze(&mut self, time: Duration) {
        self.frozen_until = Instant::now() + time;
    }

    /// Waits for what comes in. Cancel-safe.
    pub async fn receive(&mut self, world: &World) -> Vec<Incoming> {
        if !self.held.is_empty() {
            tokio::time::sleep_until(self.frozen_until).await;
            let held = std::mem::take(&mut self.held);
            self.pipe.send(&held);
        }
        self.pipe.arrived().await;
        let delay_ms = self.delay_ms;
        let due = *self
            .due
            .get_or_insert_with(|| Instant::now() + world.millis(1, delay_ms));
        tokio::time::sleep_until(due.max(self.frozen_until)).await;
        self.due = None;
        let Some(bytes) = self.pipe.take(self.takes) else {
            return vec![Incoming::Closed];
        };
        self.torn.extend_from_slice(&bytes);
        let mut incoming = Vec::new();
        self.take_messages(&mut incoming);
        incoming
    }

    fn take_messages(&mut self, incoming: &mut Vec<Incoming>) {
        loop {
            let mut cursor = Cursor::new(&self.torn[..]);
            let Some((header, length)) = FrameHeader::parse(&mut cursor).unwrap() else {
                return;
            };
            let begin = usize::try_from(cursor.position()).unwrap();
            let end = begin + usize::try_from(length).unwrap();
            if self.torn.len() < end {
                return;
            }
            match header.opcode {
                OpCode::Data(_) => {
                    let frames = decode::frames(self.encoding, &self.torn[begin..end]).unwrap();
                    incoming.extend(frames.into_iter().map(Box::new).map(Incoming::Frame));
                }
                OpCode::Control(Control::Close) => incoming.push(Incoming::Closed),
                OpCode::Control(_) => {}
            }
            self.torn.drain(..end);
        }
    }
}
