//! Who may connect: counts against the node's and each address's limit, and the memory guard.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use dashmap::DashMap;
use parking_lot::Mutex;
use tidewire_protocol::CloseCode;

use super::pacer::Pacer;
use crate::{clock, config::Limits, random, session::Bucket, telemetry::labels::Rejection};

/// When clients come back whose address has its share, or whose node leaves, ms: spread, so that
/// they do not return together.
const RETRY_MS: std::ops::Range<u64> = 1_000..6_000;

/// Connections at a time that are told why they are refused: each lives for a round trip.
const TOLD_MAX: usize = 1024;

/// Why a connection was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The node holds as many as it may.
    Connections,
    /// The address holds as many as it may.
    Address,
    /// The node's memory is over its mark.
    Memory,
    /// More come at once than the node takes.
    Storm,
    /// The node is leaving.
    Draining,
}

impl Refusal {
    /// How it is counted.
    pub const fn label(self) -> Rejection {
        match self {
            Self::Connections => Rejection::Connections,
            Self::Address => Rejection::ConnectionsPerIp,
            Self::Memory => Rejection::Memory,
            Self::Storm => Rejection::Storm,
            Self::Draining => Rejection::Draining,
        }
    }

    /// What the client is told.
    pub const fn code(self) -> CloseCode {
        match self {
            Self::Connections | Self::Memory | Self::Storm => CloseCode::Overloaded,
            Self::Address => CloseCode::RateLimited,
            Self::Draining => CloseCode::Draining,
        }
    }
}

/// The counts.
#[derive(Debug)]
pub struct Admission {
    counts: Arc<Counts>,
    connections_max: usize,
    per_address_max: usize,
    handshakes: Mutex<Bucket>,
    pacer: Pacer,
    over_memory: AtomicBool,
    draining: AtomicBool,
}

#[derive(Debug, Default)]
struct Counts {
    connections: AtomicUsize,
    told: AtomicUsize,
    addresses: DashMap<IpAddr, usize>,
}

/// A place on the node, or one among those that are told why they have none; given back when
/// dropped.
#[derive(Debug)]
pub struct Place {
    counts: Arc<Counts>,
    /// Whose connection it is; none: it is only told.
    address: Option<IpAddr>,
}

impl Admission {
    pub fn new(limits: &Limits) -> Self {
        let size = |count: std::num::NonZeroU32| usize::try_from(count.get()).unwrap_or(usize::MAX);
        Self {
            counts: Arc::default(),
            connections_max: size(limits.connections),
            per_address_max: size(limits.connections_per_ip),
            handshakes: Mutex::new(Bucket::new(
                limits.handshakes.per_millisecond(),
                f64::from(limits.handshakes.count),
                clock::now_ms(),
            )),
            pacer: Pacer::new(limits.handshakes.per_millisecond()),
            over_memory: AtomicBool::new(false),
            draining: AtomicBool::new(false),
        }
    }

    /// Takes a place.
    ///
    /// # Errors
    /// Says which limit is reached; nothing is taken.
    pub fn admit(&self, address: IpAddr) -> Result<Place, Refusal> {
        if self.draining.load(Ordering::Relaxed) {
            return Err(Refusal::Draining);
        }
        if self.over_memory.load(Ordering::Relaxed) {
            return Err(Refusal::Memory);
        }
        if self.handshakes.lock().take(clock::now_ms()).is_err() {
            return Err(Refusal::Storm);
        }
        {
            let mut held = self.counts.addresses.entry(address).or_default();
            if *held >= self.per_address_max {
                return Err(Refusal::Address);
            }
            *held += 1;
        }
        let held = self.counts.connections.fetch_add(1, Ordering::Relaxed);
        let place = Place {
            counts: Arc::clone(&self.counts),
            address: Some(address),
        };
        if held >= self.connections_max {
            Err(Refusal::Connections)
        } else {
            Ok(place)
        }
    }

    /// When whoever was refused for this comes back, ms.
    pub fn retry_ms(&self, refusal: Refusal) -> u64 {
        match refusal {
            Refusal::Connections | Refusal::Memory | Refusal::Storm => self.pace_ms(),
            Refusal::Address | Refusal::Draining => {
                RETRY_MS.start + random::below(RETRY_MS.end - RETRY_MS.start)
            }
        }
    }

    /// When a client comes back that the node cannot serve now, ms: the more there are, the later.
    pub fn pace_ms(&self) -> u64 {
        self.pacer.book(clock::now_ms())
    }

    /// A place for a connection that was refused and is told so after the upgrade, since browsers
    /// hide what HTTP says. None: too many are being told.
    pub fn tell(&self) -> Option<Place> {
        let told = self.counts.told.fetch_add(1, Ordering::Relaxed);
        let place = Place {
            counts: Arc::clone(&self.counts),
            address: None,
        };
        (told < TOLD_MAX).then_some(place)
    }

    /// Whether the node leaves.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// How many places are taken.
    pub fn connections(&self) -> usize {
        self.counts.connections.load(Ordering::Relaxed)
    }

    /// Tells whether the node's memory is over its mark.
    pub fn set_over_memory(&self, over: bool) {
        self.over_memory.store(over, Ordering::Relaxed);
    }

    /// Whether the node's memory is over its mark.
    pub fn is_over_memory(&self) -> bool {
        self.over_memory.load(Ordering::Relaxed)
    }

    /// Whether new connections should go elsewhere.
    pub fn is_closed(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
            || self.over_memory.load(Ordering::Relaxed)
            || self.connections() >= self.connections_max
    }

    /// No connection is admitted from here on.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(address) = &self.address else {
            self.counts.told.fetch_sub(1, Ordering::Relaxed);
            return;
        };
        self.counts.connections.fetch_sub(1, Ordering::Relaxed);
        self.counts.addresses.remove_if_mut(address, |_, held| {
            *held = held.saturating_sub(1);
            *held == 0
        });
    }
}
