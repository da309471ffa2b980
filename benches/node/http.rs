//! A backend's connection to the HTTP API with the least code: one request after another.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{server::API_KEY, socket};

/// Room for an answer to begin with.
const ANSWER_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub struct Http {
    stream: TcpStream,
}

impl Http {
    pub async fn connect(server: SocketAddr) -> Self {
        Self {
            stream: socket::connect(server).await,
        }
    }

    /// The body of an answer with status 200. None: the connection ended first.
    /// Panics at any other status.
    pub async fn request(&mut self, what: &str, body: &str) -> Option<String> {
        let request = format!(
            "{what} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {API_KEY}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await.ok()?;
        let mut seen = Vec::with_capacity(ANSWER_BYTES);
        loop {
            if self.stream.read_buf(&mut seen).await.ok()? == 0 {
                return None;
            }
            let text = str::from_utf8(&seen).unwrap();
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            assert!(head.starts_with("HTTP/1.1 200"), "{text}");
            let head = head.to_ascii_lowercase();
            let (_, length) = head.split_once("content-length: ").unwrap();
            let length: usize = length.lines().next().unwrap().parse().unwrap();
            if body.len() == length {
                return Some(body.to_owned());
            }
        }
    }
}
