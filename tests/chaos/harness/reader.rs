//! Somebody who reads channels with the client library and writes down what it is told.

use std::sync::Arc;

use futures_util::{StreamExt, stream::select_all};
use tidewire_check::{
    self as check, Body, Channel, Client as Number, Event as Seen, Item, Key, Position, Recovery,
};
use tidewire_client::{Client, Event, Options, Start, Status};
use tidewire_protocol::{Name, Payload, command::Mode, frame::StateItem};
use tokio::sync::watch;

use super::{journal::Journal, nodes::token, publisher::FLOOD};

/// Nodes that take part: the first readers follow the channel of floods, one at each.
const FLOODED: usize = 3;

/// One client, its channels and where it writes.
pub struct Reader {
    number: Number,
    client: Client,
    channels: Vec<String>,
    journal: Arc<Journal>,
    wakes: watch::Receiver<u64>,
}

impl Reader {
    /// Connects to the first of these addresses that answers. With each of the `wakes` it asks
    /// its connection whether it lives, as a browser does whose machine woke.
    pub fn new(
        number: usize,
        urls: &[String],
        channels: Vec<String>,
        journal: Arc<Journal>,
        wakes: watch::Receiver<u64>,
    ) -> Self {
        Self {
            number: Number(u32::try_from(number).unwrap()),
            client: connect(urls, &format!("reader-{number}")),
            channels,
            journal,
            wakes,
        }
    }

    /// Reads until it is aborted.
    pub async fn follow(self) {
        let mut streams = Vec::new();
        for name in &self.channels {
            let (options, state) = self.options(name);
            let channel = self.journal.channel(name);
            let mode = match options.mode {
                Mode::Every => check::Mode::Every,
                Mode::Latest => check::Mode::Latest,
            };
            self.journal.feed(&Seen::Asked {
                client: self.number,
                channel,
                mode,
                state,
            });
            let subscription = self.client.subscribe(name, options).await.unwrap();
            streams.push(subscription.map(move |event| (channel, event)).boxed());
        }
        let flood = if usize::try_from(self.number.0).unwrap() < FLOODED {
            Some(
                self.client
                    .subscribe(FLOOD, Options::default())
                    .await
                    .unwrap(),
            )
        } else {
            None
        };
        let mut events = select_all(streams);
        let read = async {
            while let Some((channel, event)) = events.next().await {
                self.write(channel, event);
            }
        };
        let ignore = async {
            if let Some(mut flood) = flood {
                while flood.next().await.is_some() {}
            }
        };
        let mut wakes = self.wakes.clone();
        let wake = async {
            // A client that was blocked has said so.
            while wakes.changed().await.is_ok() && self.client.wake().await.is_ok() {}
        };
        tokio::join!(
            read,
            ignore,
            wake,
            follow_status(&self.client, &self.journal)
        );
    }

    fn write(&self, channel: Channel, event: Event) {
        let client = self.number;
        let began = |position, recovery| Seen::Began {
            client,
            channel,
            position: place(&position),
            recovery,
        };
        let seen = match event {
            Event::Fresh(position) => began(position, Recovery::Fresh),
            Event::Reset(position) => began(position, Recovery::Reset),
            Event::Message(message) => Seen::Message {
                client,
                channel,
                position: place(&message.position()),
                body: body(message.publication.payload.as_ref()),
                key: self.key(message.publication.key.as_ref()),
            },
            Event::State { items, more } => Seen::Page {
                client,
                channel,
                items: items.iter().map(|item| self.item(item)).collect(),
                more,
            },
            Event::Live { position, .. } => Seen::Live {
                client,
                channel,
                offset: position.offset,
            },
            Event::Gap { from, to, .. } => Seen::Gap {
                client,
                channel,
                from,
                to,
            },
            Event::Rewind { epoch, to, lost } => Seen::Rewind {
                client,
                channel,
                epoch: Arc::from(epoch.as_str()),
                to,
                lost,
            },
            Event::Stale(since) => return self.journal.stale(since.is_some()),
            Event::Refused { code, text } => {
                let name = code.name();
                let text = format!("reader {}, {channel:?}: {name} {text}", client.0);
                return self.journal.trouble(text);
            }
        };
        self.journal.feed(&seen);
    }

    fn item(&self, item: &StateItem) -> Item {
        let publication = &item.publication;
        let position = Position::new(item.epoch.as_str(), publication.offset);
        Item {
            position,
            key: self.key(publication.key.as_ref()).expect("state has keys"),
            body: body(publication.payload.as_ref()),
        }
    }

    fn key(&self, key: Option<&Name>) -> Option<Key> {
        key.map(|key| self.journal.key(key.as_str()))
    }

    /// How a channel is read, and whether its state is kept.
    fn options(&self, name: &str) -> (Options, bool) {
        if !name.starts_with("board:") {
            return (Options::default(), false);
        }
        let options = Options {
            start: Start::State,
            mode: if self.number.0.is_multiple_of(2) {
                Mode::Latest
            } else {
                Mode::Every
            },
            ..Options::default()
        };
        (options, true)
    }
}

fn place(position: &tidewire_client::Position) -> Position {
    Position::new(position.epoch.as_str(), position.offset)
}

/// What a publication says; none: it was removed or blanked.
fn body(payload: Option<&Payload>) -> Option<Body> {
    match payload? {
        Payload::Json(text) => Some(serde_json::from_slice(text).expect("bodies are numbers")),
        Payload::Bytes(_) => panic!("nobody publishes bytes"),
    }
}

/// A client of these addresses, the first one first.
pub fn connect(urls: &[String], user: &str) -> Client {
    let mut builder = Client::builder(&urls[0]).token(token(user));
    for url in &urls[1..] {
        builder = builder.url(url);
    }
    builder.connect().unwrap()
}

/// Counts the welcomes of a client, to its end; to be blocked is trouble.
pub async fn follow_status(client: &Client, journal: &Journal) {
    let mut status = client.status();
    let mut welcomed = false;
    loop {
        let now = status.borrow_and_update().clone();
        match now {
            Status::Online(online) => {
                journal.welcomed(welcomed.then_some(online.resumed));
                welcomed = true;
            }
            Status::Blocked(code) => journal.trouble(format!("blocked: {}", code.name())),
            Status::Connecting | Status::Offline { .. } | Status::Suspended | Status::Closed => {}
        }
        if status.changed().await.is_err() {
            return;
        }
    }
}
