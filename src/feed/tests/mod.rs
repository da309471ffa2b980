//! The node's logs in step with a real broker on a folder of its own. What the modules share: the
//! folder, a broker whose heads can be held back, and a reader that waits to be told.

mod attach;
mod pages;
mod repair;
mod sweep;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tempfile::TempDir;
use tidewire_protocol::{
    ChannelName, Encoding, Epoch, Payload, Position,
    command::{Mode, Range},
    frame::{Acknowledge, Publication},
};
use tokio::sync::{Notify, Semaphore};

use super::*;
use crate::{
    broker::{BoxFuture, HistoryPage, PageLimit, Publish, Published, Retention},
    channel::{Reader, View},
    config::Namespaces,
    storage::{EmbeddedStorage, Options},
    telemetry::{metrics::Metrics, spans::Tracer, tally::Tally},
};

/// The one time limit of every wait.
const PATIENCE: Duration = Duration::from_secs(20);
const SETTINGS: Settings = Settings {
    tails_bytes: 64 << 20,
    pages_bytes: 8 << 20,
    linger_ms: 1_000,
};
const VIEW: View = View {
    encoding: Encoding::Json,
    mode: Mode::Every,
};
const KEEPS: Retention = Retention {
    history_size: 100_000,
    history_ttl_ms: 3_600_000,
    state: false,
    state_keys: 0,
    state_ttl_ms: 0,
    tombstone_ttl_ms: 3_600_000,
    dedup_ttl_ms: 120_000,
    acknowledge: Acknowledge::Log,
};

/// The embedded broker, whose heads wait for permits on their way back; it may be out of reach,
/// or answer for another primary.
#[derive(Debug)]
struct Gated {
    broker: Arc<dyn Broker>,
    heads: Semaphore,
    follows: AtomicUsize,
    refuses: AtomicBool,
    is_away: AtomicBool,
    /// Times heads were asked for that nothing is followed with.
    asked: AtomicUsize,
    answers: Mutex<BTreeMap<ChannelName, Head>>,
}

impl Gated {
    /// From here on this is the channel's head.
    fn answer(&self, channel: &ChannelName, head: &Head) {
        self.answers.lock().insert(channel.clone(), head.clone());
    }
}

impl Broker for Gated {
    fn publish(&self, batch: Vec<Publish>) -> BoxFuture<'_, Vec<Result<Published, BrokerError>>> {
        self.broker.publish(batch)
    }

    fn heads<'a>(
        &'a self,
        channels: &'a [ChannelName],
    ) -> BoxFuture<'a, Result<Vec<Head>, BrokerError>> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            if self.is_away.load(Ordering::SeqCst) {
                return Err(BrokerError::Unavailable);
            }
            let mut heads = self.broker.heads(channels).await?;
            let answers = self.answers.lock();
            for (head, channel) in heads.iter_mut().zip(channels) {
                if let Some(answer) = answers.get(channel) {
                    *head = answer.clone();
                }
            }
            Ok(heads)
        })
    }

    fn follow<'a>(
        &'a self,
        channels: &'a [ChannelName],
    ) -> BoxFuture<'a, Result<Vec<Head>, BrokerError>> {
        Box::pin(async move {
            let heads = self.broker.follow(channels).await;
            self.follows.fetch_add(1, Ordering::SeqCst);
            self.heads.acquire().await.unwrap().forget();
            if self.refuses.load(Ordering::SeqCst) {
                return Err(BrokerError::Unavailable);
            }
            heads
        })
    }

    fn unfollow(&self, channel: &ChannelName) {
        self.broker.unfollow(channel);
    }

    fn history<'a>(
        &'a self,
        channel: &'a ChannelName,
        range: Range,
        limit: PageLimit,
    ) -> BoxFuture<'a, Result<HistoryPage, BrokerError>> {
        self.broker.history(channel, range, limit)
    }

    fn state<'a>(
        &'a self,
        channel: &'a ChannelName,
        query: StateQuery,
    ) -> BoxFuture<'a, Result<StatePage, BrokerError>> {
        self.broker.state(channel, query)
    }

    fn channels<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(ChannelName, Head)>, BrokerError>> {
        self.broker.channels(prefix, after, limit)
    }

    fn delete<'a>(&'a self, channel: &'a ChannelName) -> BoxFuture<'a, Result<Head, BrokerError>> {
        self.broker.delete(channel)
    }

    fn blank<'a>(
        &'a self,
        channel: &'a ChannelName,
        offset: u64,
    ) -> BoxFuture<'a, Result<(), BrokerError>> {
        self.broker.blank(channel, offset)
    }
}

/// A feed over a folder. Dropped in order: the storage closes before its folder goes.
struct Lab {
    feed: Feed,
    gate: Arc<Gated>,
    metrics: Arc<Metrics>,
    _storage: EmbeddedStorage,
    _dir: TempDir,
}

impl Lab {
    /// Heads come at once.
    fn open(settings: Settings) -> Self {
        let lab = Self::gated(settings);
        lab.gate.heads.add_permits(1 << 20);
        lab
    }

    /// Heads come when there are permits.
    fn gated(settings: Settings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let opened = EmbeddedStorage::open(dir.path(), Options::default()).unwrap();
        let metrics = Arc::new(Metrics::new(&Namespaces::default()).unwrap());
        let tasks = Tasks::new();
        let logs = Arc::new(Logs::new(
            settings,
            tasks.clone(),
            Arc::clone(&metrics),
            Tracer::default(),
        ));
        opened.broker.announce_to(Arc::clone(&logs) as _);
        let gate = Arc::new(Gated {
            broker: opened.broker,
            heads: Semaphore::new(0),
            follows: AtomicUsize::new(0),
            refuses: AtomicBool::new(false),
            is_away: AtomicBool::new(false),
            asked: AtomicUsize::new(0),
            answers: Mutex::default(),
        });
        Self {
            feed: Feed::new(Arc::clone(&gate) as _, logs, tasks),
            gate,
            metrics,
            _storage: opened.storage,
            _dir: dir,
        }
    }

    async fn attach(&self, name: &ChannelName) -> Result<Arc<Channel>, BrokerError> {
        let wanted = [(name.clone(), options(true))];
        let attached = self.feed.attach(&wanted).await.pop().unwrap();
        attached.map(|attached| attached.channel)
    }

    async fn publish(&self, name: &ChannelName, size: usize) -> u64 {
        self.publish_kept(name, size, KEEPS).await
    }

    async fn publish_kept(&self, name: &ChannelName, size: usize, retention: Retention) -> u64 {
        let publish = Publish {
            channel: name.clone(),
            retention,
            payload: Some(Payload::bytes(Bytes::from(vec![b'x'; size]))),
            key: None,
            event: None,
            id: None,
            publisher: Arc::from("t:"),
            by: None,
            delete: false,
            ttl_ms: None,
            guard: None,
            trace: None,
        };
        let mut published = self.gate.publish(vec![publish]).await;
        published.pop().unwrap().unwrap().position.offset
    }

    /// Waits until the broker was asked for heads to follow from this often.
    async fn followed(&self, times: usize) {
        let asked = async {
            while self.gate.follows.load(Ordering::SeqCst) < times {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, asked).await.unwrap();
    }

    /// Waits in steps of time, which may be paused.
    async fn until(&self, holds: impl Fn() -> bool) {
        let held = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, held).await.unwrap();
    }
}

fn publication(offset: u64) -> Publication {
    Publication {
        offset,
        ts: offset,
        payload: Some(Payload::bytes(Bytes::from_static(b"x"))),
        key: None,
        event: None,
        id: None,
        by: None,
        deleted: false,
        expires: None,
    }
}

fn name(text: &str) -> ChannelName {
    ChannelName::new(text).unwrap()
}

fn options(keeps_history: bool) -> ChannelOptions {
    ChannelOptions {
        counts: None,
        keeps_history,
        tail_bytes: 64 * 1024,
    }
}

/// A reader that waits to be told to read.
#[derive(Debug, Default)]
struct Waiting {
    queued: AtomicBool,
    told: Notify,
}

impl Reader for Waiting {
    fn mark(&self, _slot: u8) -> bool {
        !self.queued.swap(true, Ordering::AcqRel)
    }

    fn pull(self: Arc<Self>, _tally: &mut Tally<'_>) {
        self.queued.swap(false, Ordering::AcqRel);
        self.told.notify_one();
    }
}
