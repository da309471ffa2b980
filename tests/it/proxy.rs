//! A TCP proxy in front of a node, whose connections can be cut without a word.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::task::AbortOnDropHandle;

/// One address in front of another.
pub struct Proxy {
    address: SocketAddr,
    /// Raised to cut every connection there is.
    cut: watch::Sender<u64>,
    /// How many connections were accepted so far.
    accepted: watch::Receiver<u64>,
    _serving: AbortOnDropHandle<()>,
}

impl Proxy {
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let cut = watch::Sender::new(0);
        let (count, accepted) = watch::channel(0);
        let cuts = cut.clone();
        let serving = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                count.send_modify(|count| *count += 1);
                connections.spawn(carry(near, target, cuts.subscribe()));
            }
        });
        Self {
            address,
            cut,
            accepted,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Cuts every connection; new ones are taken.
    pub fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }

    /// Waits until so many connections were made in all.
    pub async fn accepted(&mut self, count: u64) {
        self.accepted
            .wait_for(|accepted| *accepted >= count)
            .await
            .unwrap();
    }
}

async fn carry(mut near: TcpStream, target: SocketAddr, mut cut: watch::Receiver<u64>) {
    cut.mark_unchanged();
    let Ok(mut far) = TcpStream::connect(target).await else {
        return;
    };
    tokio::select! {
        _ended = copy_bidirectional(&mut near, &mut far) => {}
        _cut = cut.changed() => {}
    }
}
