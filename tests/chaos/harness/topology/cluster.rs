//! A Redis Cluster of three primaries with a replica each: failover and a slot moved key by key.

use std::{net::Ipv4Addr, path::Path, time::Duration};

use super::{Topology, server::Server};
use crate::harness::{
    ask::{ask, info, until},
    ports::local,
    proxy::{Direction, Mode, Proxy, Whose},
};

const PRIMARIES: usize = 3;
const SLOTS: usize = 16_384;
/// For gossip, elections and first copies.
const PATIENCE: Duration = Duration::from_secs(80);
/// The bus of a member listens at its port and this.
const BUS_OFFSET: u16 = 10_000;
/// Keys moved in one step; few, so that a slot is half here and half there for a while.
const KEYS_AT_ONCE: usize = 2;

/// Where a member connects from, so that the buses of the others know it.
fn source(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, u8::try_from(number + 1).unwrap())
}

/// Six servers as one cluster, and the proxy before the bus of each: number `n + 3` follows
/// number `n`.
pub async fn start(root: &Path) -> (Vec<Server>, Vec<Proxy>) {
    let (mut servers, mut buses) = (Vec::new(), Vec::new());
    for number in 0..2 * PRIMARIES {
        let bus = Proxy::start(local(0)).await;
        let (announced, from) = (bus.port().to_string(), source(number).to_string());
        let options = [
            &["--cluster-enabled", "yes"][..],
            &["--cluster-node-timeout", "2000", "--appendonly", "yes"],
            &["--cluster-config-file", "nodes.conf"],
            &["--cluster-announce-bus-port", &announced],
            &["--cluster-announce-ip", "127.0.0.1"],
            // Or only 127.0.0.1 itself might ask for a copy.
            &["--bind-source-addr", &from, "--protected-mode", "no"],
        ]
        .concat();
        let server = Server::start(root, &format!("redis-{number}"), &options).await;
        bus.lead_to(local(server.port + BUS_OFFSET));
        servers.push(server);
        buses.push(bus);
    }
    join(&servers, &buses).await;
    (servers, buses)
}

/// Makes one cluster of them, and waits until it is whole.
async fn join(servers: &[Server], buses: &[Proxy]) {
    let (first, bus) = (servers[0].port.to_string(), buses[0].port().to_string());
    for (number, server) in servers.iter().enumerate() {
        if number > 0 {
            let words = ["CLUSTER", "MEET", "127.0.0.1", &first, &bus];
            server.must(&words).await;
        }
        if number < PRIMARIES {
            let begin = (number * SLOTS / PRIMARIES).to_string();
            let end = ((number + 1) * SLOTS / PRIMARIES - 1).to_string();
            server
                .must(&["CLUSTER", "ADDSLOTSRANGE", &begin, &end])
                .await;
        }
    }
    for server in servers {
        let port = server.port;
        until("everybody knows everybody", PATIENCE, || async move {
            field(port, "cluster_known_nodes").await.as_deref() == Some("6")
                && field(port, "cluster_state").await.as_deref() == Some("ok")
        })
        .await;
    }
    for number in 0..PRIMARIES {
        let id = id_of(servers[number].port).await;
        let replica = &servers[number + PRIMARIES];
        replica.must(&["CLUSTER", "REPLICATE", &id]).await;
    }
    for server in servers {
        // A replica is listed among the slots only once its primary has heard from it.
        let port = server.port;
        until("everybody sees the replicas", PATIENCE, || async move {
            replicas_seen(port).await == PRIMARIES
        })
        .await;
    }
}

/// One value of `CLUSTER INFO`.
async fn field(port: u16, name: &str) -> Option<String> {
    let text: String = ask(port, &["CLUSTER", "INFO"]).await.ok()?;
    text.lines().find_map(|line| {
        let (key, value) = line.trim().split_once(':')?;
        (key == name).then(|| value.to_owned())
    })
}

async fn id_of(port: u16) -> String {
    ask(port, &["CLUSTER", "MYID"]).await.unwrap()
}

/// Replicas in the slot table, each with its link up.
async fn replicas_seen(port: u16) -> usize {
    let shards: redis::Value = match ask(port, &["CLUSTER", "SHARDS"]).await {
        Ok(shards) => shards,
        Err(_) => return 0,
    };
    let text = format!("{shards:?}");
    text.matches("replica'").count() + text.matches("\"replica\"").count()
}

impl Topology {
    /// The number of the server that holds a slot, as it says itself.
    pub async fn owner(&self, slot: u16) -> usize {
        for (number, server) in self.servers.iter().enumerate() {
            let nodes: String = ask(server.port, &["CLUSTER", "NODES"])
                .await
                .unwrap_or_default();
            let mine = nodes.lines().find(|line| line.contains("myself"));
            if mine.is_some_and(|line| line.contains("master") && holds(line, slot)) {
                return number;
            }
        }
        panic!("nobody holds slot {slot}");
    }

    /// A replica takes the place of its primary: gracefully, or `FORCE` or `TAKEOVER`. Answers the
    /// number of the new primary.
    pub async fn fail_over(&self, primary: usize, how: Option<&str>) -> usize {
        let replica = self.follower_of(primary).await;
        let words: Vec<&str> = ["CLUSTER", "FAILOVER"].into_iter().chain(how).collect();
        self.servers[replica].must(&words).await;
        self.becomes_primary(replica).await;
        replica
    }

    /// Lets nothing pass between a member's bus and those of the others; its clients reach it.
    pub fn isolate(&self, member: usize, alone: bool) {
        let mode = if alone { Mode::Freeze } else { Mode::Pass };
        for (number, bus) in self.buses.iter().enumerate() {
            let whose = if number == member {
                Whose::All
            } else {
                Whose::From(source(member).into())
            };
            bus.set(whose, Direction::Up, mode);
            bus.set(whose, Direction::Down, mode);
        }
    }

    /// Waits until a server is a primary.
    pub async fn becomes_primary(&self, number: usize) {
        until("the replica takes over", PATIENCE, || {
            self.is_primary(number)
        })
        .await;
    }

    /// The numbers of the primaries.
    pub async fn primaries(&self) -> Vec<usize> {
        let mut found = Vec::new();
        for number in 0..self.servers.len() {
            if self.is_primary(number).await {
                found.push(number);
            }
        }
        found
    }

    /// Waits until every primary has its replica again, as everybody sees it.
    pub async fn is_whole(&self) {
        for server in &self.servers {
            let port = server.port;
            until("the cluster is whole", PATIENCE, || async move {
                replicas_seen(port).await == PRIMARIES
            })
            .await;
        }
    }

    /// The slot in which the keys of a channel are.
    pub async fn slot_of(&self, channel: &str) -> u16 {
        let pattern = format!("*{channel}*");
        for number in self.primaries().await {
            let server = &self.servers[number];
            let keys: Vec<String> = ask(server.port, &["KEYS", &pattern]).await.unwrap();
            if let Some(key) = keys.first() {
                return ask(server.port, &["CLUSTER", "KEYSLOT", key])
                    .await
                    .unwrap();
            }
        }
        panic!("no server has a key of {channel}");
    }

    /// The number of the server that follows this primary.
    pub async fn follower_of(&self, primary: usize) -> usize {
        let id = id_of(self.servers[primary].port).await;
        for (number, server) in self.servers.iter().enumerate() {
            let nodes: String = ask(server.port, &["CLUSTER", "NODES"])
                .await
                .unwrap_or_default();
            let mine = nodes.lines().find(|line| line.contains("myself"));
            if mine.is_some_and(|line| line.contains("slave") && line.contains(&id)) {
                return number;
            }
        }
        panic!("nobody follows server {primary}");
    }

    /// Moves a slot to another primary, a few keys at a time, under whatever load there is.
    pub async fn move_slot(&self, slot: u16) {
        let from = self.owner(slot).await;
        let mut primaries = self.primaries().await;
        primaries.retain(|number| *number != from);
        let to = primaries[usize::from(slot) % primaries.len()];
        let (from, to) = (&self.servers[from], &self.servers[to]);
        let (from_id, to_id) = (id_of(from.port).await, id_of(to.port).await);
        let (slot, to_port) = (slot.to_string(), to.port.to_string());
        to.must(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id])
            .await;
        from.must(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id])
            .await;
        let at_once = KEYS_AT_ONCE.to_string();
        loop {
            let count = ["CLUSTER", "GETKEYSINSLOT", &slot, &at_once];
            let keys: Vec<String> = ask(from.port, &count).await.unwrap();
            if keys.is_empty() {
                break;
            }
            for key in keys {
                let words = ["MIGRATE", "127.0.0.1", &to_port, &key, "0", "2000"];
                from.must(&words).await;
            }
        }
        for server in [to, from] {
            server
                .must(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id])
                .await;
        }
    }

    async fn is_primary(&self, number: usize) -> bool {
        let fields = info(self.servers[number].port, "replication").await;
        fields.get("role").map(String::as_str) == Some("master")
    }
}

/// Whether a line of `CLUSTER NODES` lists the slot.
fn holds(line: &str, slot: u16) -> bool {
    line.split_whitespace().skip(8).any(|range| {
        let (begin, end) = range.split_once('-').unwrap_or((range, range));
        let (Ok(begin), Ok(end)) = (begin.parse::<u16>(), end.parse::<u16>()) else {
            return false;
        };
        (begin..=end).contains(&slot)
    })
}
