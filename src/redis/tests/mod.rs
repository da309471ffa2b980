//! The connection layer against real servers: what is lost is doubted, what is frozen is refused
//! in time, and what comes back is used again.

mod cluster;
mod halfopen;
mod secured;
mod sentinel;
pub(crate) mod server;
mod standalone;
pub(crate) mod topologies;

use std::{future::Future, num::NonZeroU32, sync::Arc, time::Duration};

use ::redis::Value;

use self::server::RedisServer;
use super::{
    Address, Call, CallError, Interest, LaneEvent, LaneEvents, Partition, Redis, RedisError, Script,
};
use crate::{
    config::{self, Namespaces, setting::Setting},
    tasks::Tasks,
    telemetry::metrics::Metrics,
};

/// Longest wait of a test for one condition.
const PATIENCE: Duration = Duration::from_secs(20);

/// Counts up and announces: the smallest step with a log.
static COUNT: Script = Script::new(
    "count",
    "if redis.call('HGET', KEYS[1], 'g') ~= ARGV[1] then return {'STALE'} end
     local n = redis.call('INCR', KEYS[2])
     redis.call(ARGV[3], ARGV[2], n)
     return n",
);
/// Reads the count.
static READ: Script = Script::new(
    "read",
    "if redis.call('HGET', KEYS[1], 'g') ~= ARGV[1] then return {'STALE'} end
     return tonumber(redis.call('GET', KEYS[2]) or '0')",
);

/// A node's connections, with the worker's end of the lanes.
pub(crate) struct Lab {
    pub(crate) redis: Redis,
    pub(crate) lanes: Vec<LaneEvents>,
    pub(crate) tasks: Tasks,
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

/// The configuration for a URL: one lane, little patience.
pub(crate) fn config(url: &str) -> (config::Redis, Address) {
    let config = config::Redis {
        lanes: NonZeroU32::MIN,
        start_patience: Duration::from_millis(500),
        ..config::Redis::default()
    };
    (config, Address::from_text(url).unwrap())
}

/// Connects with these scripts.
pub(crate) async fn connect(url: &str, scripts: Vec<&'static Script>) -> Lab {
    let (config, address) = config(url);
    connect_with(&config, &address, scripts).await
}

/// As [`connect`], with a configuration.
pub(crate) async fn connect_with(
    config: &config::Redis,
    address: &Address,
    scripts: Vec<&'static Script>,
) -> Lab {
    let tasks = Tasks::new();
    let metrics = Arc::new(Metrics::new(&Namespaces::default()).unwrap());
    let opened = Redis::open(config, address, scripts, &tasks, &metrics).await;
    let (redis, lanes) = opened.unwrap();
    Lab {
        redis,
        lanes,
        tasks,
    }
}

/// Why no connection is made.
async fn refusal(url: &str) -> RedisError {
    let (config, address) = config(url);
    refusal_of(&config, &address).await
}

async fn refusal_of(config: &config::Redis, address: &Address) -> RedisError {
    let metrics = Arc::new(Metrics::new(&Namespaces::default()).unwrap());
    let opened = Redis::open(config, address, Vec::new(), &Tasks::new(), &metrics).await;
    opened.unwrap_err()
}

fn counting() -> Vec<&'static Script> {
    vec![&COUNT, &READ]
}

impl Lab {
    fn key(&self, partition: Partition, name: &str) -> Vec<u8> {
        format!("{}:{name}", self.redis.tag(partition)).into_bytes()
    }

    fn count(&self, name: &str) -> Call {
        let partition = self.redis.partition_of(name.as_bytes());
        let publish = if self.redis.is_sharded() {
            "SPUBLISH"
        } else {
            "PUBLISH"
        };
        Call {
            partition,
            script: &COUNT,
            keys: vec![self.key(partition, name)],
            args: vec![self.announcements(name), publish.into()],
            is_write: true,
        }
    }

    fn announcements(&self, name: &str) -> Vec<u8> {
        self.key(
            self.redis.partition_of(name.as_bytes()),
            &format!("a:{name}"),
        )
    }

    fn read(&self, name: &str) -> Call {
        Call {
            script: &READ,
            args: Vec::new(),
            is_write: false,
            ..self.count(name)
        }
    }

    fn interest(&self, name: &str) -> Interest {
        Interest {
            partition: self.redis.partition_of(name.as_bytes()),
            announcements: self.announcements(name),
            head: self.read(name),
        }
    }

    /// The numbers announced on the first lane until one satisfies; doubts are passed over.
    async fn hear(&mut self, name: &str, last: impl Fn(i64) -> bool) -> Vec<i64> {
        let announcements = self.announcements(name);
        let mut heard = Vec::new();
        within(async {
            while !heard.last().is_some_and(|number| last(*number)) {
                for event in self.events().await {
                    if let LaneEvent::Push {
                        announcements: on,
                        payload,
                    } = event
                        && on == announcements
                    {
                        heard.push(String::from_utf8_lossy(&payload).parse().unwrap());
                    }
                }
            }
        })
        .await;
        heard
    }

    /// Waits for a doubt of the partition.
    async fn doubt(&mut self, partition: Partition) {
        within(async {
            loop {
                let doubted = |event: LaneEvent| {
                    matches!(event, LaneEvent::Doubt { partitions } if partitions.contains(&partition))
                };
                if self.events().await.into_iter().any(doubted) {
                    return;
                }
            }
        })
        .await;
    }

    async fn events(&mut self) -> Vec<LaneEvent> {
        let mut events = Vec::new();
        self.lanes[0].recv_many(&mut events, 64).await;
        events
    }

    /// Repeats a call until it is answered.
    async fn until_answered(&self, call: impl Fn() -> Call) -> i64 {
        within(async {
            loop {
                match self.redis.call(call()).await {
                    Ok(answer) => return number(&answer),
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        })
        .await
    }

    async fn until_followed(&self, name: &str) -> i64 {
        within(async {
            loop {
                let answers = self.redis.follow(vec![self.interest(name)]).await;
                match answers.into_iter().next().unwrap() {
                    Ok(answer) => return number(&answer),
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        })
        .await
    }
}

fn number(answer: &Value) -> i64 {
    match answer {
        Value::Int(number) => *number,
        other => panic!("not a number: {other:?}"),
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it takes too long")
}

fn is_refused(answer: &Result<Value, CallError>) -> bool {
    matches!(
        answer,
        Err(CallError::OutOfReach | CallError::TimedOut | CallError::Lost)
    )
}

fn server() -> RedisServer {
    RedisServer::start(&[])
}
