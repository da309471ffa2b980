//! The nodes of a run: real gateways, feeds and sessions over the simulated Redis, in one thread.
//! Begins, stops and ends them as faults ask.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, OnceLock, Weak},
};

use parking_lot::Mutex;
use tidewire_protocol::Encoding;

use super::{
    cluster::Cluster,
    link::{Link, Weather},
    seams::Seams,
    world::World,
};
use crate::{
    broker::Announce,
    config::{self, ByteSize, Config, Sources},
    gateway::{Gateway, memory::Pipe, memory_socket, serve},
    node,
    tasks::Tasks,
    telemetry::metrics::Metrics,
};

/// Secret of the tokens of a run.
pub const SECRET: &str = "a secret of simulations, long enough for HS256";

/// What every node of a run is configured with. `log` keeps all, `few` little, `none` nothing;
/// `state` has keys, `thin` has keys and little history.
const CONFIG: &str = r#"
cluster_secret = "the secret of a cluster that is simulated, long enough"
[auth]
hmac_secret = "a secret of simulations, long enough for HS256"
[limits]
commands = "1000/s"
subscribes = "1000/s"
[namespaces.log]
history_size = 1000
max_rate = "1000/s"
allow = ["sub", "pub"]
[namespaces.few]
history_size = 6
max_rate = "1000/s"
allow = ["sub", "pub"]
[namespaces.none]
history_size = 0
max_rate = "1000/s"
allow = ["sub", "pub"]
[namespaces.state]
history_size = 1000
state = true
max_rate = "1000/s"
allow = ["sub", "pub"]
[namespaces.thin]
history_size = 4
state = true
max_rate = "1000/s"
allow = ["sub", "pub"]
"#;

/// Tails that hold next to nothing, so that readers live on pages.
const TIGHT: ByteSize = ByteSize::kib(1);

/// A configuration and its metrics, which all nodes of all runs share.
type Made = (Arc<Config>, Arc<Metrics>);

fn made(tight: bool) -> &'static Made {
    static MADE: [OnceLock<Made>; 2] = [OnceLock::new(), OnceLock::new()];
    MADE[usize::from(tight)].get_or_init(|| {
        let loaded = config::load(Sources {
            built_in: Some(("simulation", CONFIG)),
            ..Sources::default()
        });
        let mut config = loaded.unwrap().config;
        if tight {
            config.limits.tail_bytes = TIGHT;
            config.limits.tails_bytes = TIGHT;
        }
        let metrics = Metrics::new(&config.namespaces).unwrap();
        (Arc::new(config), Arc::new(metrics))
    })
}

/// One incarnation of a node.
#[derive(Debug, Clone)]
struct Running {
    link: Arc<Link>,
    gateway: Arc<Gateway>,
    tasks: Tasks,
}

#[derive(Debug, Default)]
struct Slot {
    running: Option<Running>,
    pipes: Vec<Weak<Pipe>>,
    is_paused: bool,
}

/// The nodes.
#[derive(Debug)]
pub struct Hub {
    pub world: Arc<World>,
    pub cluster: Arc<Mutex<Cluster>>,
    slots: Mutex<Vec<Slot>>,
    incarnations: Mutex<usize>,
    weather: Mutex<Weather>,
    is_tight: bool,
}

impl Hub {
    pub fn start(world: &Arc<World>, nodes: usize, weather: Weather, is_tight: bool) -> Arc<Self> {
        let hub = Arc::new(Self {
            world: Arc::clone(world),
            cluster: Arc::new(Mutex::new(Cluster::new(world.now_ms()))),
            slots: Mutex::new((0..nodes).map(|_| Slot::default()).collect()),
            incarnations: Mutex::new(0),
            weather: Mutex::new(weather),
            is_tight,
        });
        for node in 0..nodes {
            hub.begin(node);
        }
        hub
    }

    pub fn len(&self) -> usize {
        self.slots.lock().len()
    }

    /// Starts a node that does not run.
    pub fn begin(&self, node: usize) {
        if self.slots.lock()[node].running.is_some() {
            return;
        }
        let number = {
            let mut incarnations = self.incarnations.lock();
            *incarnations += 1;
            *incarnations
        };
        let (config, metrics) = made(self.is_tight);
        let tasks = Tasks::new();
        let mut link = None;
        let address = SocketAddr::from(([127, 0, 0, 1], 8080));
        let parts = (Arc::clone(metrics), &tasks);
        let assembled = node::assemble(config, address, parts, |_, name, logs| {
            let weather = *self.weather.lock();
            let made = Link::new(&self.world, &self.cluster, name.clone(), number, weather);
            made.start(Arc::clone(logs) as Arc<dyn Announce>);
            let seams = Arc::new(Seams(Arc::clone(&made)));
            link = Some(made);
            Ok(node::Seams {
                broker: Arc::clone(&seams) as _,
                store: seams,
                storage: None,
                alone: false,
            })
        });
        let running = Running {
            link: link.unwrap(),
            gateway: assembled.unwrap().0,
            tasks,
        };
        let mut slots = self.slots.lock();
        slots[node] = Slot {
            running: Some(running),
            ..Slot::default()
        };
    }

    fn running(&self, node: usize) -> Option<Running> {
        self.slots.lock()[node].running.clone()
    }

    pub fn link(&self, node: usize) -> Option<Arc<Link>> {
        self.running(node).map(|running| running.link)
    }

    pub fn is_up(&self, node: usize) -> bool {
        self.running(node).is_some()
    }

    pub fn set_weather(&self, weather: Weather) {
        *self.weather.lock() = weather;
        for node in 0..self.len() {
            if let Some(link) = self.link(node) {
                link.set_weather(weather);
            }
        }
    }

    /// A client's socket to a node. None: nobody listens there.
    pub fn connect(&self, node: usize, encoding: Encoding, holds: usize) -> Option<Arc<Pipe>> {
        let Running { gateway, .. } = self.running(node)?;
        let pipe = Pipe::new(holds);
        {
            let mut slots = self.slots.lock();
            pipe.hold(slots[node].is_paused);
            slots[node].pipes.push(Arc::downgrade(&pipe));
        }
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (place, refused) = match gateway.admission.admit(address) {
            Ok(place) => (place, None),
            Err(refusal) => {
                let retry_ms = gateway.admission.retry_ms(refusal);
                let place = gateway.admission.tell()?;
                (place, Some((refusal.code(), Some(retry_ms))))
            }
        };
        let opening = std::future::ready(Some((memory_socket(&pipe), Vec::new())));
        serve(gateway, opening, encoding, refused, place);
        Some(pipe)
    }

    /// The process stands still, or goes on.
    pub fn pause(&self, node: usize, paused: bool) {
        let mut slots = self.slots.lock();
        let slot = &mut slots[node];
        slot.is_paused = paused;
        for pipe in slot.pipes.iter().filter_map(Weak::upgrade) {
            pipe.hold(paused);
        }
        if let Some(running) = &slot.running {
            running.link.pause(paused);
        }
    }

    /// The process is gone, with all its sockets.
    pub fn kill(&self, node: usize) {
        let mut slots = self.slots.lock();
        let slot = std::mem::take(&mut slots[node]);
        drop(slots);
        if let Some(running) = slot.running {
            running.link.kill();
            running.tasks.stop();
        }
        for pipe in slot.pipes.iter().filter_map(Weak::upgrade) {
            pipe.break_off();
        }
    }

    /// The node leaves in good order, as far as it gets.
    pub async fn drain(&self, node: usize) {
        let Some(running) = self.running(node) else {
            return;
        };
        running.gateway.leave().await;
        self.kill(node);
    }
}
