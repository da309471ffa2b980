//! One node's connections to the simulated Redis: where they lead, whether they work, and what
//! the node is told. The seams (`seams`) are calls through it; faults break it.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::Mutex;
use tidewire_protocol::{ChannelName, Name};
use tokio::sync::{Notify, oneshot, watch};

use super::{
    cluster::{Cluster, Down, LaneId, ServerId},
    lane::{Item, Lane},
    world::World,
};
use crate::broker::{Announce, Head};

/// Lanes of a node.
pub const LANES: usize = 2;
/// How often a connection looks whether its server is still the primary.
const LOOK: Duration = Duration::from_millis(500);
/// After this long without its canary a lane is built again.
const CANARY: Duration = Duration::from_secs(3);
/// A call that is not answered ends after this.
const DEADLINE: Duration = Duration::from_millis(500);

/// How often calls go wrong, in a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    /// The question is lost: nothing is applied.
    pub lost_calls: u64,
    /// The answer is lost: it is applied, and nobody knows.
    pub lost_answers: u64,
    /// Longest way of a call or an answer, ms.
    pub delay_ms: u64,
    /// Longest way of an announcement, ms.
    pub announcement_ms: u64,
}

#[derive(Debug)]
struct State {
    weather: Weather,
    server: ServerId,
    /// Does not notice that its server is no primary any more, until then (ms).
    blind_until_ms: u64,
    followed: BTreeSet<ChannelName>,
    lanes: [Arc<Lane>; LANES],
    is_paused: bool,
    is_dead: bool,
    lost_since_ms: Option<u64>,
}

/// The connections of one incarnation of a node.
#[derive(Debug)]
pub struct Link {
    pub world: Arc<World>,
    pub cluster: Arc<Mutex<Cluster>>,
    pub node: Name,
    /// The incarnation: never used again.
    number: usize,
    state: Mutex<State>,
    resumed: Notify,
    announce: OnceLock<Arc<dyn Announce>>,
    losses: watch::Sender<u64>,
}

impl Link {
    pub fn new(
        world: &Arc<World>,
        cluster: &Arc<Mutex<Cluster>>,
        node: Name,
        number: usize,
        weather: Weather,
    ) -> Arc<Self> {
        let lane = || Lane::new(world, weather.announcement_ms);
        Arc::new(Self {
            world: Arc::clone(world),
            cluster: Arc::clone(cluster),
            node,
            number,
            state: Mutex::new(State {
                weather,
                server: cluster.lock().primary(),
                blind_until_ms: 0,
                followed: BTreeSet::new(),
                lanes: [lane(), lane()],
                is_paused: false,
                is_dead: false,
                lost_since_ms: None,
            }),
            resumed: Notify::new(),
            announce: OnceLock::new(),
            losses: watch::Sender::new(0),
        })
    }

    /// Begins to tell the node what is announced.
    pub fn start(self: &Arc<Self>, announce: Arc<dyn Announce>) {
        self.announce.set(announce).unwrap();
        for lane in 0..LANES {
            let link = Arc::clone(self);
            tokio::spawn(async move { link.run_lane(lane).await });
        }
        let link = Arc::clone(self);
        tokio::spawn(async move { link.look().await });
    }

    fn announce(&self) -> &dyn Announce {
        &**self.announce.get().unwrap()
    }

    pub fn losses(&self) -> watch::Receiver<u64> {
        self.losses.subscribe()
    }

    pub fn lane_of(channel: &ChannelName) -> usize {
        usize::try_from(super::world::hash_of(&channel.as_str()) % LANES as u64).unwrap()
    }

    const fn lane_id(&self, lane: usize) -> LaneId {
        (self.number, lane)
    }

    pub fn lane(&self, lane: usize) -> Arc<Lane> {
        Arc::clone(&self.state.lock().lanes[lane])
    }

    /// Waits while the process stands still; for ever once it was killed.
    pub async fn gate(&self) {
        loop {
            let resumed = self.resumed.notified();
            tokio::pin!(resumed);
            resumed.as_mut().enable();
            {
                let state = self.state.lock();
                if !state.is_dead && !state.is_paused {
                    return;
                }
            }
            resumed.await;
        }
    }

    pub fn pause(&self, paused: bool) {
        self.state.lock().is_paused = paused;
        self.resumed.notify_waiters();
    }

    pub fn kill(&self) {
        self.state.lock().is_dead = true;
        for lane in 0..LANES {
            self.cluster.lock().hang_up(self.lane_id(lane));
            self.lane(lane).cut();
        }
    }

    pub fn set_weather(&self, weather: Weather) {
        self.state.lock().weather = weather;
    }

    /// Does not look for another primary for this long.
    pub fn blind(&self, until_ms: u64) {
        self.state.lock().blind_until_ms = until_ms;
    }

    pub fn follow(&self, channel: &ChannelName) {
        self.state.lock().followed.insert(channel.clone());
    }

    pub fn unfollow(&self, channel: &ChannelName) {
        self.state.lock().followed.remove(channel);
        let id = self.lane_id(Self::lane_of(channel));
        self.cluster.lock().unlisten(id, channel);
    }

    /// One call to the server this node is connected to: some time there, `run`, some time back.
    ///
    /// # Errors
    /// It cannot be reached, or the call or its answer was lost.
    pub async fn call<T>(
        &self,
        run: impl FnOnce(&mut Cluster, ServerId, u64) -> Result<T, Down>,
    ) -> Result<T, Down> {
        self.gate().await;
        let weather = self.state.lock().weather;
        let (there, back, is_lost, is_unanswered) = self.world.draw(|random| {
            (
                random.millis(0, weather.delay_ms),
                random.millis(0, weather.delay_ms),
                random.chance(weather.lost_calls),
                random.chance(weather.lost_answers),
            )
        });
        tokio::time::sleep(there).await;
        if is_lost {
            tokio::time::sleep(DEADLINE).await;
            self.gate().await;
            return Err(Down);
        }
        let done = {
            let server = self.state.lock().server;
            let mut cluster = self.cluster.lock();
            run(&mut cluster, server, self.world.now_ms())
        };
        if is_unanswered {
            self.world.saw("an answer of the broker lost");
            tokio::time::sleep(DEADLINE).await;
            self.gate().await;
            return Err(Down);
        }
        tokio::time::sleep(back).await;
        self.gate().await;
        done
    }

    /// Subscribes on a lane and reads the heads there: the exact cut.
    pub async fn subscribe(&self, lane: usize, channels: &[ChannelName]) -> Option<Vec<Head>> {
        self.gate().await;
        let there = self.state.lock().weather.delay_ms;
        tokio::time::sleep(self.world.millis(0, there)).await;
        let (sender, receiver) = oneshot::channel();
        {
            let now_ms = self.world.now_ms();
            let (server, held) = {
                let state = self.state.lock();
                (state.server, Arc::clone(&state.lanes[lane]))
            };
            if held.is_cut() || held.is_frozen() {
                return None;
            }
            let mut cluster = self.cluster.lock();
            let id = self.lane_id(lane);
            cluster
                .listen(server, id, &held, channels.iter().cloned())
                .ok()?;
            let data = cluster.data(server, now_ms).ok()?;
            let heads = channels.iter().map(|name| data.head(name)).collect();
            held.push(Item::Heads(heads, sender));
        }
        let answered = tokio::time::timeout(4 * DEADLINE, receiver).await;
        self.gate().await;
        answered.ok()?.ok()
    }

    async fn run_lane(self: Arc<Self>, lane: usize) {
        loop {
            let held = self.lane(lane);
            while let Some(items) = held.take().await {
                self.gate().await;
                for item in items {
                    self.deliver(item);
                }
                self.announce().flush();
            }
            self.gate().await;
            self.rebuild(lane).await;
        }
    }

    fn deliver(&self, item: Item) {
        match item {
            Item::Append {
                channel,
                epoch,
                publication,
            } => self.announce().append(&channel, &epoch, &publication),
            Item::Reset { channel, head } => self.announce().reset(&channel, &head),
            Item::Blank { channel, offset } => self.announce().blank(&channel, offset),
            // Whoever asked may have given up.
            Item::Heads(heads, asker) => drop(asker.send(heads)),
        }
    }

    /// Makes a lane's connection again, and lets the node doubt what it was told.
    async fn rebuild(&self, lane: usize) {
        self.cluster.lock().hang_up(self.lane_id(lane));
        loop {
            tokio::time::sleep(self.world.millis(1, 60)).await;
            self.gate().await;
            let announcement_ms = self.state.lock().weather.announcement_ms;
            let (server, channels, built) = {
                let mut state = self.state.lock();
                state.lanes[lane] = Lane::new(&self.world, announcement_ms);
                let mine = |channel: &&ChannelName| Self::lane_of(channel) == lane;
                let channels: Vec<_> = state.followed.iter().filter(mine).cloned().collect();
                (state.server, channels, Arc::clone(&state.lanes[lane]))
            };
            let listening =
                self.cluster
                    .lock()
                    .listen(server, self.lane_id(lane), &built, channels);
            if listening.is_ok() {
                break;
            }
            tokio::time::sleep(self.world.millis(50, 250)).await;
        }
        self.world.saw("a lane built again");
        tokio::time::sleep(self.world.millis(0, 5)).await;
        self.gate().await;
        self.doubt(lane);
    }

    /// Tells the node that announcements of a lane may be missing.
    pub fn doubt(&self, lane: usize) {
        self.announce()
            .doubt(&|channel| Self::lane_of(channel) == lane);
    }

    /// Looks again and again whether the server is the primary, and whether lanes are whole.
    async fn look(self: Arc<Self>) {
        let mut frozen_for = [Duration::ZERO; LANES];
        loop {
            tokio::time::sleep(LOOK).await;
            self.gate().await;
            self.look_at_server();
            for (lane, frozen_for) in frozen_for.iter_mut().enumerate() {
                let held = self.lane(lane);
                *frozen_for = if held.is_frozen() {
                    *frozen_for + LOOK
                } else {
                    Duration::ZERO
                };
                if *frozen_for >= CANARY {
                    self.world.saw("a lane cut by its canary");
                    held.cut();
                }
            }
        }
    }

    fn look_at_server(&self) {
        let now_ms = self.world.now_ms();
        let (primary, is_up) = {
            let cluster = self.cluster.lock();
            let server = self.state.lock().server;
            (cluster.primary(), cluster.is_up(server))
        };
        let mut state = self.state.lock();
        let is_left = state.server != primary;
        if is_left && (now_ms >= state.blind_until_ms) {
            state.server = primary;
            let lanes = state.lanes.clone();
            let was_lost = state.lost_since_ms.take();
            drop(state);
            self.world
                .note(|| format!("node {} goes to server {primary}", self.number));
            for lane in lanes {
                lane.cut();
            }
            self.losses.send_modify(|losses| *losses += 1);
            self.announce().doubt(&|_every| true);
            if was_lost.is_some() {
                self.announce().reach(None);
            }
        } else if !is_up && state.lost_since_ms.is_none() {
            state.lost_since_ms = Some(now_ms);
            let lanes = state.lanes.clone();
            drop(state);
            for lane in lanes {
                lane.cut();
            }
            self.world.saw("the broker out of reach");
            self.announce().reach(Some(now_ms));
        }
    }
}
