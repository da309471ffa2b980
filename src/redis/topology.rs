//! Finds the primaries: the one server, what Sentinels say, or the slots of a Redis Cluster.
//!
//! Called by `keeper` at start, regularly, and whenever something hints at a change. Never
//! connects to a primary for commands and never judges one: the handshake does.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use redis::{Pipeline, Value, aio::MultiplexedConnection};
use tokio::{sync::Mutex, time::timeout};

use super::{
    address::{ServerAddress, Topology},
    call::text,
    connect::{CONNECT_MAX, Kind},
    context::Context,
    error::RedisError,
    keyspace::{Partition, SLOTS},
};

/// How long one source may take to answer.
const ASK_MAX: Duration = Duration::from_secs(1);
/// Most members of a Cluster asked at a time: one may be cut off from the others, hardly three.
const MEMBERS_ASKED: usize = 3;

/// A primary and the partitions it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shard {
    pub(super) address: ServerAddress,
    pub(super) partitions: Vec<Partition>,
}

/// Asks where the primaries are; keeps its connections for the next time.
#[derive(Debug)]
pub(super) struct Finder {
    context: Arc<Context>,
    connections: Mutex<HashMap<ServerAddress, MultiplexedConnection>>,
    /// Members of the Cluster, as last seen, and where to begin among them.
    members: parking_lot::Mutex<(Vec<ServerAddress>, usize)>,
}

impl Finder {
    pub(super) fn new(context: &Arc<Context>) -> Self {
        let seeds = context.dialer.address().seeds.clone();
        Self {
            context: Arc::clone(context),
            connections: Mutex::default(),
            members: parking_lot::Mutex::new((seeds, 0)),
        }
    }

    /// The primaries at present.
    pub(super) async fn find(&self) -> Result<Vec<Shard>, RedisError> {
        let address = self.context.dialer.address();
        let one = |address| {
            vec![Shard {
                address,
                partitions: self.context.keyspace.all().collect(),
            }]
        };
        match &address.topology {
            Topology::Standalone => {
                let server = address.seeds.first().cloned();
                server.map(one).ok_or(RedisError::NoPrimary)
            }
            Topology::Sentinel(master) => self.ask_sentinels(&address.seeds, master).await.map(one),
            Topology::Cluster => self.ask_cluster().await,
        }
    }

    /// Every Sentinel is asked: the one with the newest configuration is right.
    async fn ask_sentinels(
        &self,
        seeds: &[ServerAddress],
        master: &str,
    ) -> Result<ServerAddress, RedisError> {
        let mut question = Pipeline::with_capacity(1);
        question.cmd("SENTINEL").arg("MASTER").arg(master);
        let ask = |seed| self.ask(seed, Kind::Sentinel, &question);
        let mut newest: Option<(u64, ServerAddress)> = None;
        let mut failure = RedisError::NoPrimary;
        for answer in join_all(seeds.iter().map(ask)).await {
            match answer {
                Ok(answer) => {
                    let said = answer.first().and_then(primary_of);
                    if said.as_ref().map(|(epoch, _)| epoch)
                        > newest.as_ref().map(|(epoch, _)| epoch)
                    {
                        newest = said;
                    }
                }
                Err(error) => failure = error,
            }
        }
        newest.map(|(_, address)| address).ok_or(failure)
    }

    /// Several members are asked: the one with the newest configuration is right.
    async fn ask_cluster(&self) -> Result<Vec<Shard>, RedisError> {
        let mut question = Pipeline::with_capacity(2);
        question.cmd("CLUSTER").arg("INFO");
        question.cmd("CLUSTER").arg("SLOTS");
        let asked = self.members_to_ask();
        let ask = async |member: &ServerAddress| {
            let answer = self.ask(member, Kind::Redis, &question).await?;
            Ok(view_of(&answer, member))
        };
        let mut newest: Option<View> = None;
        let mut failure = RedisError::NoPrimary;
        for answer in join_all(asked.iter().map(ask)).await {
            match answer {
                Ok(said) => {
                    let order = |view: &View| (view.is_whole, view.epoch);
                    if said.as_ref().map(order) > newest.as_ref().map(order) {
                        newest = said;
                    }
                }
                Err(error) => failure = error,
            }
        }
        let view = newest.ok_or(failure)?;
        let mut shards: BTreeMap<&ServerAddress, Vec<Partition>> = BTreeMap::new();
        for partition in self.context.keyspace.all() {
            if let Some(primary) = view.primary_of(self.context.keyspace.slot(partition)) {
                shards.entry(primary).or_default().push(partition);
            }
        }
        let shards: Vec<_> = shards
            .into_iter()
            .map(|(address, partitions)| Shard {
                address: address.clone(),
                partitions,
            })
            .collect();
        if shards.is_empty() {
            return Err(RedisError::NoPrimary);
        }
        self.members.lock().0 = shards.iter().map(|shard| shard.address.clone()).collect();
        Ok(shards)
    }

    /// Some of the members known, others each time, and a seed.
    fn members_to_ask(&self) -> Vec<ServerAddress> {
        let seeds = &self.context.dialer.address().seeds;
        let mut members = self.members.lock();
        members.1 = members.1.wrapping_add(1);
        let (known, turn) = &*members;
        let mut asked: Vec<_> = known
            .iter()
            .cycle()
            .skip(turn % known.len().max(1))
            .take(known.len().min(MEMBERS_ASKED))
            .cloned()
            .collect();
        if let Some(seed) = seeds.get(turn % seeds.len().max(1))
            && !asked.contains(seed)
        {
            asked.push(seed.clone());
        }
        asked
    }

    async fn ask(
        &self,
        server: &ServerAddress,
        kind: Kind,
        question: &Pipeline,
    ) -> Result<Vec<Value>, RedisError> {
        let known = self.connections.lock().await.get(server).cloned();
        let mut connection = match known {
            Some(connection) => connection,
            None => {
                let connection = self
                    .context
                    .dialer
                    .connect(server, kind, |_push| {})
                    .await?;
                let mut connections = self.connections.lock().await;
                connections.insert(server.clone(), connection.clone());
                connection
            }
        };
        let asking = connection.send_packed_commands(question, 0, question.len());
        let failure = match timeout(ASK_MAX, asking).await {
            Ok(Ok(answers)) => return Ok(answers),
            Ok(Err(source)) => RedisError::Connect {
                server: server.clone(),
                source,
            },
            Err(_elapsed) => RedisError::Silent {
                server: server.clone(),
                within: CONNECT_MAX,
            },
        };
        self.connections.lock().await.remove(server);
        Err(failure)
    }
}

/// Address and age of a Sentinel's answer.
fn primary_of(answer: &Value) -> Option<(u64, ServerAddress)> {
    let fields: HashMap<_, _> = answer
        .as_map_iter()?
        .filter_map(|(name, value)| Some((text(name)?, text(value)?)))
        .collect();
    let field = |name| fields.get(name).copied();
    let address = ServerAddress {
        host: field("ip")?.to_owned(),
        port: field("port")?.parse().ok()?,
    };
    Some((field("config-epoch")?.parse().ok()?, address))
}

/// What one member of a Cluster sees.
#[derive(Debug)]
struct View {
    epoch: u64,
    /// Whether it sees the Cluster working.
    is_whole: bool,
    ranges: Vec<(u16, u16, ServerAddress)>,
}

impl View {
    fn primary_of(&self, slot: u16) -> Option<&ServerAddress> {
        let range = self
            .ranges
            .iter()
            .find(|(first, last, _)| (*first..=*last).contains(&slot));
        range.map(|(_, _, address)| address)
    }
}

fn view_of(answers: &[Value], asked: &ServerAddress) -> Option<View> {
    let about = answers.first().and_then(text)?;
    let field = |name: &str| {
        let line = about.lines().find_map(|line| line.strip_prefix(name))?;
        line.strip_prefix(':').map(str::trim)
    };
    let epoch = field("cluster_current_epoch")?.parse().ok()?;
    let ranges: Vec<_> = answers
        .get(1)?
        .as_sequence()?
        .iter()
        .filter_map(|range| range_of(range.as_sequence()?, asked))
        .collect();
    Some(View {
        epoch,
        is_whole: field("cluster_state") == Some("ok"),
        ranges,
    })
}

fn range_of(range: &[Value], asked: &ServerAddress) -> Option<(u16, u16, ServerAddress)> {
    let [Value::Int(first), Value::Int(last), primary, ..] = range else {
        return None;
    };
    let [host, Value::Int(port), ..] = primary.as_sequence()? else {
        return None;
    };
    // A member that does not know its own name means: where you reached me.
    let host = text(host)
        .filter(|host| !host.is_empty())
        .unwrap_or(&asked.host);
    let (first, last) = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
    let address = ServerAddress {
        host: host.to_owned(),
        port: u16::try_from(*port).ok()?,
    };
    (first <= last && last < SLOTS).then_some((first, last, address))
}
