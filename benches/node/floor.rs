//! The floor: a bare relay on one thread, without history, sessions, tokens or backpressure.
//!
//! It speaks as much of the protocol as the bench's clients need, reads publications from one
//! socket and writes each to the sockets of its channel, one `write` per delivery. Within a few
//! per cent it costs what uWebSockets costs (docs/performance.md).

use std::{
    collections::HashMap,
    fmt::Write as _,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
};

type Members = HashMap<String, (u64, Vec<TcpStream>)>;

/// Lets readers in one after another until the publisher comes, then relays.
pub fn run(host: &str, port: &str) {
    let listener = TcpListener::bind(format!("{host}:{port}")).unwrap();
    let mut members = Members::new();
    for stream in listener.incoming() {
        let stream = stream.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut reader = BufReader::with_capacity(64 * 1024, stream);
        if !shake_hands(&mut reader) {
            continue;
        }
        let hello = frame(&mut reader).unwrap();
        let answer = |text: &str| reader.get_ref().write_all(&sealed(text)).unwrap();
        match field(&hello, r#""ch":""#) {
            Some(channel) => {
                answer(r#"{"t":"live"}"#);
                let (_, sockets) = members.entry(channel.to_owned()).or_default();
                sockets.push(reader.into_inner());
            }
            None => {
                answer(r#"{"t":"welcome"}"#);
                relay(&mut reader, &mut members);
            }
        }
    }
}

/// Relays until the publisher leaves.
fn relay(publisher: &mut impl BufRead, members: &mut Members) {
    let mut text = String::new();
    while let Some(publication) = frame(publisher) {
        let channel = field(&publication, r#""ch":""#).unwrap();
        let data = field(&publication, r#""d":""#).unwrap();
        let Some((head, sockets)) = members.get_mut(channel) else {
            continue;
        };
        *head += 1;
        text.clear();
        write!(
            text,
            r#"{{"t":"msg","ch":"{channel}","o":{head},"ts":1764259200000,"by":"bench","d":"{data}"}}"#
        )
        .unwrap();
        let message = sealed(&text);
        for socket in sockets {
            if (&*socket).write_all(&message).is_err() {
                return;
            }
        }
    }
}

/// False: the other side only looked whether somebody listens.
fn shake_hands(reader: &mut BufReader<TcpStream>) -> bool {
    let mut line = String::new();
    while reader.read_line(&mut line).unwrap() > 2 {
        line.clear();
    }
    if line.is_empty() {
        return false;
    }
    let answer =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    reader.get_ref().write_all(answer.as_bytes()).unwrap();
    true
}

/// The next frame of a client whose mask is zero. None: it left.
fn frame(reader: &mut impl Read) -> Option<String> {
    let mut header = [0; 2];
    reader.read_exact(&mut header).ok()?;
    let mut length = usize::from(header[1] & 0x7f);
    if length == 126 {
        let mut long = [0; 2];
        reader.read_exact(&mut long).ok()?;
        length = usize::from(u16::from_be_bytes(long));
    }
    let mut payload = vec![0; 4 + length];
    reader.read_exact(&mut payload).ok()?;
    String::from_utf8(payload.split_off(4)).ok()
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, after) = text.split_once(name)?;
    Some(after.split_once('"')?.0)
}

/// A text frame of a server.
fn sealed(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match u8::try_from(text.len()) {
        Ok(length @ 0..126) => frame.push(length),
        Ok(_) | Err(_) => {
            frame.push(126);
            frame.extend_from_slice(&u16::try_from(text.len()).unwrap().to_be_bytes());
        }
    }
    frame.extend_from_slice(text.as_bytes());
    frame
}
