//! Somebody who publishes with ids, keeps what was acknowledged, and tries the rest again.

use std::collections::{BTreeMap, VecDeque};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_tungstenite::tungstenite::Message;

use super::CHANNELS;
use crate::{process::Place, support::API_KEY, wire};

/// Publications on their way at once.
const WINDOW: usize = 4;

#[derive(Clone, Copy, PartialEq)]
pub enum Way {
    WebSocket,
    Http,
}

/// Epoch and offset.
type Position = (String, u64);

pub struct Publisher {
    way: Way,
    number: u64,
    next: u64,
    /// Sent or about to be, and not acknowledged, in order.
    pending: VecDeque<u64>,
    done: BTreeMap<&'static str, Vec<(String, Position)>>,
}

impl Publisher {
    pub fn new(way: Way, number: u64) -> Self {
        Self {
            way,
            number,
            next: 0,
            pending: VecDeque::new(),
            done: BTreeMap::new(),
        }
    }

    /// What was acknowledged in a channel, in the order of publishing.
    pub fn acknowledged(&self, channel: &str) -> impl Iterator<Item = &(String, Position)> {
        self.done.get(channel).into_iter().flatten()
    }

    fn channel(n: u64) -> &'static str {
        CHANNELS[usize::try_from(n / 3).unwrap() % CHANNELS.len()]
    }

    fn id(&self, n: u64) -> String {
        format!("p{}-{n}", self.number)
    }

    fn user(&self) -> String {
        format!("publisher-{}", self.number)
    }

    fn acknowledge(&mut self, epoch: &Value, offset: &Value) {
        let n = self.pending.pop_front().unwrap();
        let position = (epoch.as_str().unwrap().to_owned(), offset.as_u64().unwrap());
        let entry = (self.id(n), position);
        self.done.entry(Self::channel(n)).or_default().push(entry);
    }

    /// Publishes until the node is gone; a permit for each acknowledgement.
    pub async fn run(&mut self, place: &Place, acknowledged: &Semaphore) {
        match self.way {
            Way::WebSocket => self.by_web_socket(place, None, acknowledged).await,
            Way::Http => self.by_http(place, None, acknowledged).await,
        }
    }

    /// Publishes again what was not acknowledged.
    pub async fn retry(&mut self, place: &Place) {
        let (end, nobody) = (Some(self.next), Semaphore::new(0));
        match self.way {
            Way::WebSocket => self.by_web_socket(place, end, &nobody).await,
            Way::Http => self.by_http(place, end, &nobody).await,
        }
        assert!(self.pending.is_empty(), "{:?} stay", self.pending);
    }

    async fn by_web_socket(&mut self, place: &Place, end: Option<u64>, acknowledged: &Semaphore) {
        let mut client = place.client(&self.user()).await;
        let mut sent = 0;
        loop {
            while end.is_none() && self.pending.len() < WINDOW {
                self.pending.push_back(self.next);
                self.next += 1;
            }
            if self.pending.is_empty() {
                return;
            }
            let fresh: Vec<String> = self.pending.range(sent..).map(|n| self.frame(*n)).collect();
            sent = self.pending.len();
            if !fresh.is_empty() {
                let message = Message::text(fresh.join("\n"));
                if client.socket.send(message).await.is_err() {
                    return;
                }
            }
            let Some(Ok(Message::Text(text))) = client.socket.next().await else {
                return;
            };
            for frame in wire::parse(&text) {
                assert_eq!(frame["t"], "ok", "{frame}");
                assert_eq!(frame["i"], self.pending[0]);
                self.acknowledge(&frame["e"], &frame["o"]);
                sent -= 1;
                acknowledged.add_permits(1);
            }
        }
    }

    fn frame(&self, n: u64) -> String {
        let id = self.id(n);
        let frame = json!({
            "t": "pub", "i": n, "ch": Self::channel(n), "id": id, "d": {"id": id}, "k": "key"
        });
        frame.to_string()
    }

    async fn by_http(&mut self, place: &Place, end: Option<u64>, acknowledged: &Semaphore) {
        let client = reqwest::Client::new();
        loop {
            if end.is_none() && self.pending.is_empty() {
                self.pending.push_back(self.next);
                self.next += 1;
            }
            let Some(&n) = self.pending.front() else {
                return;
            };
            let id = self.id(n);
            let request = client.post(place.url("/v1/publish")).bearer_auth(API_KEY);
            let body = json!({"channel": Self::channel(n), "id": id, "data": {"id": id}});
            let Ok(response) = request.json(&body).send().await else {
                return;
            };
            let Ok(answer) = response.json::<Value>().await else {
                return;
            };
            let result = &answer["results"][0];
            self.acknowledge(&result["epoch"], &result["offset"]);
            acknowledged.add_permits(1);
        }
    }
}
