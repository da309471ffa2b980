//! Clients that do everything at once for a while, by seed, while others publish: whatever they
//! do, each channel's offsets come without a hole that was not told.

use serde_json::{Value, json};

use crate::{
    seeded::Seeded,
    support::{CONFIG, Client, ENCODINGS, Resume, TestNode},
};

const CHANNELS: [&str; 4] = ["news", "small:x", "tiny:x", "volatile:x"];
const STEPS: u64 = 60;

/// What the client knows of one subscription.
#[derive(Clone, Default)]
struct Held {
    epoch: String,
    cursor: u64,
    latest: bool,
    /// Between the answer to a sub and `live`.
    replaying: bool,
    replayed: u64,
}

struct Journey {
    client: Client,
    user: String,
    protocol: &'static str,
    held: [Option<Held>; 4],
    seeded: Seeded,
    seen: u64,
    gaps: u64,
    resets: u64,
}

impl Journey {
    async fn begin(node: &TestNode, seed: u64) -> Self {
        let mut seeded = Seeded(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let protocol = *seeded.pick(&ENCODINGS);
        let user = format!("user-{seed}");
        let mut client = Client::connect_as(node.address(), protocol).await;
        client.hello(&user, json!({})).await;
        Self {
            client,
            user,
            protocol,
            held: Default::default(),
            seeded,
            seen: 0,
            gaps: 0,
            resets: 0,
        }
    }

    /// Takes one frame into account.
    fn take(&mut self, frame: &Value) {
        let Some(at) = CHANNELS.iter().position(|name| frame["ch"] == *name) else {
            return;
        };
        let offset = frame["o"].as_u64().unwrap_or_default();
        if frame["t"] == "ok" {
            self.resets += u64::from(frame["rec"] == "reset");
            let latest = self.held[at].as_ref().is_some_and(|held| held.latest);
            self.held[at] = Some(Held {
                epoch: frame["e"].as_str().unwrap().to_owned(),
                cursor: offset,
                latest,
                replaying: true,
                replayed: 0,
            });
            return;
        }
        let held = self.held[at]
            .as_mut()
            .unwrap_or_else(|| panic!("not subscribed: {frame}"));
        match frame["t"].as_str().unwrap() {
            "msg" => {
                let next = if held.latest {
                    offset.max(held.cursor + 1)
                } else {
                    held.cursor + 1
                };
                assert_eq!(offset, next, "{frame} of {}", self.user);
                held.cursor = offset;
                held.replayed += 1;
                self.seen += 1;
            }
            "gap" => {
                assert_eq!(frame["from"], held.cursor + 1, "{frame} of {}", self.user);
                assert!(frame["to"].as_u64().unwrap() > held.cursor);
                held.cursor = frame["to"].as_u64().unwrap();
                self.gaps += 1;
            }
            "state" => {
                held.replayed *= u64::from(held.replaying);
                held.replaying = true;
                for item in frame["items"].as_array().unwrap() {
                    assert!(item["o"].as_u64().unwrap() <= held.cursor, "{frame}");
                }
            }
            "live" => {
                assert!(held.replaying, "a second live: {frame}");
                assert!(
                    held.latest || offset == held.cursor,
                    "{frame} of {}",
                    self.user
                );
                assert_eq!(frame["n"], held.replayed, "{frame} of {}", self.user);
                held.replaying = false;
                held.cursor = held.cursor.max(offset);
            }
            other => panic!("{other}: {frame}"),
        }
    }

    async fn settle(&mut self) {
        for frame in self.client.drained().await {
            self.take(&frame);
        }
    }

    async fn sub(&mut self, at: usize) {
        let mut wish =
            json!({"t": "sub", "ch": CHANNELS[at], "i": 7_000_000 + self.seeded.below(1000)});
        let held = self.held[at].clone();
        match self.seeded.below(4) {
            0 => wish["last"] = json!(self.seeded.below(10) + 1),
            1 if at == 2 => wish["state"] = json!(true),
            2 | 3 => {
                if let Some(held) = &held {
                    let back = self.seeded.below(150).min(held.cursor);
                    wish["e"] = json!(held.epoch);
                    wish["o"] = json!(held.cursor - back);
                }
            }
            _ => {}
        }
        let latest = at == 2 && self.seeded.below(2) == 0;
        if latest {
            wish["mode"] = json!("latest");
        }
        if self.seeded.below(3) == 0 {
            wish["hz"] = json!(1000);
        }
        let number = wish["i"].clone();
        self.client.send(wish).await;
        let frames = self.client.drained().await;
        let answer = frames.iter().position(|frame| frame["i"] == number);
        let answer = answer.unwrap_or_else(|| panic!("no answer in {frames:?}"));
        frames[..answer].iter().for_each(|frame| self.take(frame));
        self.held[at].get_or_insert_default().latest = latest;
        frames[answer..].iter().for_each(|frame| self.take(frame));
    }

    async fn unsub(&mut self, at: usize) {
        self.client
            .send(json!({"t": "unsub", "ch": CHANNELS[at], "i": 8_000_000}))
            .await;
        for frame in self.client.drained().await {
            self.take(&frame);
            if frame["i"] == 8_000_000 {
                self.held[at] = None;
            }
        }
    }

    /// Cuts the connection and resumes, with positions or without.
    async fn resume(&mut self, node: &TestNode) {
        let with_positions = self.seeded.below(2) == 0;
        let session = self.client.resume();
        let attempt = Resume::next_attempt();
        let mut hello = session.hello(attempt);
        if with_positions {
            let entry = |(at, held): (usize, &Option<Held>)| {
                let held = held.as_ref()?;
                let mode = if held.latest { "latest" } else { "every" };
                Some(json!({"ch": CHANNELS[at], "e": held.epoch, "o": held.cursor, "mode": mode}))
            };
            hello["subs"] = self.held.iter().enumerate().filter_map(entry).collect();
        }
        let mut client = Client::connect_as(node.address(), self.protocol).await;
        let welcome = client.hello(&self.user, hello).await;
        assert_eq!(welcome["resumed"], true);
        self.client = client;
        let before = self.held.clone();
        self.settle().await;
        for (held, before) in self.held.iter().zip(&before) {
            assert_eq!(
                held.is_some(),
                before.is_some(),
                "subscriptions of {}",
                self.user
            );
        }
    }

    async fn acknowledge(&mut self) {
        let entry = |(at, held): (usize, &Option<Held>)| {
            let held = held.as_ref()?;
            Some((CHANNELS[at].to_owned(), json!([held.epoch, held.cursor])))
        };
        let c: serde_json::Map<_, _> = self.held.iter().enumerate().filter_map(entry).collect();
        self.client.send(json!({"t": "ack", "c": c})).await;
    }

    async fn run(mut self, node: &TestNode) -> Self {
        for _ in 0..STEPS {
            let at = usize::try_from(self.seeded.below(4)).unwrap();
            match self.seeded.below(300) {
                0 => node.delete(CHANNELS[at]).await,
                1..150 => self.sub(at).await,
                150..180 => self.unsub(at).await,
                180..240 => self.resume(node).await,
                240..270 => self.acknowledge().await,
                _ => self.settle().await,
            }
        }
        self
    }

    /// Reads until every subscription has reached these heads.
    async fn arrive(&mut self, heads: &[Value]) {
        let is_behind = |(held, head): (&Option<Held>, &Value)| {
            held.as_ref()
                .is_some_and(|held| head["e"] != held.epoch || head["o"] != held.cursor)
        };
        while self.held.iter().zip(heads).any(is_behind) {
            let frame = self.client.frame().await;
            self.take(&frame);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_clients_do_no_publication_is_skipped_or_doubled_untold() {
    let config = CONFIG
        .replacen("history_size = 1000", "history_size = 100", 1)
        .replace("[limits]", "[limits]\ntail_bytes = \"256KiB\"");
    let node = TestNode::with(&config).await;
    let mut writer = node.client("writer").await;
    let data = "x".repeat(4000);
    let writing = async {
        for n in 0..u64::MAX {
            let frames: Vec<Value> = CHANNELS
                .iter()
                .map(|name| json!({"t": "pub", "ch": name, "k": format!("k{}", n % 5), "d": data}))
                .collect();
            writer.send_all(&frames).await;
            writer.drained().await;
        }
    };
    let travelling = async {
        let journeys =
            (1..=20).map(async |seed| Journey::begin(&node, seed).await.run(&node).await);
        futures_util::future::join_all(journeys).await
    };
    let mut journeys = tokio::select! {
        () = writing => return,
        journeys = travelling => journeys,
    };
    let mut last = node.client("last").await;
    let mut heads = Vec::new();
    for name in CHANNELS {
        heads.push(
            last.publish_with(name, json!({"k": "last", "d": "end"}))
                .await,
        );
    }
    for journey in &mut journeys {
        journey.arrive(&heads).await;
    }
    let total = |count: fn(&Journey) -> u64| journeys.iter().map(count).sum::<u64>();
    assert!(total(|journey| journey.seen) > 100);
    let (gaps, resets) = (
        total(|journey| journey.gaps),
        total(|journey| journey.resets),
    );
    assert!(gaps > 0 && resets > 0, "{gaps} gaps, {resets} resets");
}
