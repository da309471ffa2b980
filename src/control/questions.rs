//! Questions to other nodes: what only the node that holds something knows.
//!
//! A question is an order; answers come through `$sys:answers:<node>`, which the asking node
//! follows while it waits and which keeps nothing for long. Called by `gateway` for operators;
//! what an answer says is not this module's business. Never retries: who is silent is named.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tidewire_protocol::{ChannelName, Name, Payload, Publication};
use tokio::time::timeout;

use super::{
    Control, Heard,
    follower::Follower,
    orders::{Order, of_node},
};
use crate::broker::{BrokerError, Retention};

/// How long all nodes together have to answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// What the names of the channels of answers begin with.
const PREFIX: &str = "$sys:answers:";
/// Answers kept, and for how long, ms: a follower that missed an announcement reads them there.
const KEPT: u32 = 256;
const KEPT_MS: u64 = 30_000;
const RETENTION: Retention = Retention::of_log(KEPT, KEPT_MS);

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "about", rename_all = "snake_case")]
pub enum Question {
    /// Sessions with a connection there.
    Sessions(Wanted),
    /// One of them.
    Session { session: String },
    /// What the node holds of a channel.
    Channel { channel: String },
}

/// Which sessions are looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Their user is this, or begins with it; none: any.
    pub user: Option<String>,
    /// Their id begins with this; none: any.
    pub session: Option<String>,
    /// Whether the user must be the whole name.
    pub exact: bool,
    /// Most of one node.
    pub limit: usize,
}

/// What a node answers. None: it has nothing to say of that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Answer {
    n: u64,
    node: String,
    said: Option<serde_json::Value>,
}

/// What came back.
#[derive(Debug, Default)]
pub struct Answers {
    /// What nodes had to say.
    pub said: Vec<(Name, serde_json::Value)>,
    /// Nodes that did not answer in time.
    pub silent: Vec<Name>,
}

impl Answers {
    /// What nodes said, as far as it can be read: nodes of other versions may say something else.
    pub fn of<T: DeserializeOwned>(&self) -> impl Iterator<Item = T> {
        let said = self.said.iter();
        said.filter_map(|(_, said)| T::deserialize(said).ok())
    }
}

impl Control {
    /// Asks these nodes; one alone through its own orders, several through those to all. Takes at
    /// most [`ANSWER_MAX`]. Where the broker is away everyone is silent.
    pub async fn ask(&self, question: Question, nodes: Vec<Name>) -> Answers {
        let mut answers = Answers::default();
        let mut waiting: BTreeSet<Name> = nodes.into_iter().collect();
        if !waiting.is_empty() {
            let asked = self.gather(question, &mut waiting, &mut answers);
            match timeout(ANSWER_MAX, asked).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a question was not asked"),
                Err(_elapsed) => tracing::debug!(?waiting, "nodes did not answer"),
            }
        }
        answers.silent = waiting.into_iter().collect();
        answers
    }

    async fn gather(
        &self,
        question: Question,
        waiting: &mut BTreeSet<Name>,
        answers: &mut Answers,
    ) -> Result<(), BrokerError> {
        let channel = channel_of(self.node.as_str()).ok_or(BrokerError::Unavailable)?;
        let mut follower = Follower::new(self.feed.clone(), channel, Arc::default());
        // Only what comes after it has joined is heard.
        follower.next().await;
        let n = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        let order = Order::Ask {
            n,
            by: self.node.to_string(),
            question,
        };
        let one = waiting.first().filter(|_| waiting.len() == 1);
        self.give(&order, one).await?;
        while !waiting.is_empty() {
            let Heard::Entries(entries) = follower.next().await else {
                continue;
            };
            for answer in entries.iter().filter_map(|entry| Answer::read(entry)) {
                if let Ok(node) = Name::new(&answer.node)
                    && answer.n == n
                    && waiting.remove(&node)
                {
                    answers.said.extend(answer.said.map(|said| (node, said)));
                }
            }
        }
        Ok(())
    }

    /// Answers a question of another node.
    pub async fn answer(&self, by: &str, n: u64, said: Option<serde_json::Value>) {
        let answer = Answer {
            n,
            node: self.node.to_string(),
            said,
        };
        let published = channel_of(by).and_then(|channel| of_node(channel, RETENTION, &answer));
        let Some(publish) = published else { return };
        let results = self.feed.broker().publish(vec![publish]).await;
        for error in results.into_iter().filter_map(Result::err) {
            tracing::debug!(%error, "an answer was not taken");
        }
    }
}

impl Answer {
    fn read(publication: &Publication) -> Option<Self> {
        match &publication.payload {
            Some(Payload::Json(text)) => serde_json::from_slice(text).ok(),
            Some(Payload::Bytes(_)) | None => None,
        }
    }
}

fn channel_of(node: &str) -> Option<ChannelName> {
    ChannelName::new(&format!("{PREFIX}{node}")).ok()
}
