//! What passes between the handles of a client and its driver.
//!
//! Plain data, made by `Client`, `Builder` and `Subscription`.

use std::{
    io,
    sync::{Arc, atomic::AtomicI64},
};

use futures_util::future::BoxFuture;
use tidewire_protocol::{
    ChannelName, Encoding, Position,
    command::{Mode, Pub},
};
use tokio::{
    net::TcpStream,
    sync::{oneshot, watch},
};

use super::EventQueue;
use crate::{
    Error, Published, Status,
    core::{RawPage, Read, ReaderId, Wish},
};

/// Which certificates are trusted.
#[derive(Clone)]
pub(crate) enum Tls {
    /// Those of the web.
    Web,
    Configured(Arc<tokio_rustls::rustls::ClientConfig>),
}

/// Makes the TCP connection to `host:port`.
pub(crate) type Dialer =
    Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<TcpStream>> + Send + Sync>;

/// Where a node is and how it is spoken to.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) url: String,
    pub(crate) encoding: Encoding,
    pub(crate) tls: Tls,
    /// None: the plain way.
    pub(crate) dialer: Option<Dialer>,
}

/// A call of the application.
pub(crate) enum Call {
    Subscribe {
        channel: ChannelName,
        wish: Wish,
        reply: oneshot::Sender<Result<(ReaderId, Arc<EventQueue>), Error>>,
    },
    Change(ReaderId, Mode, Option<u32>),
    Publish {
        publication: Pub,
        queue_for_ms: Option<u64>,
        reply: oneshot::Sender<Result<Published, Error>>,
    },
    Read(Read, oneshot::Sender<Result<RawPage, Error>>),
    Positions(oneshot::Sender<Vec<(ChannelName, Position)>>),
    Wake,
    Suspend,
    /// Ends the client, and with `leave` the session too.
    Close {
        leave: bool,
        reply: oneshot::Sender<()>,
    },
}

/// What the driver tells handles of the client without being asked.
pub(crate) struct Shared {
    pub(crate) status: watch::Sender<Status>,
    /// The broker's clock minus this machine's, ms.
    pub(crate) clock_offset: AtomicI64,
}
