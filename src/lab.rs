//! Tests only: several nodes of one process on one broker and store.
//!
//! Honest in what a cluster adds to a single node: announcements reach every node, the store
//! remembers which node has a session, and each node can be cut off from both.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use tempfile::TempDir;
use tidewire_protocol::{
    ChannelName, Epoch, Name, TraceParent, command::Range, frame::Publication,
};
use tokio::sync::watch;

use crate::{
    broker::{
        Announce, BoxFuture, Broker, BrokerError, Head, HistoryPage, PageLimit, Publish, Published,
        StatePage, StateQuery,
    },
    storage::{Clock, EmbeddedStorage, Options},
    store::{CheckpointStore, Claimed, Fence, Held, SessionId, StoreError, Write},
};

/// One broker and store under several nodes.
#[derive(Debug)]
pub(crate) struct Cluster {
    shared: Arc<Shared>,
    _storage: EmbeddedStorage,
    _dir: TempDir,
}

#[derive(Debug)]
struct Shared {
    broker: Arc<dyn Broker>,
    store: Arc<dyn CheckpointStore>,
    nodes: Mutex<Vec<Arc<dyn Announce>>>,
    interest: Mutex<HashMap<ChannelName, BTreeSet<Name>>>,
    holders: Mutex<HashMap<SessionId, Name>>,
    losses: watch::Sender<u64>,
}

/// One node's way to the broker and the store.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    node: Name,
    shared: Arc<Shared>,
    cut: Arc<AtomicBool>,
}

impl Cluster {
    /// On the machine's clock.
    pub fn open() -> Self {
        Self::on(Clock::default())
    }

    /// On tokio's clock, so that leases end when a test moves it.
    pub fn on_test_clock() -> Self {
        let (base, begun) = (crate::clock::now_ms(), tokio::time::Instant::now());
        let now = move || base + u64::try_from(begun.elapsed().as_millis()).unwrap();
        Self::on(Clock(Arc::new(now)))
    }

    fn on(clock: Clock) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            clock,
            ..Options::default()
        };
        let opened = EmbeddedStorage::open(dir.path(), options).unwrap();
        let shared = Arc::new(Shared {
            broker: Arc::clone(&opened.broker) as _,
            store: opened.store,
            nodes: Mutex::default(),
            interest: Mutex::default(),
            holders: Mutex::default(),
            losses: watch::Sender::new(0),
        });
        opened
            .broker
            .announce_to(Arc::new(Fan(Arc::clone(&shared))));
        Self {
            shared,
            _storage: opened.storage,
            _dir: dir,
        }
    }

    /// The broker as nobody's.
    pub fn broker(&self) -> &dyn Broker {
        &*self.shared.broker
    }

    /// The way of a node; it hears nothing before `hears`.
    pub fn link(&self, node: &Name) -> Link {
        Link {
            node: node.clone(),
            shared: Arc::clone(&self.shared),
            cut: Arc::default(),
        }
    }

    /// The store may have forgotten claims.
    pub fn lose(&self) {
        self.shared.losses.send_modify(|count| *count += 1);
    }
}

impl Link {
    /// Announcements go there as well.
    pub fn hears(&self, logs: Arc<dyn Announce>) {
        self.shared.nodes.lock().push(logs);
    }

    /// Cuts the node off, or lets it on again.
    pub fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::SeqCst);
    }

    fn wants(&self, channels: &[ChannelName]) {
        let mut interest = self.shared.interest.lock();
        for channel in channels {
            let nodes = interest.entry(channel.clone()).or_default();
            nodes.insert(self.node.clone());
        }
    }

    fn up(&self) -> Result<(), BrokerError> {
        if self.cut.load(Ordering::SeqCst) {
            return Err(BrokerError::Unavailable);
        }
        Ok(())
    }

    fn store_up(&self) -> Result<(), StoreError> {
        self.up().map_err(|_cut| StoreError::Unavailable)
    }

    /// The node that has a session's connection, if it is another one.
    fn holder(&self, session: &SessionId) -> Option<Name> {
        let holder = self.shared.holders.lock().get(session).cloned();
        holder.filter(|holder| *holder != self.node)
    }
}

/// Announces to every node.
#[derive(Debug)]
struct Fan(Arc<Shared>);

impl Fan {
    fn each(&self, tell: impl Fn(&dyn Announce)) {
        for node in self.0.nodes.lock().iter() {
            tell(&**node);
        }
    }
}

impl Announce for Fan {
    fn append(&self, channel: &ChannelName, epoch: &Epoch, publication: &Arc<Publication>) {
        self.each(|node| node.append(channel, epoch, publication));
    }

    fn traced(&self, channel: &ChannelName, offset: u64, trace: TraceParent) {
        self.each(|node| node.traced(channel, offset, trace));
    }

    fn reset(&self, channel: &ChannelName, head: &Head) {
        self.each(|node| node.reset(channel, head));
    }

    fn blank(&self, channel: &ChannelName, offset: u64) {
        self.each(|node| node.blank(channel, offset));
    }

    fn flush(&self) {
        self.each(|node| node.flush());
    }

    fn doubt(&self, is_doubted: &dyn Fn(&ChannelName) -> bool) {
        self.each(|node| node.doubt(is_doubted));
    }

    fn reach(&self, lost_since_ms: Option<u64>) {
        self.each(|node| node.reach(lost_since_ms));
    }
}

impl Broker for Link {
    fn publish(&self, batch: Vec<Publish>) -> BoxFuture<'_, Vec<Result<Published, BrokerError>>> {
        match self.up() {
            Ok(()) => self.shared.broker.publish(batch),
            Err(error) => Box::pin(async move { vec![Err(error); batch.len()] }),
        }
    }

    fn follow<'a>(
        &'a self,
        channels: &'a [ChannelName],
    ) -> BoxFuture<'a, Result<Vec<Head>, BrokerError>> {
        Box::pin(async move {
            self.up()?;
            self.wants(channels);
            self.shared.broker.follow(channels).await
        })
    }

    fn heads<'a>(
        &'a self,
        channels: &'a [ChannelName],
    ) -> BoxFuture<'a, Result<Vec<Head>, BrokerError>> {
        Box::pin(async move {
            self.up()?;
            self.shared.broker.heads(channels).await
        })
    }

    fn unfollow(&self, channel: &ChannelName) {
        let mut interest = self.shared.interest.lock();
        if let Some(nodes) = interest.get_mut(channel) {
            nodes.remove(&self.node);
            if nodes.is_empty() {
                self.shared.broker.unfollow(channel);
            }
        }
    }

    fn history<'a>(
        &'a self,
        channel: &'a ChannelName,
        range: Range,
        limit: PageLimit,
    ) -> BoxFuture<'a, Result<HistoryPage, BrokerError>> {
        Box::pin(async move {
            self.up()?;
            self.shared.broker.history(channel, range, limit).await
        })
    }

    fn state<'a>(
        &'a self,
        channel: &'a ChannelName,
        query: StateQuery,
    ) -> BoxFuture<'a, Result<StatePage, BrokerError>> {
        Box::pin(async move {
            self.up()?;
            self.shared.broker.state(channel, query).await
        })
    }

    fn channels<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(ChannelName, Head)>, BrokerError>> {
        Box::pin(async move {
            self.up()?;
            self.shared.broker.channels(prefix, after, limit).await
        })
    }

    fn delete<'a>(&'a self, channel: &'a ChannelName) -> BoxFuture<'a, Result<Head, BrokerError>> {
        Box::pin(async move {
            self.up()?;
            self.shared.broker.delete(channel).await
        })
    }

    fn blank<'a>(
        &'a self,
        channel: &'a ChannelName,
        offset: u64,
    ) -> BoxFuture<'a, Result<(), BrokerError>> {
        Box::pin(async move {
            self.up()?;
            self.shared.broker.blank(channel, offset).await
        })
    }
}

impl CheckpointStore for Link {
    fn claim<'a>(
        &'a self,
        session: &'a SessionId,
        fence: Fence,
        ttl_ms: u64,
    ) -> BoxFuture<'a, Result<Option<Claimed>, StoreError>> {
        Box::pin(async move {
            self.store_up()?;
            let claimed = self.shared.store.claim(session, fence, ttl_ms).await?;
            let node = self.holder(session);
            if claimed.is_some() {
                let mut holders = self.shared.holders.lock();
                holders.insert(session.clone(), self.node.clone());
            }
            Ok(claimed.map(|claimed| Claimed { node, ..claimed }))
        })
    }

    fn write(&self, batch: Vec<Write>) -> BoxFuture<'_, Vec<Result<(), StoreError>>> {
        Box::pin(async move {
            if let Err(error) = self.store_up() {
                return vec![Err(error); batch.len()];
            }
            let results = self.shared.store.write(batch.clone()).await;
            for (write, result) in batch.into_iter().zip(&results) {
                let mut holders = self.shared.holders.lock();
                if result.is_ok() && write.connected {
                    holders.insert(write.session, self.node.clone());
                } else if result.is_ok() {
                    holders.remove(&write.session);
                }
            }
            results
        })
    }

    fn extend<'a>(
        &'a self,
        sessions: &'a [SessionId],
        ttl_ms: u64,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.store_up()?;
            self.shared.store.extend(sessions, ttl_ms).await
        })
    }

    fn remove<'a>(
        &'a self,
        session: &'a SessionId,
        fence: Fence,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.store_up()?;
            self.shared.store.remove(session, fence).await
        })
    }

    fn read<'a>(
        &'a self,
        session: &'a SessionId,
    ) -> BoxFuture<'a, Result<Option<Held>, StoreError>> {
        Box::pin(async move {
            self.store_up()?;
            let held = self.shared.store.read(session).await?;
            let node = self.holder(session);
            Ok(held.map(|held| Held { node, ..held }))
        })
    }

    fn losses(&self) -> watch::Receiver<u64> {
        self.shared.losses.subscribe()
    }
}
