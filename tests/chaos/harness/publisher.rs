//! Somebody who publishes with ids and repeats, in order, until the answer is known.
//!
//! One publication at a time: the next is sent when the last one's fate is known, so what is
//! acknowledged must be in the log in the order it was sent.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tidewire_check::{Body, Event, Position};
use tidewire_client::{Client, Error, Publish};
use tokio::sync::watch;

use super::{
    journal::Journal,
    nodes::API_KEY,
    reader::{connect, follow_status},
    seeded::Seeded,
};

/// A request is given up after it and sent again, to the next node.
const REQUEST_MAX: Duration = Duration::from_secs(3);
/// Before a request is repeated, where the node names no time.
const REPEAT_PAUSE: Duration = Duration::from_millis(100);
/// The longest that a publisher waits though the node names more.
const REPEAT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Publications of a probe under way at once: it is to measure the way back, not itself.
const PROBES_AT_ONCE: usize = 16;
/// Bodies of one publisher; they stay below 2^53 in JSON.
const BODIES: u64 = 1 << 32;
/// Different keys in a channel with state.
const KEYS: u64 = 8;

/// The channel of floods; one reader of each node follows it, so that every node is announced to.
pub const FLOOD: &str = "flood:0";

/// What publishers are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    Publish,
    /// Finish what is begun, and end.
    Finish,
}

/// What is published next.
pub struct Publication {
    pub channel: String,
    pub key: Option<String>,
    pub id: String,
    pub body: Body,
}

/// Who publishes, where and how often.
pub struct Publisher {
    number: u64,
    next: u64,
    channels: Arc<Vec<String>>,
    random: Seeded,
    pause: Duration,
    journal: Arc<Journal>,
    work: watch::Receiver<Work>,
}

impl Publisher {
    pub fn new(
        number: u64,
        channels: Arc<Vec<String>>,
        pause: Duration,
        journal: Arc<Journal>,
        work: watch::Receiver<Work>,
    ) -> Self {
        Self {
            number,
            next: 0,
            channels,
            random: Seeded(0x9e37_79b9 ^ (number + 1)),
            pause,
            journal,
            work,
        }
    }

    /// The next publication, after a pause; None: the work is over.
    pub async fn next(&mut self) -> Option<Publication> {
        let pause = self
            .pause
            .mul_f64(0.5 + self.random.below(1000) as f64 / 1000.0);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = self.work.wait_for(|work| *work == Work::Finish) => return None,
        }
        let channel = self.random.pick(&self.channels).clone();
        Some(self.make(channel))
    }

    /// Something new in this channel, known to the checker.
    fn make(&mut self, channel: String) -> Publication {
        let key = channel
            .starts_with("board:")
            .then(|| format!("k{}", self.random.below(KEYS)));
        let body = self.number * BODIES + self.next;
        self.next += 1;
        self.journal.feed(&Event::Attempted {
            body,
            channel: self.journal.channel(&channel),
        });
        let id = format!("p{body:x}");
        Publication {
            channel,
            key,
            id,
            body,
        }
    }

    pub fn acknowledged(&self, body: Body, epoch: &str, offset: u64) {
        let position = Position::new(epoch, offset);
        self.journal.feed(&Event::Acknowledged { body, position });
    }

    pub fn refused(&self, body: Body, why: &str) {
        self.journal.feed(&Event::Refused { body });
        let text = format!("publisher {}: {why}", self.number);
        self.journal.trouble(text);
    }

    /// Publishes over HTTP at these addresses, in turn where one does not answer.
    pub async fn by_http(mut self, addresses: Vec<String>) {
        let client = http_client();
        let mut at = usize::try_from(self.number).unwrap();
        while let Some(publication) = self.next().await {
            self.post(&client, &addresses, &mut at, publication).await;
        }
    }

    /// Publishes once in every channel, over HTTP.
    pub async fn probe(mut self, addresses: &[String]) {
        let (client, channels) = (http_client(), Arc::clone(&self.channels));
        let made: Vec<_> = channels
            .iter()
            .map(|channel| self.make(channel.clone()))
            .collect();
        let (probe, client) = (&self, &client);
        let publish = async |publication| {
            let mut at = 0;
            probe.post(client, addresses, &mut at, publication).await;
        };
        stream::iter(made)
            .for_each_concurrent(PROBES_AT_ONCE, publish)
            .await;
    }

    /// Publishes until the answer is known, beginning with the address of number `at`.
    async fn post(
        &self,
        client: &reqwest::Client,
        addresses: &[String],
        at: &mut usize,
        publication: Publication,
    ) {
        let mut body = json!({
            "channel": publication.channel, "id": publication.id, "data": publication.body,
        });
        if let Some(key) = &publication.key {
            body["key"] = json!(key);
        }
        loop {
            let url = &addresses[*at % addresses.len()];
            match post(client, url, &body).await {
                Answer::Accepted { epoch, offset } => {
                    return self.acknowledged(publication.body, &epoch, offset);
                }
                Answer::Refused(why) => return self.refused(publication.body, &why),
                Answer::Unknown { retry } => {
                    *at += 1;
                    tokio::time::sleep(retry.min(REPEAT_PAUSE_MAX)).await;
                }
            }
        }
    }
}

fn http_client() -> reqwest::Client {
    reqwest::Client::builder()
        .timeout(REQUEST_MAX)
        .build()
        .unwrap()
}

impl Publisher {
    /// Publishes over a WebSocket with the client library, which repeats by itself.
    pub async fn by_socket(mut self, urls: Vec<String>) {
        let client = connect(&urls, &format!("publisher-{}", self.number));
        let journal = Arc::clone(&self.journal);
        let publish = async {
            while let Some(publication) = self.next().await {
                let mut made = Publish::json(&publication.body).id(&publication.id);
                if let Some(key) = &publication.key {
                    made = made.key(key);
                }
                self.send(&client, &publication, made).await;
            }
        };
        tokio::select! {
            () = publish => {}
            () = follow_status(&client, &journal) => {}
        }
    }

    async fn send(&self, client: &Client, publication: &Publication, made: Publish) {
        loop {
            match client.publish(&publication.channel, made.clone()).await {
                Ok(published) => {
                    let position = published.position;
                    let epoch = position.epoch.as_str();
                    return self.acknowledged(publication.body, epoch, position.offset);
                }
                // Given up in its time; the same id again is the same publication.
                Err(Error::Expired | Error::OutcomeUnknown) => {}
                Err(Error::Refused { code, .. }) if code.temporary() => {}
                Err(error) => return self.refused(publication.body, &error.to_string()),
            }
            tokio::time::sleep(REPEAT_PAUSE).await;
        }
    }
}

enum Answer {
    Accepted { epoch: String, offset: u64 },
    Refused(String),
    Unknown { retry: Duration },
}

async fn post(client: &reqwest::Client, url: &str, body: &Value) -> Answer {
    let unknown = Answer::Unknown {
        retry: REPEAT_PAUSE,
    };
    let request = client.post(url).bearer_auth(API_KEY).json(body);
    let Ok(response) = request.send().await else {
        return unknown;
    };
    let status = response.status().as_u16();
    let Ok(answer) = response.json::<Value>().await else {
        return unknown;
    };
    let result = &answer["results"][0];
    match status {
        200 if result["error"].is_null() => Answer::Accepted {
            epoch: result["epoch"].as_str().unwrap().to_owned(),
            offset: result["offset"].as_u64().unwrap(),
        },
        429 | 500.. => Answer::Unknown {
            retry: answer["retry_ms"]
                .as_u64()
                .map_or(REPEAT_PAUSE, Duration::from_millis),
        },
        _ => Answer::Refused(answer.to_string()),
    }
}

/// Publishes in batches as fast as a node takes them, to make more traffic than a reader that
/// stands still can be kept. Nobody counts on these: they have no bodies the checker knows of,
/// so they go to a channel of their own on the same connections.
pub async fn flood(url: &str, duration: Duration) {
    const ITEMS: usize = 200;
    const BYTES: usize = 1_000;
    let filler = "x".repeat(BYTES);
    let item = json!({"channel": FLOOD, "data": filler});
    let body = json!({"items": vec![item; ITEMS]});
    let client = http_client();
    let until = Instant::now() + duration;
    while Instant::now() < until {
        let request = client.post(url).bearer_auth(API_KEY).json(&body);
        if request.send().await.is_err() {
            tokio::time::sleep(REPEAT_PAUSE).await;
        }
    }
}
