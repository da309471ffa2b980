//! Who may connect: counts against the node's and each address's limit, and the memory guard.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use dashmap::DashMap;

use crate::{config::Limits, random, telemetry::labels::Rejection};

/// When clients that were refused come back: spread, so that they do not return together.
const RETRY_MS: std::ops::Range<u64> = 1_000..6_000;

/// Why a connection was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The node holds as many as it may.
    Connections,
    /// The address holds as many as it may.
    Address,
    /// The node's memory is over its mark.
    Memory,
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
            Self::Draining => Rejection::Draining,
        }
    }

    /// When to come back, ms.
    pub fn retry_ms() -> u64 {
        RETRY_MS.start + random::below(RETRY_MS.end - RETRY_MS.start)
    }
}

/// The counts.
#[derive(Debug)]
pub struct Admission {
    counts: Arc<Counts>,
    connections_max: usize,
    per_address_max: usize,
    over_memory: AtomicBool,
    draining: AtomicBool,
}

#[derive(Debug, Default)]
struct Counts {
    connections: AtomicUsize,
    addresses: DashMap<IpAddr, usize>,
}

/// A place on the node; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    counts: Arc<Counts>,
    address: IpAddr,
}

impl Admission {
    pub fn new(limits: &Limits) -> Self {
        let size = |count: std::num::NonZeroU32| usize::try_from(count.get()).unwrap_or(usize::MAX);
        Self {
            counts: Arc::default(),
            connections_max: size(limits.connections),
            per_address_max: size(limits.connections_per_ip),
            over_memory: AtomicBool::new(false),
            draining: AtomicBool::new(false),
        }
    }

    /// Takes a place.
    ///
    /// # Errors
    /// Says which limit is reached; nothing is taken.
    pub fn admit(&self, address: IpAddr) -> Result<Permit, Refusal> {
        if self.draining.load(Ordering::Relaxed) {
            return Err(Refusal::Draining);
        }
        if self.over_memory.load(Ordering::Relaxed) {
            return Err(Refusal::Memory);
        }
        {
            let mut held = self.counts.addresses.entry(address).or_default();
            if *held >= self.per_address_max {
                return Err(Refusal::Address);
            }
            *held += 1;
        }
        let held = self.counts.connections.fetch_add(1, Ordering::Relaxed);
        let permit = Permit {
            counts: Arc::clone(&self.counts),
            address,
        };
        if held >= self.connections_max {
            Err(Refusal::Connections)
        } else {
            Ok(permit)
        }
    }

    /// How many places are taken.
    pub fn connections(&self) -> usize {
        self.counts.connections.load(Ordering::Relaxed)
    }

    /// Tells whether the node's memory is over its mark.
    pub fn set_over_memory(&self, over: bool) {
        self.over_memory.store(over, Ordering::Relaxed);
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

impl Drop for Permit {
    fn drop(&mut self) {
        self.counts.connections.fetch_sub(1, Ordering::Relaxed);
        self.counts
            .addresses
            .remove_if_mut(&self.address, |_, held| {
                *held = held.saturating_sub(1);
                *held == 0
            });
    }
}
