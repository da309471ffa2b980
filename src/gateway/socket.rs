//! One client's socket: plain TCP or TLS over it, written to from any thread, read by one task.
//!
//! Owns the two halves and the TLS state between them. Never waits for writability on its own:
//! `try_write` takes what the kernel takes. Simulations put a pipe in memory in TCP's place.

use std::{
    io::{self, Read, Write},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use parking_lot::Mutex;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, Interest, ReadBuf},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use tokio_rustls::{rustls::ServerConnection, server::TlsStream};

#[cfg(test)]
use super::memory::{Pipe, WriteHalf};

/// Unsent bytes the kernel may hold for one client. Its automatic buffers grow to megabytes,
/// which is memory that grows with slow clients, and old values in front of the newest ones.
const NOT_SENT_BYTES_MAX: u32 = 16 * 1024;
/// Plain text TLS may hold while its records wait for the socket.
const TLS_BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Sets what every client's socket needs.
///
/// # Errors
/// The socket is already gone.
pub fn prepare(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(NOT_SENT_BYTES_MAX)
}

type Tls = Arc<Mutex<ServerConnection>>;

/// The half that reads.
#[derive(Debug)]
pub struct SocketReader {
    from: Source,
    tls: Option<Tls>,
}

/// The half that writes; shared by every thread that delivers.
#[derive(Debug)]
pub struct SocketWriter {
    to: Sink,
    tls: Option<Tls>,
}

#[derive(Debug)]
enum Source {
    Tcp(OwnedReadHalf),
    #[cfg(test)]
    Memory(Arc<Pipe>),
}

#[derive(Debug)]
enum Sink {
    Tcp(OwnedWriteHalf),
    #[cfg(test)]
    Memory(WriteHalf),
}

fn halves(stream: TcpStream, tls: Option<Tls>) -> (SocketReader, SocketWriter) {
    let (read, write) = stream.into_split();
    let (from, to) = (Source::Tcp(read), Sink::Tcp(write));
    (
        SocketReader {
            from,
            tls: tls.clone(),
        },
        SocketWriter { to, tls },
    )
}

/// Splits a plain stream.
pub fn plain(stream: TcpStream) -> (SocketReader, SocketWriter) {
    halves(stream, None)
}

/// Splits a TLS stream whose handshake is done.
pub fn tls(stream: TlsStream<TcpStream>) -> (SocketReader, SocketWriter) {
    let (stream, mut connection) = stream.into_inner();
    connection.set_buffer_limit(Some(TLS_BUFFER_BYTES_MAX));
    halves(stream, Some(Arc::new(Mutex::new(connection))))
}

/// The node's two halves of a pipe.
#[cfg(test)]
pub fn memory(pipe: &Arc<Pipe>) -> (SocketReader, SocketWriter) {
    (
        SocketReader {
            from: Source::Memory(Arc::clone(pipe)),
            tls: None,
        },
        SocketWriter {
            to: Sink::Memory(WriteHalf(Arc::clone(pipe))),
            tls: None,
        },
    )
}

impl SocketReader {
    /// Reads what is there into `buffer`; 0: the client closed its side.
    ///
    /// # Errors
    /// The socket broke, or the TLS stream did.
    pub fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let Some(tls) = &self.tls else {
            return self.from.poll_read(context, buffer);
        };
        loop {
            match tls.lock().reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
            // The caller's buffer holds the records until they are decrypted.
            let count = ready!(self.from.poll_read(context, buffer))?;
            if count == 0 {
                return Poll::Ready(Ok(0));
            }
            let filled = decrypt(&mut tls.lock(), buffer, count)?;
            if filled > 0 {
                return Poll::Ready(Ok(filled));
            }
        }
    }
}

impl Source {
    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(tcp) => {
                let mut buffer = ReadBuf::new(buffer);
                ready!(Pin::new(tcp).poll_read(context, &mut buffer))?;
                Poll::Ready(Ok(buffer.filled().len()))
            }
            #[cfg(test)]
            Self::Memory(pipe) => pipe.poll_read(context, buffer),
        }
    }
}

/// Decrypts the first `count` bytes in place; how many bytes of plain text came of them. TLS keeps
/// what finds no room, the end of a record that began in an earlier read, and takes nothing more
/// while it keeps more than one: so the plain text is taken out step by step.
fn decrypt(tls: &mut ServerConnection, buffer: &mut [u8], count: usize) -> io::Result<usize> {
    let (mut taken, mut filled) = (0, 0);
    while taken < count {
        let step = tls.read_tls(&mut &buffer[taken..count])?;
        if step == 0 {
            // The client said that nothing follows.
            break;
        }
        taken += step;
        tls.process_new_packets().map_err(io::Error::other)?;
        match tls.reader().read(&mut buffer[filled..taken]) {
            Ok(text) => filled += text,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

impl SocketWriter {
    /// Writes as much as the socket takes at once.
    ///
    /// # Errors
    /// `WouldBlock` when it takes nothing; anything else: the socket broke.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &self.tls else {
            return self.to.try_write(bytes);
        };
        let mut tls = tls.lock();
        self.flush_tls(&mut tls)?;
        let taken = tls.writer().write(bytes)?;
        match self.flush_tls(&mut tls) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            Ok(()) | Err(_) => Ok(taken),
        }
    }

    /// Hands over to the kernel what TLS still holds.
    ///
    /// # Errors
    /// `WouldBlock` while something is left; anything else: the socket broke.
    pub fn try_flush(&self) -> io::Result<()> {
        match &self.tls {
            Some(tls) => self.flush_tls(&mut tls.lock()),
            None => Ok(()),
        }
    }

    /// Hands the kernel the records TLS holds.
    fn flush_tls(&self, tls: &mut ServerConnection) -> io::Result<()> {
        while tls.wants_write() {
            tls.write_tls(&mut Unsent(&self.to))?;
        }
        Ok(())
    }

    /// Waits until the socket may take bytes.
    ///
    /// # Errors
    /// The socket broke.
    pub async fn writable(&self) -> io::Result<()> {
        match &self.to {
            Sink::Tcp(tcp) => tcp.writable().await,
            #[cfg(test)]
            Sink::Memory(WriteHalf(pipe)) => pipe.writable().await,
        }
    }

    /// Says that nothing more will be written; what the kernel holds still goes out.
    pub fn shut_down(&self) {
        if let Some(tls) = &self.tls {
            let mut tls = tls.lock();
            tls.send_close_notify();
            // A client that takes nothing is not told either.
            self.flush_tls(&mut tls).unwrap_or_default();
        }
        match &self.to {
            Sink::Tcp(tcp) => {
                let tcp: &TcpStream = tcp.as_ref();
                // A socket that is already gone is shut down too.
                SockRef::from(tcp)
                    .shutdown(std::net::Shutdown::Write)
                    .unwrap_or_default();
            }
            #[cfg(test)]
            Sink::Memory(WriteHalf(pipe)) => pipe.shut_down(),
        }
    }
}

impl Sink {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => send(tcp.as_ref(), bytes),
            #[cfg(test)]
            Self::Memory(WriteHalf(pipe)) => pipe.try_write(bytes),
        }
    }
}

/// Asks the kernel first: tokio's note of whether it would take bytes is another cold line of memory
/// for each delivery, and needed only once it does not.
fn send(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let send = || SockRef::from(stream).send(bytes);
    match send() {
        // Notes that the socket is full, so that `writable` waits.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            stream.try_io(Interest::WRITABLE, send)
        }
        done => done,
    }
}

/// `try_write` as the `Write` that TLS asks for.
struct Unsent<'a>(&'a Sink);

impl Write for Unsent<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
