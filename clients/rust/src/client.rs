//! The handle of a client.
//!
//! Given to applications; every call goes to the driver's task. It holds no state of the session.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::SystemTime,
};

use tidewire_protocol::{ChannelName, Name, Position, frame::StateItem};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    Builder, Error, History, HistoryPage, Options, Publish, Published, Status, Subscription,
    core::{RawItems, RawPage, Read},
    driver::{Call, Shared},
};

/// Pages of a state that are read at most for one answer: a node's state is smaller.
const STATE_PAGES_MAX: usize = 4_096;
/// A state read again because the log began another life between two pages.
const STATE_TRIES: usize = 3;

/// One session with the hub, whatever becomes of its connections. Cheap to clone; all clones are
/// the same client.
#[derive(Clone)]
pub struct Client {
    calls: mpsc::Sender<Call>,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("status", &*self.shared.status.borrow())
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Begins a client of the node at this address: `wss://host`, `ws://`, or the same with
    /// `https` and `http`; the path `/v1/connect` is added where none is given.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder::new(url.into())
    }

    pub(crate) const fn new(calls: mpsc::Sender<Call>, shared: Arc<Shared>) -> Self {
        Self { calls, shared }
    }

    /// Subscribes to a channel, now or as soon as there is a connection. A refusal is an event of
    /// the subscription. Dropping it unsubscribes.
    ///
    /// # Errors
    /// The channel is no name, is subscribed to by this client already, or the session holds as
    /// many as it may; the client is closed or blocked.
    pub async fn subscribe(&self, channel: &str, options: Options) -> Result<Subscription, Error> {
        let channel = ChannelName::new(channel)?;
        let wish = options.wish()?;
        let (reply, answer) = oneshot::channel();
        let name = channel.clone();
        self.call(Call::Subscribe {
            channel,
            wish,
            reply,
        })
        .await?;
        let (id, queue) = answer.await.map_err(|_gone| self.over())??;
        Ok(Subscription::new(self.clone(), name, id, queue))
    }

    /// Publishes, and waits for the acknowledgement. Without a connection it waits in a bounded
    /// outbox; across connections it is sent again with the same id, so that it is applied once.
    ///
    /// Cancel-safe: once it was polled, dropping the future gives up the answer, not the
    /// publication.
    ///
    /// # Errors
    /// The node refused it, the outbox is full, or no acknowledgement came in its time.
    pub async fn publish(&self, channel: &str, publish: Publish) -> Result<Published, Error> {
        self.enqueue(channel, publish).await?.acknowledged().await
    }

    /// Puts a publication into the outbox and does not wait for the acknowledgement. Publications
    /// of one client are sent in the order in which they were put there.
    ///
    /// # Errors
    /// A name or the data is none; the client is closed or blocked.
    pub async fn enqueue(&self, channel: &str, publish: Publish) -> Result<Enqueued, Error> {
        let (publication, queue_for_ms) = publish.into_command(channel)?;
        let (reply, answer) = oneshot::channel();
        self.call(Call::Publish {
            publication,
            queue_for_ms,
            reply,
        })
        .await?;
        Ok(Enqueued {
            client: self.clone(),
            answer,
        })
    }

    /// One page of what the channel kept.
    ///
    /// # Errors
    /// The node refused it, no answer came within 30 s, or too many reads wait.
    pub async fn history(&self, channel: &str, history: History) -> Result<HistoryPage, Error> {
        let channel = ChannelName::new(channel)?;
        let page = self.read(history.read(channel)).await?;
        Ok(HistoryPage::new(&history, page))
    }

    /// The whole keyed state of a channel, removed keys among it, and the position it is of.
    ///
    /// # Errors
    /// As [`history`](Self::history).
    pub async fn state(&self, channel: &str) -> Result<(Vec<StateItem>, Position), Error> {
        let channel = ChannelName::new(channel)?;
        for _try in 1..STATE_TRIES {
            if let Some(state) = self.try_state(&channel).await? {
                return Ok(state);
            }
        }
        self.try_state(&channel).await?.ok_or(Error::Timeout)
    }

    /// None where the log began another life between two pages.
    async fn try_state(
        &self,
        channel: &ChannelName,
    ) -> Result<Option<(Vec<StateItem>, Position)>, Error> {
        // A key that changes between two pages is in both; its last item counts.
        let mut keys: BTreeMap<Option<Name>, StateItem> = BTreeMap::new();
        let mut head: Option<Position> = None;
        let mut from = 0;
        for _page in 0..STATE_PAGES_MAX {
            let channel = channel.clone();
            let page = self.read(Read::State { channel, from }).await?;
            if head
                .as_ref()
                .is_some_and(|head| head.epoch != page.head.epoch)
            {
                return Ok(None);
            }
            let items = match page.items {
                RawItems::State(items) => items,
                RawItems::History(_) => Vec::new(),
            };
            let last = items.last().map(|item| item.publication.offset);
            for item in items {
                keys.insert(item.publication.key.clone(), item);
            }
            let Some(last) = last.filter(|_| page.more) else {
                let mut items: Vec<StateItem> = keys.into_values().collect();
                items.sort_by_key(|item| item.publication.offset);
                return Ok(Some((items, page.head)));
            };
            from = last + 1;
            head = Some(page.head);
        }
        Ok(None)
    }

    async fn read(&self, read: Read) -> Result<RawPage, Error> {
        let (reply, answer) = oneshot::channel();
        self.call(Call::Read(read, reply)).await?;
        answer.await.map_err(|_gone| self.over())?
    }

    /// How the client stands, and every change of it.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.shared.status.subscribe()
    }

    /// Waits until the client is connected.
    ///
    /// # Errors
    /// It was closed, or is blocked.
    pub async fn online(&self) -> Result<(), Error> {
        let mut status = self.status();
        let there = |status: &Status| matches!(status, Status::Online(_)) || status.is_final();
        let found = status
            .wait_for(there)
            .await
            .map_err(|_gone| Error::Closed)?;
        match &*found {
            Status::Blocked(code) => Err(Error::Blocked(*code)),
            Status::Closed => Err(Error::Closed),
            Status::Online(_) | Status::Connecting | Status::Offline { .. } | Status::Suspended => {
                Ok(())
            }
        }
    }

    /// Up to where each subscription was handled: its reader asked for what comes after. To go on
    /// from there in another process, give them as [`Start::After`](crate::Start::After).
    ///
    /// # Errors
    /// The client is closed or blocked.
    pub async fn positions(&self) -> Result<Vec<(ChannelName, Position)>, Error> {
        let (reply, answer) = oneshot::channel();
        self.call(Call::Positions(reply)).await?;
        answer.await.map_err(|_gone| self.over())
    }

    /// Unix ms of the broker's clock, by which keys expire; this machine's before the first
    /// connection.
    #[must_use]
    pub fn broker_now_ms(&self) -> u64 {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = u64::try_from(now.unwrap_or_default().as_millis()).unwrap_or(u64::MAX);
        now.saturating_add_signed(self.shared.clock_offset.load(Ordering::Relaxed))
    }

    /// The machine woke, or the network changed: a connection that was silent has to show within
    /// 2 s that it lives, and a wait for the next try ends.
    ///
    /// # Errors
    /// The client is closed or blocked.
    pub async fn wake(&self) -> Result<(), Error> {
        self.call(Call::Wake).await
    }

    /// Ends the connection and keeps the session, until [`wake`](Self::wake).
    ///
    /// # Errors
    /// The client is closed or blocked.
    pub async fn suspend(&self) -> Result<(), Error> {
        self.call(Call::Suspend).await
    }

    /// Ends the client; the node keeps the session for its time. Returns when the connection is
    /// closed, within some seconds. What waits for an answer fails with [`Error::Closed`].
    pub async fn close(self) {
        self.finish(false).await;
    }

    /// Ends the client and its session: nothing is left to resume, presence ends at once.
    pub async fn leave(self) {
        self.finish(true).await;
    }

    async fn finish(self, leave: bool) {
        let (reply, ended) = oneshot::channel();
        if self.call(Call::Close { leave, reply }).await.is_ok() {
            // The driver answers by dropping it.
            let _ended = ended.await;
        }
    }

    pub(crate) async fn call(&self, call: Call) -> Result<(), Error> {
        self.calls.send(call).await.map_err(|_gone| self.over())
    }

    /// Why nothing is answered.
    pub(crate) fn over(&self) -> Error {
        match &*self.shared.status.borrow() {
            Status::Blocked(code) => Error::Blocked(*code),
            Status::Closed
            | Status::Connecting
            | Status::Online(_)
            | Status::Offline { .. }
            | Status::Suspended => Error::Closed,
        }
    }
}

/// A publication in the outbox.
#[derive(Debug)]
#[must_use = "whether it was published is known only by waiting for it"]
pub struct Enqueued {
    client: Client,
    answer: oneshot::Receiver<Result<Published, Error>>,
}

impl Enqueued {
    /// Waits for the acknowledgement.
    ///
    /// # Errors
    /// As [`Client::publish`].
    pub async fn acknowledged(self) -> Result<Published, Error> {
        let Self { client, answer } = self;
        answer.await.map_err(|_gone| client.over())?
    }
}
