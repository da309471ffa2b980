//! A TCP proxy whose faults are chosen while it runs: freeze or slow down each direction, cut,
//! refuse, lead elsewhere; for every connection or for one of them.
//!
//! The kernel here has no netem, and a firewall rule would hit other tests on the machine; what
//! stands between two processes on loopback is this. It never looks at the bytes. It has a thread
//! of its own: however busy the clients in this process are, no byte waits for them.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime::{Builder, Runtime},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::Instant,
};

/// Bytes read at once.
const CHUNK_BYTES: usize = 16 * 1024;
/// Chunks on their way in one direction; past them the sender feels that nobody reads.
const CHUNKS_MAX: usize = 64;
/// Between two bytes of a trickle.
const TRICKLE_PAUSE: Duration = Duration::from_millis(1);

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = Builder::new_multi_thread();
    let built = builder.worker_threads(1).enable_all().build();
    built.unwrap()
});

/// What happens to the bytes of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Pass,
    /// Nothing arrives, and nobody is told: a half-open connection.
    Freeze,
    /// Everything arrives this much later.
    Delay(Duration),
    /// One byte at a time.
    Trickle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From who connected.
    Up,
    /// To who connected.
    Down,
}

/// Whose bytes a fault meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// All connections, those to come as well.
    All,
    /// The connection of this number, counted from 0 as they came.
    One(u64),
    /// Connections from this address, those to come as well.
    From(IpAddr),
}

impl Whose {
    fn is(self, number: u64, link: &Link) -> bool {
        match self {
            Self::All => true,
            Self::One(one) => one == number,
            Self::From(address) => address == link.from,
        }
    }
}

/// A proxy; dropping it ends its connections.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    accepting: JoinHandle<()>,
}

struct Shared {
    target: SocketAddr,
    refuse: bool,
    /// Of connections to come: up and down.
    modes: [Mode; 2],
    /// Of those from these addresses.
    modes_from: BTreeMap<IpAddr, [Mode; 2]>,
    open: BTreeMap<u64, Link>,
    next: u64,
}

/// The controls of one connection.
struct Link {
    from: IpAddr,
    modes: [watch::Sender<Mode>; 2],
    pumps: [JoinHandle<()>; 2],
}

impl Drop for Link {
    fn drop(&mut self) {
        self.pumps.iter().for_each(JoinHandle::abort);
    }
}

impl Proxy {
    /// Listens on a free port and leads to `target`.
    pub async fn start(target: SocketAddr) -> Self {
        let listen = TcpListener::bind(("127.0.0.1", 0));
        let listener = RUNTIME.spawn(listen).await.unwrap().unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Mutex::new(Shared {
            target,
            refuse: false,
            modes: [Mode::Pass; 2],
            modes_from: BTreeMap::new(),
            open: BTreeMap::new(),
            next: 0,
        }));
        let accepting = RUNTIME.spawn(accept(listener, Arc::clone(&shared)));
        Self {
            address,
            shared,
            accepting,
        }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Changes one direction of connections.
    pub fn set(&self, whose: Whose, direction: Direction, mode: Mode) {
        let at = direction as usize;
        let mut shared = self.shared.lock().unwrap();
        match whose {
            Whose::All => {
                shared.modes[at] = mode;
                shared.modes_from.clear();
            }
            Whose::From(address) => {
                let modes = shared.modes;
                shared.modes_from.entry(address).or_insert(modes)[at] = mode;
            }
            Whose::One(_) => {}
        }
        for (number, link) in &shared.open {
            if whose.is(*number, link) {
                link.modes[at].send_replace(mode);
            }
        }
    }

    /// Changes both directions of all connections.
    pub fn set_all(&self, mode: Mode) {
        self.set(Whose::All, Direction::Up, mode);
        self.set(Whose::All, Direction::Down, mode);
    }

    /// Ends connections without a word; new ones are welcome.
    pub fn cut(&self, whose: Whose) {
        let open = &mut self.shared.lock().unwrap().open;
        open.retain(|number, link| !whose.is(*number, link));
    }

    /// Whether new connections are refused.
    pub fn refuse(&self, refuse: bool) {
        self.shared.lock().unwrap().refuse = refuse;
    }

    /// Where new connections lead.
    pub fn lead_to(&self, target: SocketAddr) {
        self.shared.lock().unwrap().target = target;
    }

    /// The numbers of the open connections.
    pub fn connections(&self) -> Vec<u64> {
        let mut shared = self.shared.lock().unwrap();
        shared.open.retain(|_, link| !link.is_over());
        shared.open.keys().copied().collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.shared.lock().unwrap().open.clear();
    }
}

impl Link {
    fn is_over(&self) -> bool {
        self.pumps.iter().all(JoinHandle::is_finished)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Mutex<Shared>>) {
    loop {
        let Ok((client, peer)) = listener.accept().await else {
            continue;
        };
        let (target, refuse) = {
            let shared = shared.lock().unwrap();
            (shared.target, shared.refuse)
        };
        if refuse {
            continue;
        }
        // A target on loopback answers or refuses at once, also one that is stopped.
        let Ok(server) = TcpStream::connect(target).await else {
            continue;
        };
        join(client, peer.ip(), server, &mut shared.lock().unwrap());
    }
}

/// Carries the bytes of a new connection, in the modes of the moment.
fn join(client: TcpStream, from: IpAddr, server: TcpStream, shared: &mut Shared) {
    for socket in [&client, &server] {
        socket.set_nodelay(true).unwrap();
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let modes = *shared.modes_from.get(&from).unwrap_or(&shared.modes);
    let [(up, see_up), (down, see_down)] = modes.map(watch::channel);
    let pumps = [
        tokio::spawn(pump(from_client, to_server, see_up)),
        tokio::spawn(pump(from_server, to_client, see_down)),
    ];
    let number = shared.next;
    shared.next += 1;
    shared.open.retain(|_, link| !link.is_over());
    let modes = [up, down];
    shared.open.insert(number, Link { from, modes, pumps });
}

/// One direction of one connection, to its end. A reader and a writer with a queue between: what
/// is delayed must not delay what comes after it.
async fn pump(mut from: OwnedReadHalf, to: OwnedWriteHalf, mode: watch::Receiver<Mode>) {
    let (queue, chunks) = mpsc::channel(CHUNKS_MAX);
    let read = async move {
        let mut buffer = vec![0; CHUNK_BYTES];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let chunk = (Instant::now(), buffer[..count].to_vec());
            if queue.send(chunk).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(read, write(to, chunks, mode));
}

/// Writes what was read, when the mode lets it.
async fn write(
    mut to: OwnedWriteHalf,
    mut chunks: mpsc::Receiver<(Instant, Vec<u8>)>,
    mut mode: watch::Receiver<Mode>,
) {
    while let Some((read_at, chunk)) = chunks.recv().await {
        let mut rest = &chunk[..];
        while !rest.is_empty() {
            let now = *mode.borrow_and_update();
            let count = match now {
                Mode::Pass => rest.len(),
                Mode::Trickle => {
                    tokio::time::sleep(TRICKLE_PAUSE).await;
                    1
                }
                Mode::Freeze => {
                    if mode.changed().await.is_err() {
                        return;
                    }
                    continue;
                }
                Mode::Delay(delay) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(read_at + delay) => rest.len(),
                        changed = mode.changed() => {
                            if changed.is_err() {
                                return;
                            }
                            continue;
                        }
                    }
                }
            };
            if to.write_all(&rest[..count]).await.is_err() {
                return;
            }
            rest = &rest[count..];
        }
    }
    // The other end is told, unless it is to know nothing.
    while *mode.borrow_and_update() == Mode::Freeze {
        if mode.changed().await.is_err() {
            return;
        }
    }
    let _gone = to.shutdown().await;
}
