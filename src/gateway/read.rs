//! The reading side of a connection: one task that holds no buffer while the client is quiet.
//!
//! Owns the order of a client's commands (one batch at a time, answered in order), the heartbeat
//! and every deadline of the connection, and what is left to do when it ends.

use std::{cell::RefCell, future::poll_fn, sync::Arc, task::Poll, time::Duration};

use tidewire_protocol::{CloseCode, Command, Frame, decode};
use tokio::time::Instant;

use super::{
    commands,
    connection::Connection,
    hello,
    socket::SocketReader,
    websocket::{self, Inbox, Incoming, WireError},
};
use crate::{
    clock,
    config::{Namespace, Rate},
    random,
    session::Bucket,
    telemetry::labels::Rejection,
};

/// Bytes read at once. The buffer belongs to the thread, not to the connection.
const READ_BYTES: usize = 64 * 1024;
/// A client that opened a connection says hello within this.
const HELLO_MS_MAX: u64 = 10_000;
/// Floors are written at most this often; until then the client's own positions say more.
const FLOORS_MS: u64 = 30_000;
/// A token is served this long past its end: the fresh one may be under way.
const TOKEN_GRACE_MS: u64 = 30_000;
/// Commands a page may send at once when it loads: one subscription each at most.
const PAGE_LOAD: f64 = 256.0;
/// After our close the client has this long to close its side.
const LINGER: Duration = Duration::from_secs(2);

thread_local! {
    static READ_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// What one read brought.
#[derive(Debug, Default)]
struct Batch {
    commands: Vec<Command>,
    pongs: Vec<u8>,
    /// The client closed.
    closed: bool,
    refused: Option<CloseCode>,
}

/// When a connection must be looked at though nothing came in, all Unix ms.
#[derive(Debug)]
struct Deadlines {
    heard_ms: u64,
    heartbeat_ms: u64,
    ping_ms: u64,
    /// When acknowledged floors are worth a write.
    floors_ms: u64,
    hello_ms: Option<u64>,
    token: Option<TokenLife>,
}

/// The token's end, Unix ms, and when the client is to be told; none: it was.
#[derive(Debug, Clone, Copy)]
struct TokenLife {
    end_ms: u64,
    warn_ms: Option<u64>,
}

/// What a connection may still ask for.
#[derive(Debug)]
pub struct Budgets {
    pub commands: Bucket,
    pub subscribes: Bucket,
    pub reads: Bucket,
    /// Publications, by namespace.
    publications: Vec<(Arc<str>, Bucket)>,
}

/// Reads until the connection ends, then puts its session away.
pub async fn run(connection: Arc<Connection>, mut reader: SocketReader, early: Vec<u8>) {
    let limits = &connection.gateway.config.limits;
    let mut inbox = Inbox::new(connection.encoding, limits.frame.bytes());
    let mut deadlines = Deadlines::new(clock::now_ms());
    let mut budgets = None;
    let mut early = Some(early).filter(|bytes| !bytes.is_empty());
    loop {
        let batch = match early.take() {
            Some(mut bytes) => parse(&connection, &mut inbox, &mut bytes),
            None => tokio::select! {
                biased;
                () = connection.ended() => break,
                () = left_before_hello(&connection, &deadlines) => {
                    connection.gateway.send_away(&connection);
                    break;
                }
                batch = read(&connection, &mut reader, &mut inbox) => batch,
                () = tokio::time::sleep_until(deadlines.next()) => {
                    if deadlines.act(&connection) { continue } else { break }
                }
            },
        };
        deadlines.heard_ms = clock::now_ms();
        // Boxed: the work on commands is large and rare, the wait for them small and permanent.
        if !Box::pin(serve(&connection, batch, &mut deadlines, &mut budgets)).await {
            break;
        }
    }
    Box::pin(connection.gateway.end(&connection)).await;
    Box::pin(farewell(&connection, &mut reader)).await;
}

/// Serves what came in; false ends the connection.
async fn serve(
    connection: &Arc<Connection>,
    batch: Batch,
    deadlines: &mut Deadlines,
    budgets: &mut Option<Box<Budgets>>,
) -> bool {
    if !batch.pongs.is_empty() {
        connection.send_raw(&batch.pongs);
    }
    let mut commands = batch.commands;
    if deadlines.hello_ms.is_some() && !commands.is_empty() {
        let rest = commands.split_off(1);
        let Some(Command::Hello(hello)) = commands.pop() else {
            connection.close(CloseCode::BadRequest, None, None);
            return false;
        };
        if connection.gateway.admission.is_draining() {
            connection.gateway.send_away(connection);
            return false;
        }
        match hello::open(connection, hello).await {
            // Whoever told all sessions that the node leaves may not have seen this one.
            Some(_) if connection.gateway.admission.is_draining() => {
                connection.gateway.send_away(connection);
                return false;
            }
            Some(opened) => deadlines.opened(&opened, clock::now_ms()),
            None => return false,
        }
        commands = rest;
    }
    let flow = tokio::select! {
        biased;
        flow = async {
            if commands.is_empty() {
                return commands::Flow::Continue { token_ms: None };
            }
            // Made at the first command: a connection that only listens has no room for it.
            let budgets = budgets.get_or_insert_with(|| Budgets::of(connection));
            commands::execute(connection, commands, budgets).await
        } => flow,
        () = connection.ended() => return false,
    };
    match flow {
        commands::Flow::Continue { token_ms } => deadlines.renewed(token_ms),
        commands::Flow::Leave => {
            connection.gateway.forget(connection).await;
            connection.close(CloseCode::Normal, None, None);
            return false;
        }
        commands::Flow::Close(code) => {
            connection.close(code, None, None);
            return false;
        }
    }
    if let Some(code) = batch.refused {
        connection
            .gateway
            .metrics
            .rejected
            .count(Rejection::of_close(code));
        connection.close(code, None, None);
        return false;
    }
    if batch.closed {
        connection.close(CloseCode::Normal, None, None);
        return false;
    }
    tokio::select! {
        biased;
        () = connection.room() => true,
        () = connection.ended() => false,
    }
}

/// Waits until the node stops, for a connection that has no session yet: those that have one are
/// told by the node.
async fn left_before_hello(connection: &Connection, deadlines: &Deadlines) {
    if deadlines.hello_ms.is_none() {
        return std::future::pending().await;
    }
    // Boxed: every connection would have room for it for as long as it lives.
    Box::pin(connection.gateway.tasks.stopped()).await;
}

/// Waits for bytes and decodes what is whole, all on the thread's buffer. Cancel-safe.
async fn read(connection: &Connection, reader: &mut SocketReader, inbox: &mut Inbox) -> Batch {
    poll_fn(|context| {
        READ_BUFFER.with_borrow_mut(|buffer| {
            loop {
                match reader.poll_read(context, buffer) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(count)) if count > 0 => {
                        let batch = parse(connection, inbox, &mut buffer[..count]);
                        if batch.is_empty() {
                            continue;
                        }
                        return Poll::Ready(batch);
                    }
                    Poll::Ready(Ok(_) | Err(_)) => {
                        connection.abandon();
                        return Poll::Ready(Batch {
                            closed: true,
                            ..Batch::default()
                        });
                    }
                }
            }
        })
    })
    .await
}

fn parse(connection: &Connection, inbox: &mut Inbox, bytes: &mut [u8]) -> Batch {
    let mut batch = Batch::default();
    let outcome = inbox.feed(bytes, |incoming| match incoming {
        Incoming::Message(message) => match decode::commands(connection.encoding, message) {
            Ok(commands) => batch.commands.extend(commands),
            Err(error) => {
                tracing::debug!(connection_id = connection.id, %error, "a message is not of the protocol");
                batch.refused.get_or_insert(CloseCode::BadRequest);
            }
        },
        Incoming::Ping(payload) => batch.pongs.extend(websocket::pong(payload)),
        Incoming::Close => batch.closed = true,
    });
    match outcome {
        Ok(()) => {}
        Err(WireError::Broken) => batch.refused = Some(CloseCode::BadRequest),
        Err(WireError::TooLarge) => batch.refused = Some(CloseCode::TooLarge),
    }
    batch
}

/// Lets the last bytes go out and the client close its side, for a bounded while: a socket closed
/// with bytes unread is reset, and takes the close frame with it.
async fn farewell(connection: &Arc<Connection>, reader: &mut SocketReader) {
    let closed = async {
        while !connection.push_rest() {
            if connection.socket.writable().await.is_err() {
                return;
            }
        }
        connection.socket.shut_down();
        let mut sink = vec![0; 1024];
        while let Ok(1..) = poll_fn(|context| reader.poll_read(context, &mut sink)).await {}
    };
    if connection.closing().is_some() {
        // Whoever does not close in time is dropped.
        tokio::time::timeout(LINGER, closed)
            .await
            .unwrap_or_default();
    }
    connection.abandon();
}

impl Batch {
    const fn is_empty(&self) -> bool {
        self.commands.is_empty() && self.pongs.is_empty() && !self.closed && self.refused.is_none()
    }
}

impl Deadlines {
    const fn new(now_ms: u64) -> Self {
        Self {
            heard_ms: now_ms,
            heartbeat_ms: 0,
            ping_ms: u64::MAX,
            floors_ms: u64::MAX,
            hello_ms: Some(now_ms + HELLO_MS_MAX),
            token: None,
        }
    }

    fn opened(&mut self, opened: &hello::Opened, now_ms: u64) {
        self.hello_ms = None;
        self.heartbeat_ms = opened.heartbeat_ms;
        self.ping_ms = now_ms + opened.heartbeat_ms;
        self.floors_ms = next_floors_ms(now_ms);
        self.token = TokenLife::new(opened.token_ms, now_ms);
    }

    fn renewed(&mut self, token_ms: Option<u64>) {
        if token_ms.is_some() {
            self.token = TokenLife::new(token_ms, clock::now_ms());
        }
    }

    /// When to look next.
    fn next(&self) -> Instant {
        let silent_ms = if self.heartbeat_ms > 0 {
            self.heard_ms + 2 * self.heartbeat_ms
        } else {
            u64::MAX
        };
        let token_ms = self.token.map_or(u64::MAX, |token| {
            token.warn_ms.unwrap_or(token.end_ms + TOKEN_GRACE_MS)
        });
        let at_ms = self
            .hello_ms
            .unwrap_or(u64::MAX)
            .min(self.ping_ms)
            .min(silent_ms)
            .min(token_ms);
        Instant::now() + Duration::from_millis(at_ms.saturating_sub(clock::now_ms()).min(3_600_000))
    }

    /// Does what is due; false ends the connection.
    fn act(&mut self, connection: &Arc<Connection>) -> bool {
        let now_ms = clock::now_ms();
        if self.hello_ms.is_some_and(|end| now_ms >= end) {
            connection.close(CloseCode::HelloTimeout, None, None);
            return false;
        }
        if self.heartbeat_ms > 0 && now_ms >= self.heard_ms + 2 * self.heartbeat_ms {
            connection.abandon();
            return false;
        }
        if let Some(token) = &mut self.token {
            if now_ms >= token.end_ms + TOKEN_GRACE_MS {
                connection.close(CloseCode::Unauthenticated, None, None);
                return false;
            }
            if token
                .warn_ms
                .take_if(|warn_ms| now_ms >= *warn_ms)
                .is_some()
            {
                connection.send(&[Frame::Auth {
                    expires: token.end_ms,
                }]);
            }
        }
        if now_ms >= self.ping_ms {
            self.ping_ms = now_ms + self.heartbeat_ms;
            connection.ping();
            if now_ms >= self.floors_ms {
                self.floors_ms = next_floors_ms(now_ms);
                connection.gateway.checkpoints.note_floors(connection);
            }
            connection.gateway.heartbeat(connection);
        }
        true
    }
}

/// When floors are written next, by a heartbeat after this moment: jittered, so that those who came
/// together do not write together.
fn next_floors_ms(now_ms: u64) -> u64 {
    now_ms + FLOORS_MS + random::below(FLOORS_MS / 2)
}

impl TokenLife {
    /// A token seen at `now_ms`: the client is told when nine tenths of what is left are over.
    const fn new(end_ms: Option<u64>, now_ms: u64) -> Option<Self> {
        match end_ms {
            Some(end_ms) => Some(Self {
                end_ms,
                warn_ms: Some(end_ms - end_ms.saturating_sub(now_ms) / 10),
            }),
            None => None,
        }
    }
}

impl Budgets {
    fn of(connection: &Connection) -> Box<Self> {
        let (limits, now_ms) = (&connection.gateway.config.limits, clock::now_ms());
        let bucket = |rate: Rate, burst: f64| Bucket::new(rate.per_millisecond(), burst, now_ms);
        Box::new(Self {
            commands: bucket(
                limits.commands,
                f64::from(limits.commands.count) + PAGE_LOAD,
            ),
            subscribes: bucket(limits.subscribes, PAGE_LOAD),
            reads: bucket(limits.reads, 2.0 * f64::from(limits.reads.count)),
            publications: Vec::new(),
        })
    }

    /// Takes one publication from what a client may send to a namespace.
    pub fn publication(&mut self, namespace: &Namespace) -> Result<(), u64> {
        let now_ms = clock::now_ms();
        if let Some((_, bucket)) = self
            .publications
            .iter_mut()
            .find(|(name, _)| *name == namespace.name)
        {
            return bucket.take(now_ms);
        }
        let rate = namespace.max_rate;
        let mut bucket = Bucket::new(rate.per_millisecond(), f64::from(rate.count), now_ms);
        let taken = bucket.take(now_ms);
        self.publications
            .push((Arc::clone(&namespace.name), bucket));
        taken
    }
}
