//! One connection for announcements, from a server to a node: in order, some time later, and with
//! the ways to lose.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tidewire_protocol::{ChannelName, Epoch, frame::Publication};
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use super::world::World;
use crate::broker::Head;

/// What travels on a lane.
#[derive(Debug)]
pub enum Item {
    Append {
        channel: ChannelName,
        epoch: Epoch,
        publication: Arc<Publication>,
    },
    Reset {
        channel: ChannelName,
        head: Head,
    },
    Blank {
        channel: ChannelName,
        offset: u64,
    },
    /// The answer that divides what was announced before from what comes.
    Heads(Vec<Head>, oneshot::Sender<Vec<Head>>),
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<(Instant, Item)>,
    /// Nothing arrives, and nobody is told.
    frozen: bool,
    /// The connection is gone.
    cut: bool,
    /// How many of the next announcements are lost or come twice.
    drop: u64,
    double: u64,
}

/// A lane.
#[derive(Debug)]
pub struct Lane {
    world: Arc<World>,
    state: Mutex<State>,
    arrived: Notify,
    /// Longest time an announcement takes, ms.
    delay_ms: u64,
}

impl Lane {
    pub fn new(world: &Arc<World>, delay_ms: u64) -> Arc<Self> {
        Arc::new(Self {
            world: Arc::clone(world),
            state: Mutex::default(),
            arrived: Notify::new(),
            delay_ms,
        })
    }

    /// The server sends.
    pub fn push(&self, item: Item) {
        let delay = self.world.draw(|random| random.millis(0, self.delay_ms));
        let mut state = self.state.lock();
        if state.frozen || state.cut {
            return;
        }
        let hint = !matches!(item, Item::Heads(..));
        if hint && state.drop > 0 {
            state.drop -= 1;
            self.world.saw("an announcement lost");
            return;
        }
        let due = Instant::now() + delay;
        let due = state.queue.back().map_or(due, |(last, _)| due.max(*last));
        if hint && state.double > 0 {
            state.double -= 1;
            self.world.saw("an announcement twice");
            if let Some(again) = item.again() {
                state.queue.push_back((due, again));
            }
        }
        state.queue.push_back((due, item));
        drop(state);
        self.arrived.notify_one();
    }

    /// Waits for what arrives and takes all that is there. None: the connection is gone.
    pub async fn take(&self) -> Option<Vec<Item>> {
        loop {
            let due = {
                let mut state = self.state.lock();
                if state.cut {
                    return None;
                }
                let now = Instant::now();
                let mut items = Vec::new();
                while state.queue.front().is_some_and(|(due, _)| *due <= now) {
                    items.extend(state.queue.pop_front().map(|(_, item)| item));
                }
                if !items.is_empty() {
                    return Some(items);
                }
                state.queue.front().map(|(due, _)| *due)
            };
            let far = Duration::from_secs(3600);
            let until = due.unwrap_or_else(|| Instant::now() + far);
            tokio::select! {
                biased;
                () = self.arrived.notified() => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    /// From here on everything is lost and nobody is told.
    pub fn freeze(&self) {
        let mut state = self.state.lock();
        state.frozen = true;
        state.queue.clear();
    }

    pub fn is_frozen(&self) -> bool {
        self.state.lock().frozen
    }

    pub fn is_cut(&self) -> bool {
        self.state.lock().cut
    }

    /// The connection ends; what was under way is lost.
    pub fn cut(&self) {
        let mut state = self.state.lock();
        state.cut = true;
        state.queue.clear();
        drop(state);
        self.arrived.notify_one();
    }

    /// Loses what is under way, as a buffer that is full does.
    pub fn overflow(&self) {
        let mut state = self.state.lock();
        state
            .queue
            .retain(|(_, item)| matches!(item, Item::Heads(..)));
    }

    /// No more faults.
    pub fn calm(&self) {
        let mut state = self.state.lock();
        (state.drop, state.double) = (0, 0);
    }

    pub fn drop_next(&self, count: u64) {
        self.state.lock().drop += count;
    }

    pub fn double_next(&self, count: u64) {
        self.state.lock().double += count;
    }
}

impl Item {
    fn again(&self) -> Option<Self> {
        match self {
            Self::Append {
                channel,
                epoch,
                publication,
            } => Some(Self::Append {
                channel: channel.clone(),
                epoch: epoch.clone(),
                publication: Arc::clone(publication),
            }),
            Self::Reset { .. } | Self::Blank { .. } | Self::Heads(..) => None,
        }
    }
}
