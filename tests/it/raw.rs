//! A socket that sends what no WebSocket library would.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::PATIENCE;

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CONTINUE: u8 = 0;
const FINAL: u8 = 0x80;

pub struct Raw {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Raw {
    /// Upgrades with these header lines, each ending in CRLF.
    pub async fn upgrade(address: SocketAddr, headers: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET /v1/connect HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut raw = Self {
            stream,
            bytes: Vec::new(),
        };
        let end = loop {
            if let Some(end) = raw.bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(raw.more().await, "closed within the handshake");
        };
        let head = String::from_utf8_lossy(&raw.bytes[..end]).into_owned();
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        raw.bytes.drain(..end);
        raw
    }

    /// A frame as a client sends it; the mask is zero.
    pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            length @ 0..126 => frame.push(0x80 | u8::try_from(length).unwrap()),
            length @ 126..65_536 => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            length => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(payload);
        frame
    }

    /// A whole message in one frame.
    pub fn message(opcode: u8, payload: &[u8]) -> Vec<u8> {
        Self::frame(FINAL | opcode, payload)
    }

    /// Writes bytes; a node that has closed already does not take them.
    pub async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap_or_default();
    }

    async fn more(&mut self) -> bool {
        let mut chunk = [0; 4096];
        let read = timeout(PATIENCE, self.stream.read(&mut chunk));
        let count = read.await.expect("bytes in time").unwrap_or(0);
        self.bytes.extend_from_slice(&chunk[..count]);
        count > 0
    }

    /// The next frame: its first byte and payload. None: the connection ended.
    pub async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((first, begin, length)) = header(&self.bytes)
                && self.bytes.len() >= begin + length
            {
                let payload = self.bytes[begin..begin + length].to_vec();
                self.bytes.drain(..begin + length);
                return Some((first, payload));
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// The frames of the next message.
    pub async fn frames(&mut self) -> Vec<Value> {
        let (first, payload) = self.next().await.expect("a message");
        assert_eq!(first, FINAL | TEXT);
        crate::wire::parse(std::str::from_utf8(&payload).unwrap())
    }

    /// The code of the close frame; it must be the last one.
    pub async fn close_code(&mut self) -> Option<u16> {
        let mut code = None;
        while let Some((first, payload)) = self.next().await {
            assert!(code.is_none(), "a frame after the close frame");
            if first == FINAL | 8 {
                code = Some(u16::from_be_bytes([payload[0], payload[1]]));
            }
        }
        code
    }
}

fn header(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (first, length) = (*bytes.first()?, *bytes.get(1)?);
    Some(match length {
        126 => (
            first,
            4,
            usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap())),
        ),
        127 => {
            let length = u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap());
            (first, 10, usize::try_from(length).unwrap())
        }
        length => (first, 2, usize::from(length)),
    })
}
