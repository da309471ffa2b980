//! Somebody who reads both channels over every kill.

use std::collections::BTreeMap;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{CHANNELS, Heads};
use crate::{
    process::Place,
    support::{Client, PATIENCE, Resume},
    wire,
};

#[derive(Clone, Copy, PartialEq)]
pub enum Memory {
    /// Keeps its positions and resumes from them.
    Positions,
    /// Keeps the session alone, acknowledges, and is served from the floor the node wrote down.
    None,
}

/// What is known of one channel.
#[derive(Default)]
struct Seen {
    epoch: String,
    cursor: u64,
    acknowledged: u64,
}

pub struct Reader {
    user: &'static str,
    memory: Memory,
    client: Client,
    session: Resume,
    seen: BTreeMap<String, Seen>,
}

impl Reader {
    /// The reader that is the `checkpoints`th to begin.
    pub async fn begin(
        place: &Place,
        user: &'static str,
        memory: Memory,
        checkpoints: u32,
    ) -> Self {
        let mut client = Client::connect(place.address()).await;
        let subs: Vec<_> = CHANNELS.iter().map(|ch| json!({"ch": ch})).collect();
        client.hello(user, json!({"subs": subs})).await;
        let mut seen = BTreeMap::new();
        for channel in CHANNELS {
            let ok = client.find(|frame| frame["t"] == "ok").await;
            assert_eq!(ok["ch"], channel);
            let epoch = ok["e"].as_str().unwrap().to_owned();
            let first = Seen {
                epoch,
                ..Seen::default()
            };
            seen.insert(channel.to_owned(), first);
        }
        if memory == Memory::None {
            place.checkpoints_written(checkpoints).await;
        }
        let session = client.resume();
        Self {
            user,
            memory,
            client,
            session,
            seen,
        }
    }

    /// Reads until the node is gone, or until these positions.
    pub async fn follow(&mut self, until: Option<&Heads>) {
        loop {
            for frame in std::mem::take(&mut self.client.frames) {
                self.take(&frame);
            }
            if until.is_some_and(|heads| self.reached(heads)) {
                return;
            }
            let message = tokio::time::timeout(PATIENCE, self.client.socket.next()).await;
            let message =
                message.unwrap_or_else(|_| panic!("{} waits: {:?}", self.user, self.cursors()));
            let Some(Ok(Message::Text(text))) = message else {
                assert!(until.is_none(), "the node closed the connection");
                return;
            };
            self.client.frames.extend(wire::parse(&text));
            if self.memory == Memory::None {
                self.acknowledge().await;
            }
        }
    }

    fn reached(&self, heads: &Heads) -> bool {
        heads
            .iter()
            .all(|(channel, (_, head))| self.seen[channel].cursor >= *head)
    }

    fn cursors(&self) -> Vec<(&str, u64)> {
        let seen = self.seen.iter();
        seen.map(|(channel, seen)| (&**channel, seen.cursor))
            .collect()
    }

    fn take(&mut self, frame: &Value) {
        match frame["t"].as_str().unwrap() {
            "msg" => {
                let seen = self.seen.get_mut(frame["ch"].as_str().unwrap()).unwrap();
                assert_eq!(frame["o"], seen.cursor + 1, "{} reads {frame}", self.user);
                seen.cursor += 1;
            }
            "live" | "ping" => {}
            _ => panic!("{} reads {frame}", self.user),
        }
    }

    /// Acknowledges half of what was not acknowledged yet; whether the node is there or not.
    async fn acknowledge(&mut self) {
        let mut positions = serde_json::Map::new();
        for (channel, seen) in &mut self.seen {
            seen.acknowledged += seen.cursor.saturating_sub(seen.acknowledged).div_ceil(2);
            positions.insert(channel.clone(), json!([seen.epoch, seen.acknowledged]));
        }
        let frame = json!({"t": "ack", "c": positions}).to_string();
        let _gone = self.client.socket.send(Message::text(frame)).await;
    }

    /// Comes back to a node that was killed.
    pub async fn resume(&mut self, place: &Place) {
        let subs = self
            .seen
            .iter()
            .map(|(channel, seen)| json!({"ch": channel, "e": seen.epoch, "o": seen.cursor}));
        let more = match self.memory {
            Memory::Positions => json!({"subs": subs.collect::<Vec<_>>()}),
            Memory::None => json!({}),
        };
        self.client = place.resume(self.user, &self.session, more).await;
        for _ in CHANNELS {
            let begun = self.client.find(|frame| frame["t"] == "ok").await;
            let seen = self.seen.get_mut(begun["ch"].as_str().unwrap()).unwrap();
            assert_eq!(
                (&begun["rec"], &begun["e"]),
                (&json!("full"), &json!(seen.epoch))
            );
            let from = begun["o"].as_u64().unwrap();
            match self.memory {
                Memory::Positions => assert_eq!(from, seen.cursor),
                Memory::None => assert!(from <= seen.acknowledged, "{begun}"),
            }
            seen.cursor = from;
        }
    }

    /// Everything up to the heads was read, nothing beyond, in the epoch it is in.
    pub fn check(&self, heads: &Heads) {
        for (channel, (epoch, head)) in heads {
            let seen = &self.seen[channel];
            assert_eq!(
                (&seen.epoch, seen.cursor),
                (epoch, *head),
                "{} in {channel}",
                self.user
            );
        }
    }
}
