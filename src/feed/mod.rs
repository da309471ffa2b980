//! Keeps the node's logs in step with the broker.
//!
//! Owns which channels this node follows, their `Channel`s (it is their only writer), the
//! delivery of what was appended, and the pages of history that laggards share. Called by the
//! gateway and by the broker's announcements; it never knows sessions or sockets.

mod distrust;
mod doubts;
mod logs;
mod pages;
mod repair;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tidewire_protocol::ChannelName;
use tokio::sync::RwLock;

pub use self::logs::{Logs, Settings};
use self::{distrust::Distrust, logs::Slot, pages::Pages};
use crate::{
    broker::{Announce, Broker, BrokerError, Head, StatePage, StateQuery},
    channel::{Channel, ChannelOptions, Page, Settled},
    tasks::Tasks,
    telemetry::labels::RepairCause,
};

/// Most publications and bytes of one page read for a reader that is behind.
pub const PAGE_ITEMS: u64 = 128;

/// Times a head is asked for, when channels begin another life at that moment.
const FOLLOWS_MAX: usize = 4;

/// A channel that is read on this node.
#[derive(Clone, Debug)]
pub struct Attached {
    pub channel: Arc<Channel>,
    /// Where its log stood when this call began to follow it; none: it was followed before.
    pub cut: Option<Head>,
}

/// The node's view of the broker's logs; cheap to clone.
#[derive(Clone, Debug)]
pub struct Feed {
    broker: Arc<dyn Broker>,
    logs: Arc<Logs>,
    pages: Arc<Pages>,
    /// Read while interest is declared, written while it is withdrawn: a channel that is let go
    /// of and wanted again at once must end up followed.
    interest: Arc<RwLock<()>>,
    /// Channels whose heads were older than their logs.
    heads: Arc<Distrust>,
    /// Channels whose heads were older than a client's position.
    positions: Arc<Distrust>,
    tasks: Tasks,
}

impl Feed {
    /// A feed over `broker`, which must announce to `logs`.
    pub fn new(broker: Arc<dyn Broker>, logs: Arc<Logs>, tasks: Tasks) -> Self {
        let pages = Arc::new(Pages::new(logs.settings().pages_bytes));
        Self {
            broker,
            logs,
            pages,
            interest: Arc::default(),
            heads: Arc::default(),
            positions: Arc::default(),
            tasks,
        }
    }

    /// The broker behind it.
    pub fn broker(&self) -> &dyn Broker {
        &*self.broker
    }

    /// The broker, to be kept.
    pub fn broker_handle(&self) -> Arc<dyn Broker> {
        Arc::clone(&self.broker)
    }

    /// The channels of this node.
    pub fn logs(&self) -> &Logs {
        &self.logs
    }

    /// Makes channels readable on this node: declares interest where there was none, in one
    /// step for all, and shares the step with whoever asks for the same channel meanwhile.
    ///
    /// # Errors
    /// `Unavailable` for the channels whose head could not be read; others are not affected.
    pub async fn attach(
        &self,
        wanted: &[(ChannelName, ChannelOptions)],
    ) -> Vec<Result<Attached, BrokerError>> {
        let mut slots = Vec::with_capacity(wanted.len());
        let mut led = Vec::new();
        for (name, options) in wanted {
            let (slot, leads) = self.logs.slot(name, options);
            if leads {
                led.push(Arc::clone(&slot));
            }
            slots.push((slot, leads));
        }
        let follows = (!led.is_empty()).then(|| {
            let feed = self.clone();
            // A task of its own: a caller that goes away must not leave the others waiting.
            self.tasks.spawn(async move { feed.follow(&led).await })
        });
        let mut attached = Vec::with_capacity(slots.len());
        for (slot, _) in &slots {
            let channel = slot.live().await;
            attached.push(channel.map(|channel| Attached { channel, cut: None }));
        }
        if let Some(follows) = follows
            && attached.iter().all(Result::is_ok)
        {
            // A task that panicked answered nothing: the heads are read as of any channel.
            let cuts = follows.await.unwrap_or_default();
            let led = attached.iter_mut().zip(&slots).filter(|(_, slot)| slot.1);
            for ((attached, _), cut) in led.zip(cuts) {
                if let Ok(attached) = attached {
                    attached.cut = cut;
                }
            }
        }
        attached
    }

    /// Follows channels and makes them live; answers where each log was cut.
    async fn follow(&self, slots: &[Arc<Slot>]) -> Vec<Option<Head>> {
        let _no_unfollow_meanwhile = self.interest.read().await;
        let mut cuts = vec![None; slots.len()];
        let mut unsettled: Vec<_> = slots.iter().zip(&mut cuts).collect();
        let mut error = BrokerError::Unavailable;
        for _ in 0..FOLLOWS_MAX {
            let names: Vec<_> = unsettled
                .iter()
                .map(|(slot, _)| slot.channel().name().clone())
                .collect();
            match self.broker.follow(&names).await {
                Ok(heads) => {
                    let mut heads = heads.into_iter();
                    unsettled.retain_mut(|(slot, cut)| {
                        let head = heads.next().filter(|head| slot.cut(head));
                        **cut = head;
                        cut.is_none()
                    });
                }
                Err(refused) => {
                    error = refused;
                    break;
                }
            }
            if unsettled.is_empty() {
                break;
            }
        }
        for (slot, _) in unsettled {
            self.logs.remove(slot);
            slot.settle(Err(error.clone()));
        }
        cuts
    }

    /// The heads of followed channels, in one step. Logs that went on in another generation or
    /// life without this node's knowledge do so here, so that positions are judged by what there
    /// is.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn meet(&self, channels: &[Arc<Channel>]) -> Result<Vec<Head>, BrokerError> {
        if channels.is_empty() {
            return Ok(Vec::new());
        }
        let names: Vec<_> = channels
            .iter()
            .map(|channel| channel.name().clone())
            .collect();
        let known: Vec<_> = channels.iter().map(|channel| channel.version()).collect();
        let heads = self.broker.heads(&names).await?;
        for ((channel, (version, position)), head) in channels.iter().zip(known).zip(&heads) {
            // What only grew is on its way.
            let is_other = head.position.epoch != position.epoch;
            if is_other && self.settle(channel, head, version, RepairCause::Read) == Settled::Unsure
            {
                self.doubt(channel.name());
            }
        }
        self.logs.flush();
        Ok(heads)
    }

    /// The heads of channels as the broker knows them, in one step.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn heads(&self, channels: &[ChannelName]) -> Result<Vec<Head>, BrokerError> {
        self.broker.heads(channels).await
    }

    /// What was read for a client is of another log than the channel's: it is to be compared.
    pub fn doubt(&self, channel: &ChannelName) {
        let doubted = [channel.clone()];
        self.logs.doubts().add(doubted, RepairCause::Read);
    }

    /// A client knows a newer generation of a channel than the broker: the broker is asked again.
    /// True: until then the position is not to be judged.
    pub fn distrusts(&self, channel: &ChannelName, now_ms: u64) -> bool {
        let is_distrusted = self.positions.suspect(channel, now_ms);
        if is_distrusted {
            self.doubt(channel);
        }
        is_distrusted
    }

    /// The page of history a reader at `cursor` goes on with, shared by all who need it.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn page(&self, channel: &Channel, cursor: u64) -> Result<Arc<Page>, BrokerError> {
        self.pages.after(&*self.broker, channel, cursor).await
    }

    /// A page of keyed state.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn state(
        &self,
        channel: &ChannelName,
        query: StateQuery,
    ) -> Result<StatePage, BrokerError> {
        self.broker.state(channel, query).await
    }

    /// Drops what nobody reads: channels without readers after their linger, tails over the
    /// node's budget. Called once a second.
    pub async fn sweep(&self, now_ms: u64) {
        let _nobody_follows_meanwhile = self.interest.write().await;
        for channel in self.logs.sweep(now_ms) {
            self.broker.unfollow(channel.name());
        }
    }
}
