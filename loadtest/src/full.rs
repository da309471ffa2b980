//! Clients with the whole behaviour: the Rust client, whose network can be taken away.
//!
//! Used by the scenarios that are about coming back. What a client does then is the library's
//! own; only the socket under it is ours. It judges nothing: events go to the reader's seat.

use std::{
    io,
    net::Shutdown,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context, Result};
use parking_lot::Mutex;
use tidewire_client::{Client, Event, Message, Options, Payload, Status, Subscription};
use tokio::net::TcpStream;

use crate::{
    light::websocket::dial,
    message::Stamp,
    meter::count,
    stage::{Seat, Stage},
};

/// How long a client may take to be connected and to have caught up at first.
const OPEN_WITHIN: Duration = Duration::from_secs(60);

/// The network between one client and the hub.
#[derive(Debug, Default)]
pub struct Network {
    state: Mutex<Link>,
}

#[derive(Debug, Default)]
struct Link {
    down: bool,
    /// The living socket, held a second time.
    held: Option<std::net::TcpStream>,
}

impl Network {
    /// The connection breaks without a word, and none can be made.
    pub fn cut(&self) {
        let mut link = self.state.lock();
        link.down = true;
        if let Some(held) = link.held.take() {
            // It may have ended just before: then it is as cut as it can be.
            let _ended = held.shutdown(Shutdown::Both);
        }
    }

    /// Connections can be made again.
    pub fn restore(&self) {
        self.state.lock().down = false;
    }

    async fn connect(&self, address: String, number: usize) -> io::Result<TcpStream> {
        if self.state.lock().down {
            return Err(io::ErrorKind::NetworkUnreachable.into());
        }
        let to = tokio::net::lookup_host(&address).await?.next();
        let stream = dial(to.ok_or(io::ErrorKind::NotFound)?, number, None).await?;
        let stream = stream.into_std()?;
        let held = stream.try_clone()?;
        let mut link = self.state.lock();
        if link.down {
            return Err(io::ErrorKind::NetworkUnreachable.into());
        }
        link.held = Some(held);
        drop(link);
        TcpStream::from_std(stream)
    }
}

/// A client and its network.
#[derive(Debug, Clone)]
pub struct Full {
    /// The client.
    pub client: Client,
    /// What is between it and the hub.
    pub network: Arc<Network>,
}

impl Full {
    /// A client that connects at once, to the node of its number first.
    pub fn connect(stage: &Arc<Stage>, number: usize) -> Result<Self> {
        let network = Arc::new(Network::default());
        let under = Arc::clone(&network);
        let builder = builder(stage, number)?.dialer(move |address| {
            let under = Arc::clone(&under);
            async move { under.connect(address, number).await }
        });
        let client = builder.connect()?;
        stage.spawn(watch(Arc::clone(stage), client.clone()));
        Ok(Self { client, network })
    }

    /// Subscribes and waits until the reader has caught up; from then on what it is given goes to
    /// its seat, until the client is closed.
    pub async fn read(
        &self,
        seat: Seat,
        channel: &str,
        options: Options,
        single: Option<u32>,
    ) -> Result<()> {
        let mut subscription = self.client.subscribe(channel, options).await?;
        let stage = Arc::clone(&seat.stage);
        let mut reader = Reader { seat, single };
        tokio::time::timeout(OPEN_WITHIN, reader.until_live(&mut subscription))
            .await
            .with_context(|| format!("{channel} has not caught up"))?;
        stage.spawn(async move {
            while let Some(event) = subscription.next().await {
                reader.event(&event);
            }
        });
        Ok(())
    }
}

/// A client whose network nobody takes away.
pub fn plain(stage: &Arc<Stage>, number: usize) -> Result<Client> {
    Ok(builder(stage, number)?.connect()?)
}

fn builder(stage: &Arc<Stage>, number: usize) -> Result<tidewire_client::Builder> {
    let mut urls = stage.hub.sockets_for(number).into_iter();
    let first = urls.next().context("the hub has no address")?;
    let builder = urls.fold(Client::builder(first), tidewire_client::Builder::url);
    let builder = builder.sdk("tidewire-load");
    Ok(match stage.hub.token(&format!("user-{number}")) {
        Some(token) => builder.token(token),
        None => builder,
    })
}

/// Counts connections, losses and resumes of one client.
async fn watch(stage: Arc<Stage>, client: Client) {
    let mut status = client.status();
    // A handle would keep the client alive.
    drop(client);
    let (mut at, mut before): (Option<String>, bool) = (None, false);
    loop {
        let (is_at, resumed, ended) = {
            let status = status.borrow_and_update();
            match &*status {
                Status::Online(told) => (Some(told.node.clone()), told.resumed, false),
                Status::Closed | Status::Blocked(_) => (None, false, true),
                Status::Connecting | Status::Offline { .. } | Status::Suspended => {
                    (None, false, false)
                }
            }
        };
        let meter = &stage.meter;
        match (&at, &is_at) {
            (None, Some(_)) => {
                meter.connections.fetch_add(1, Ordering::Relaxed);
                if before {
                    count(if resumed {
                        &meter.resumes
                    } else {
                        &meter.forgotten
                    });
                }
                before = true;
            }
            (Some(_), None) => {
                meter.connections.fetch_sub(1, Ordering::Relaxed);
                if !ended {
                    count(&meter.lost_connections);
                }
            }
            (Some(there), Some(here)) => {
                if there != here {
                    count(&meter.moves);
                }
            }
            (None, None) => {}
        }
        at = is_at;
        if ended || status.changed().await.is_err() {
            return;
        }
    }
}

struct Reader {
    seat: Seat,
    /// The one stream of the channel, where there is one: its numbers are the offsets.
    single: Option<u32>,
}

impl Reader {
    async fn until_live(&mut self, subscription: &mut Subscription) {
        while let Some(event) = subscription.next().await {
            self.event(&event);
            if matches!(event, Event::Live { .. }) {
                return;
            }
        }
    }

    fn event(&mut self, event: &Event) {
        let stage = &self.seat.stage;
        match event {
            Event::Message(message) => {
                stage
                    .meter
                    .conflated
                    .fetch_add(message.skipped, Ordering::Relaxed);
                if let Some(stamp) = stamp(message) {
                    self.seat.heard(&[stamp]);
                }
            }
            Event::Fresh(position) => {
                if let Some(stream) = self.single {
                    self.seat.owe(stream, position.offset + 1);
                }
            }
            Event::Reset(_) | Event::Gap { .. } => count(&stage.meter.told_losses),
            Event::Rewind { lost, .. } => {
                if *lost > 0 {
                    count(&stage.meter.told_losses);
                }
            }
            Event::Refused { code, text } => {
                stage.fail(format!("a subscription is refused: {} {text}", code.name()));
            }
            Event::State { .. } | Event::Live { .. } | Event::Stale(_) => {}
        }
    }
}

fn stamp(message: &Message) -> Option<Stamp> {
    match &message.publication.payload {
        Some(Payload::Json(text)) => Stamp::read(text),
        Some(Payload::Bytes(_)) | None => None,
    }
}
