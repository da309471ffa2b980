//! The least of RFC 6455 that a reader of a node needs: its handshake, its masked texts, and the
//! node's frames cut out of a stream of bytes.
//!
//! Used by `light` alone. Where frames are whole they are given out as they lie in the buffer.

use std::{io, net::Ipv4Addr, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

/// Connections from one loopback address. A port is bound for each, of some 28,000 the kernel has
/// for an address; `IP_BIND_ADDRESS_NO_PORT` would share them between destinations, but safe Rust
/// has no call for it, and addresses are plenty.
const PER_ADDRESS: usize = 12_000;
/// The answer to a handshake is a few hundred bytes.
const ANSWER_BYTES_MAX: usize = 4 * 1024;

/// A socket from a loopback address that still has ports, towards a node on loopback; `buffer`
/// bounds what the kernel keeps for it unread, bytes.
pub async fn dial(to: SocketAddr, number: usize, buffer: Option<u32>) -> io::Result<TcpStream> {
    let socket = match to {
        SocketAddr::V4(to) if to.ip().is_loopback() => {
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::from((source(number), 0)))?;
            socket
        }
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(bytes) = buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// 127.0.1.1, 127.0.1.2 …: away from 127.0.0.1, whose ports everybody else uses.
fn source(number: usize) -> Ipv4Addr {
    let at = number / PER_ADDRESS;
    let byte = |value: usize| u8::try_from(value).unwrap_or(u8::MAX);
    Ipv4Addr::new(127, 0, byte(1 + at / 250), byte(1 + at % 250))
}

/// Asks for the protocol in JSON. What came after the answer is returned.
pub async fn upgrade(stream: &mut TcpStream, to: SocketAddr) -> io::Result<Vec<u8>> {
    let request = format!(
        "GET /v1/connect HTTP/1.1\r\nHost: {to}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: tidewire.v1.json\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    loop {
        if let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let rest = answer.split_off(end + 4);
            return if answer.starts_with(b"HTTP/1.1 101") {
                Ok(rest)
            } else {
                let line = answer
                    .split(|byte| *byte == b'\r')
                    .next()
                    .unwrap_or_default();
                Err(io::Error::other(String::from_utf8_lossy(line).into_owned()))
            };
        }
        if answer.len() > ANSWER_BYTES_MAX || stream.read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// A masked text. The mask is zero, which is a mask like any other.
pub fn text(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match u16::try_from(payload.len()) {
        Ok(length @ 0..126) => frame.push(0x80 | length.to_be_bytes()[1]),
        Ok(length) => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
        Err(_longer) => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// What a node sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A message.
    Text(&'a [u8]),
    /// It closes, with this code.
    Close(Option<u16>),
    /// A control frame that asks for nothing we do.
    Other,
}

/// The first frame of these bytes and how many of them it takes; none: it is not all there.
pub fn first(bytes: &[u8]) -> Option<(Incoming<'_>, usize)> {
    let [head, length, ..] = *bytes else {
        return None;
    };
    let (header, length): (usize, usize) = match length & 0x7f {
        126 => (
            4,
            usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
        ),
        127 => {
            let length = u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?);
            (10, usize::try_from(length).ok()?)
        }
        length => (2, usize::from(length)),
    };
    let payload = bytes.get(header..header.checked_add(length)?)?;
    let incoming = match head & 0x0f {
        // A node never fragments what it sends.
        1 => Incoming::Text(payload),
        8 => Incoming::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
        _ => Incoming::Other,
    };
    Some((incoming, header + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_length_are_cut_out_whole() {
        for length in [0, 125, 126, 65_535, 65_536] {
            let payload = vec![b'x'; length];
            let mut sent = text(&payload);
            // What a node sends has neither the mask nor its bit.
            let header = sent.len() - length - 4;
            sent.drain(header..header + 4);
            sent[1] &= 0x7f;
            assert_eq!(first(&sent), Some((Incoming::Text(&payload), sent.len())));
            assert_eq!(first(&sent[..sent.len() - 1]), None);
        }
        assert_eq!(
            first(&[0x88, 2, 0x11, 0x9c]),
            Some((Incoming::Close(Some(4508)), 4))
        );
    }

    #[test]
    fn ports_never_run_out_for_an_address() {
        assert_eq!(source(0), Ipv4Addr::new(127, 0, 1, 1));
        assert_eq!(source(PER_ADDRESS), Ipv4Addr::new(127, 0, 1, 2));
        assert_eq!(source(250 * PER_ADDRESS), Ipv4Addr::new(127, 0, 2, 1));
    }
}
