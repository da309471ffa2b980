//! A primary with a replica, led by hand or by three Sentinels; failovers that lose a tail.

use std::{path::Path, time::Duration};

use super::{Topology, server::Server};
use crate::harness::{
    ask::{ask, info, until},
    ports::local,
    proxy::{Mode, Proxy, Whose},
};

/// What the Sentinels call the primary.
pub const WATCHED: &str = "hub";
/// For steps that Redis takes in its own time: first copy, election, repair of a role.
const PATIENCE: Duration = Duration::from_secs(60);

/// A primary, its replica, and the proxy that a lagging replica is led through.
pub async fn start(root: &Path, durable: bool) -> (Vec<Server>, Proxy) {
    let aof = if durable { "yes" } else { "no" };
    let primary = Server::start(root, "redis-0", &["--appendonly", aof]).await;
    let of = primary.port.to_string();
    let options = ["--appendonly", aof, "--replicaof", "127.0.0.1", &of];
    let replica = Server::start(root, "redis-1", &options).await;
    let link = Proxy::start(local(primary.port)).await;
    link_is_up(replica.port).await;
    (vec![primary, replica], link)
}

pub async fn start_sentinels(root: &Path, primary: u16) -> Vec<Server> {
    let mut sentinels = Vec::new();
    for number in 0..3 {
        let name = format!("sentinel-{number}");
        sentinels.push(Server::sentinel(root, &name, WATCHED, primary).await);
    }
    for sentinel in &sentinels {
        let port = sentinel.port;
        until("the Sentinels know everybody", PATIENCE, || async move {
            let fields: Vec<String> = ask(port, &["SENTINEL", "MASTER", WATCHED])
                .await
                .unwrap_or_default();
            let field = |name: &str| {
                let at = fields.iter().position(|field| field == name);
                at.and_then(|at| fields.get(at + 1).cloned())
            };
            field("num-slaves").as_deref() == Some("1")
                && field("num-other-sentinels").as_deref() == Some("2")
        })
        .await;
    }
    sentinels
}

async fn link_is_up(replica: u16) {
    until("the replica has its copy", PATIENCE, || async move {
        let fields = info(replica, "replication").await;
        fields.get("master_link_status").map(String::as_str) == Some("up")
    })
    .await;
}

impl Topology {
    /// Leads the replica through the proxy and lets nothing more arrive at it. Sentinels repair
    /// its address after some 10 s, so what is to be lost must be lost before.
    pub async fn lag(&self) {
        let (primary, replica) = self.primary_and_replica().await;
        let link = self.replica_link.as_ref().expect("a replicated layout");
        link.lead_to(local(self.servers[primary].port));
        let port = link.port().to_string();
        let replica = &self.servers[replica];
        replica.must(&["REPLICAOF", "127.0.0.1", &port]).await;
        link_is_up(replica.port).await;
        link.set_all(Mode::Freeze);
    }

    /// Kills the primary and cuts what its replica has not read.
    pub async fn kill_primary(&mut self) -> usize {
        let (primary, _) = self.primary_and_replica().await;
        self.servers[primary].kill();
        self.cut_replica_link();
        primary
    }

    /// Bytes held up on the way are gone for good.
    pub fn cut_replica_link(&self) {
        let link = self.replica_link.as_ref().expect("a replicated layout");
        link.cut(Whose::All);
        link.set_all(Mode::Pass);
    }

    /// Makes the replica the primary and leads the nodes there, as an operator would.
    pub async fn promote_by_hand(&self, old: usize) {
        let new = 1 - old;
        self.servers[new].must(&["REPLICAOF", "NO", "ONE"]).await;
        for front in &self.fronts {
            front.lead_to(local(self.servers[new].port));
        }
    }

    /// Waits until all Sentinels say that another server than `old` is the primary; before that
    /// an old primary that comes back would end their failover half done.
    pub async fn promoted_by_sentinels(&self, old: usize) {
        let new = self.servers[1 - old].port.to_string();
        for sentinel in &self.sentinels {
            let (port, new) = (sentinel.port, &new);
            until(
                "the Sentinels promote the replica",
                PATIENCE,
                || async move {
                    let words = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", WATCHED];
                    let place: Vec<String> = ask(port, &words).await.unwrap_or_default();
                    place.get(1) == Some(new)
                },
            )
            .await;
        }
    }

    /// Brings back what was killed, as replica of the one that took over.
    pub async fn rejoin(&mut self, old: usize) {
        let new = self.servers[1 - old].port.to_string();
        if !self.servers[old].is_running() {
            self.servers[old].restart().await;
        }
        let old = &self.servers[old];
        old.must(&["REPLICAOF", "127.0.0.1", &new]).await;
        link_is_up(old.port).await;
    }

    /// Which server is primary and which follows it.
    pub async fn primary_and_replica(&self) -> (usize, usize) {
        for (number, server) in self.servers.iter().enumerate() {
            let fields = info(server.port, "replication").await;
            if fields.get("role").map(String::as_str) == Some("master") {
                return (number, 1 - number);
            }
        }
        panic!("no server is a primary");
    }
}
