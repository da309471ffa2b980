//! Faults of a Redis that is alone: killed, frozen, asleep, empty, full, or without listeners.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Struck, World};
use crate::harness::{
    ask::{ask, ask_within},
    nodes::API_KEY,
    publisher::FLOOD,
};

impl World {
    pub(super) fn redis_kill(&mut self) -> Struck {
        self.topology.servers[0].kill();
        Struck::ServerDead
    }

    pub(super) fn redis_freeze(&mut self) -> Struck {
        self.topology.servers[0].freeze();
        Struck::ServerFrozen
    }

    pub(super) async fn redis_sleep(&mut self) -> Struck {
        let port = self.topology.servers[0].port;
        let seconds = (1 + self.random.below(5)).to_string();
        let words = ["DEBUG", "SLEEP", &seconds];
        let slept: Result<String, _> = ask_within(port, &words, Duration::from_secs(10)).await;
        slept.unwrap();
        Struck::Over
    }

    pub(super) async fn flush(&mut self) -> Struck {
        self.topology.servers[0].must(&["FLUSHALL"]).await;
        Struck::Over
    }

    pub(super) async fn pubsub_kill(&mut self) -> Struck {
        let port = self.topology.servers[0].port;
        let words = ["CLIENT", "KILL", "TYPE", "pubsub"];
        let _killed: Result<u64, _> = ask(port, &words).await;
        Struck::Over
    }

    /// Leaves Redis no memory for anything new; what it has stays, and publishing must say so.
    pub(super) async fn redis_full(&mut self) -> Struck {
        let words = ["CONFIG", "SET", "maxmemory", "1"];
        self.topology.servers[0].must(&words).await;
        let node = self.a_node();
        let url = self.nodes.url(node, "/v1/publish");
        let body = json!({"channel": FLOOD, "data": "one more"});
        let request = reqwest::Client::new().post(url).bearer_auth(API_KEY);
        let answer = request.json(&body).send().await.unwrap();
        let status = answer.status().as_u16();
        let text: Value = answer.json().await.unwrap_or_default();
        if status != 503 || !text.to_string().contains("unavailable") {
            let text = format!("a full Redis: publishing was answered with {status} {text}");
            self.troubles.push(text);
        }
        Struck::ServerFull
    }

    pub(super) async fn give_memory(&mut self) {
        let words = ["CONFIG", "SET", "maxmemory", "0"];
        self.topology.servers[0].must(&words).await;
    }
}
