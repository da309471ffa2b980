//! Free ports on loopback, for processes that are killed and come back to their port.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::atomic::{AtomicU16, Ordering},
};

/// Below what the kernel gives outgoing connections, and below those of `tests/process`.
const FIRST: u16 = 10_000;
const COUNT: u16 = 9_000;
/// A member of a Redis Cluster listens there besides.
const BUS_OFFSET: u16 = 10_000;

/// A port nobody listens at; the same number above it is free for the bus of a Redis Cluster.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = u16::try_from(std::process::id() % u32::from(COUNT)).unwrap();
    let free = |port: u16| TcpListener::bind(local(port)).is_ok();
    (0..COUNT)
        .map(|_| FIRST + (own + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT)
        .find(|port| free(*port) && free(*port + BUS_OFFSET))
        .unwrap()
}

pub fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
