//! Several real servers for tests: a primary with a replica under three Sentinels, and a Redis
//! Cluster of three primaries.

use std::{
    fs,
    time::{Duration, Instant},
};

use redis::{Cmd, FromRedisValue, cmd};
use tempfile::TempDir;

use super::server::{RedisServer, free_port};

/// Hash slots of a Cluster.
const SLOTS: u16 = 16_384;
/// What Sentinels call the primary.
pub(crate) const MASTER: &str = "mm";

/// Sends a command and reads any answer.
pub(crate) fn ask<T: FromRedisValue>(server: &RedisServer, command: &Cmd) -> redis::RedisResult<T> {
    let client = redis::Client::open(server.url())?;
    command.query(&mut client.get_connection()?)
}

fn words(text: &str) -> Cmd {
    let mut words = text.split(' ');
    let mut command = cmd(words.next().unwrap());
    command.arg(words.collect::<Vec<_>>());
    command
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A primary, its replica, and what watches them.
#[derive(Debug)]
pub(crate) struct Sentinels {
    pub(crate) primary: RedisServer,
    pub(crate) replica: RedisServer,
    sentinels: Vec<RedisServer>,
}

/// A primary and a replica that is in step.
pub(crate) fn pair() -> (RedisServer, RedisServer) {
    let primary = RedisServer::start(&[]);
    let port = primary.port().to_string();
    let replica = RedisServer::start(&["--replicaof", &format!("127.0.0.1 {port}")]);
    until("the replica does not follow", || {
        let about: String = ask(&replica, &words("INFO replication")).unwrap();
        about.contains("master_link_status:up")
    });
    (primary, replica)
}

impl Sentinels {
    /// Three Sentinels that take a primary for dead after half a second.
    pub(crate) fn start() -> Self {
        let (primary, replica) = pair();
        let sentinels: Vec<_> = (0..3).map(|_| sentinel(primary.port())).collect();
        for one in &sentinels {
            until("the sentinels do not find each other", || {
                let about: std::collections::HashMap<String, String> =
                    ask(one, &words(&format!("SENTINEL MASTER {MASTER}"))).unwrap();
                let is = |name: &str, count: &str| about.get(name).is_some_and(|it| it == count);
                is("num-slaves", "1") && is("num-other-sentinels", "2")
            });
        }
        Self {
            primary,
            replica,
            sentinels,
        }
    }

    /// Has the replica promoted while the primary lives.
    pub(crate) fn fail_over(&self) {
        ask::<()>(
            &self.sentinels[0],
            &words(&format!("SENTINEL FAILOVER {MASTER}")),
        )
        .unwrap();
    }

    pub(crate) fn url(&self) -> String {
        let hosts: Vec<_> = self
            .sentinels
            .iter()
            .map(|one| format!("127.0.0.1:{}", one.port()))
            .collect();
        format!("redis+sentinel://{}/{MASTER}", hosts.join(","))
    }
}

fn sentinel(primary: u16) -> RedisServer {
    let folder = TempDir::new().unwrap();
    let port = free_port();
    let text = format!(
        "port {port}\nbind 127.0.0.1\nsentinel monitor {MASTER} 127.0.0.1 {primary} 2\n\
         sentinel down-after-milliseconds {MASTER} 500\nsentinel failover-timeout {MASTER} 2000\n"
    );
    let file = folder.path().join("sentinel.conf");
    fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap().to_owned();
    RedisServer::launch(port, folder, &[&file, "--sentinel"])
}

/// Three primaries that share the slots.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) members: Vec<RedisServer>,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let members: Vec<_> = (0..3).map(|_| member()).collect();
        let (first, others) = members.split_first().unwrap();
        for (at, member) in (0_u16..).zip(&members) {
            let (from, to) = (at * (SLOTS / 3), (at + 1) * (SLOTS / 3));
            let to = if at == 2 { SLOTS } else { to } - 1;
            let add = words(&format!("CLUSTER ADDSLOTSRANGE {from} {to}"));
            ask::<()>(member, &add).unwrap();
            let epoch = words(&format!("CLUSTER SET-CONFIG-EPOCH {}", at + 1));
            ask::<()>(member, &epoch).unwrap();
        }
        for other in others {
            let bus = bus_port(other);
            let meet = words(&format!("CLUSTER MEET 127.0.0.1 {} {bus}", other.port()));
            ask::<()>(first, &meet).unwrap();
        }
        let cluster = Self { members };
        for member in &cluster.members {
            until("the cluster does not come up", || {
                let about: String = ask(member, &words("CLUSTER INFO")).unwrap();
                about.contains("cluster_state:ok") && about.contains("cluster_known_nodes:3")
            });
        }
        cluster
    }

    pub(crate) fn url(&self) -> String {
        let hosts: Vec<_> = self
            .members
            .iter()
            .map(|one| format!("127.0.0.1:{}", one.port()))
            .collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// The member that has the slot.
    pub(crate) fn owner(&self, slot: u16) -> usize {
        let share = usize::from(SLOTS / 3);
        (usize::from(slot) / share).min(2)
    }

    /// Begins to move a slot; what it holds stays where it is.
    pub(crate) fn begin_move(&self, slot: u16, from: usize, to: usize) {
        let id = |member: usize| -> String {
            ask(&self.members[member], &words("CLUSTER MYID")).unwrap()
        };
        let import = words(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", id(from)));
        ask::<()>(&self.members[to], &import).unwrap();
        let migrate = words(&format!("CLUSTER SETSLOT {slot} MIGRATING {}", id(to)));
        ask::<()>(&self.members[from], &migrate).unwrap();
    }

    /// Moves what the slot holds.
    pub(crate) fn move_keys(&self, slot: u16, from: usize, to: usize) {
        loop {
            let list = words(&format!("CLUSTER GETKEYSINSLOT {slot} 100"));
            let keys: Vec<String> = ask(&self.members[from], &list).unwrap();
            if keys.is_empty() {
                break;
            }
            let mut migrate = cmd("MIGRATE");
            migrate
                .arg("127.0.0.1")
                .arg(self.members[to].port())
                .arg("")
                .arg(0)
                .arg(2_000)
                .arg("KEYS")
                .arg(&keys);
            ask::<()>(&self.members[from], &migrate).unwrap();
        }
    }

    /// Moves what the slot holds, and then the slot.
    pub(crate) fn end_move(&self, slot: u16, from: usize, to: usize) {
        self.move_keys(slot, from, to);
        let id: String = ask(&self.members[to], &words("CLUSTER MYID")).unwrap();
        let set = words(&format!("CLUSTER SETSLOT {slot} NODE {id}"));
        for member in [to, from] {
            ask::<()>(&self.members[member], &set).unwrap();
        }
    }
}

fn member() -> RedisServer {
    let bus = free_port().to_string();
    RedisServer::start(&[
        "--cluster-enabled",
        "yes",
        "--cluster-node-timeout",
        "2000",
        "--cluster-port",
        &bus,
    ])
}

fn bus_port(member: &RedisServer) -> String {
    let ports: Vec<String> = ask(member, &words("CONFIG GET cluster-port")).unwrap();
    ports[1].clone()
}
