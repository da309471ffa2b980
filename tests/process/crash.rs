//! SIGKILL in the middle of everything: what was acknowledged is there exactly once and in order,
//! what was not is applied once when it is tried again, and every reader goes on where it was.

mod publisher;
mod reader;

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::{
    process::Place,
    seeded::Seeded,
    support::{API_KEY, Client, Resume},
};
use publisher::{Publisher, Way};
use reader::{Memory, Reader};

/// Channels with and without state.
pub const CHANNELS: [&str; 2] = ["news", "orders:1"];

/// Positions of channels: epoch and offset.
type Heads = BTreeMap<String, (String, u64)>;

/// Everything in the history of a channel, oldest first, over HTTP.
async fn history(place: &Place, channel: &str) -> (String, Vec<Value>) {
    let mut items: Vec<Value> = Vec::new();
    loop {
        let after = items
            .last()
            .map_or(0, |item| item["offset"].as_u64().unwrap());
        let url = place.url(&format!("/v1/channels/{channel}/history?after={after}"));
        let answer = reqwest::Client::new().get(url).bearer_auth(API_KEY).send();
        let page: Value = answer.await.unwrap().json().await.unwrap();
        items.extend(page["items"].as_array().unwrap().iter().cloned());
        if page["more"] != true {
            return (page["epoch"].as_str().unwrap().to_owned(), items);
        }
    }
}

/// Compares history with what publishers were told; where each channel ends.
async fn check(
    place: &Place,
    publishers: &[Publisher],
    epochs: &mut BTreeMap<String, String>,
) -> Heads {
    let mut heads = Heads::new();
    for channel in CHANNELS {
        let (epoch, items) = history(place, channel).await;
        assert_eq!(
            epochs
                .entry(channel.to_owned())
                .or_insert_with(|| epoch.clone()),
            &epoch
        );
        let mut found = BTreeMap::new();
        for (item, offset) in items.iter().zip(1..) {
            assert_eq!(item["offset"], offset, "a hole in {channel}");
            let id = item["id"].as_str().unwrap().to_owned();
            assert_eq!(item["data"]["id"], id);
            let before = found.insert(id, offset);
            assert_eq!(before, None, "{item} is there twice");
        }
        let mut expected = 0;
        for publisher in publishers {
            let mut last = 0;
            for (id, place) in publisher.acknowledged(channel) {
                assert_eq!(found.get(id), Some(&place.1), "{id} in {channel}");
                assert_eq!(place.0, epoch);
                assert!(place.1 > last, "{id} is out of order in {channel}");
                last = place.1;
                expected += 1;
            }
        }
        assert_eq!(
            found.len(),
            expected,
            "{channel} holds what nobody was told"
        );
        heads.insert(channel.to_owned(), (epoch, items.len() as u64));
    }
    heads
}

/// Kills the node `rounds` times while everybody works, and checks everything after each.
async fn survive(place: &Place, rounds: usize, seed: u64) {
    let mut random = Seeded(seed);
    let mut node = place.start();
    let mut publishers: Vec<_> = [Way::WebSocket, Way::WebSocket, Way::Http, Way::Http]
        .into_iter()
        .zip(0..)
        .map(|(way, number)| Publisher::new(way, number))
        .collect();
    let mut readers = [
        Reader::begin(place, "ada", Memory::Positions, 1).await,
        Reader::begin(place, "bob", Memory::Positions, 2).await,
        Reader::begin(place, "cyd", Memory::None, 3).await,
    ];
    let mut epochs = BTreeMap::new();
    for round in 0..rounds {
        let never = format!("never-{round}");
        let quiet = Quiet::begin(place, &never).await;
        let acknowledged = Arc::new(Semaphore::new(0));
        let kill_after = u32::try_from(20 + random.below(300)).unwrap();
        let killed = async {
            let _enough = acknowledged.acquire_many(kill_after).await.unwrap();
            node.kill();
        };
        let work = publishers
            .iter_mut()
            .map(|publisher| publisher.run(place, &acknowledged));
        let read = readers.iter_mut().map(|reader| reader.follow(None));
        tokio::join!(
            killed,
            futures_util::future::join_all(work),
            futures_util::future::join_all(read)
        );

        node = place.start();
        quiet.goes_on(place).await;
        for publisher in &mut publishers {
            publisher.retry(place).await;
        }
        for reader in &mut readers {
            reader.resume(place).await;
        }
        let heads = check(place, &publishers, &mut epochs).await;
        for reader in &mut readers {
            reader.follow(Some(&heads)).await;
            reader.check(&heads);
        }
    }
}

/// Somebody who reads a channel that nobody has ever published to.
struct Quiet {
    client: Client,
    channel: String,
    epoch: Value,
}

impl Quiet {
    async fn begin(place: &Place, channel: &str) -> Self {
        let mut client = place.client("quiet").await;
        let ok = client.sub(channel, json!({})).await;
        Self {
            client,
            channel: channel.to_owned(),
            epoch: ok["e"].clone(),
        }
    }

    /// After the restart nothing is missing, and the first publication arrives as number 1.
    async fn goes_on(self, place: &Place) {
        let subs = json!({"subs": [{"ch": self.channel, "e": self.epoch, "o": 0}]});
        let mut client = place.resume("quiet", &self.client.cut(), subs).await;
        let begun = client.expect("ok").await;
        assert_eq!(
            (&begun["e"], &begun["o"], &begun["rec"]),
            (&self.epoch, &json!(0), &json!("full"))
        );
        client.expect("live").await;
        let done = client.publish(&self.channel, json!("first")).await;
        assert_eq!((&done["e"], &done["o"]), (&self.epoch, &json!(1)));
    }
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_or_repeated_over_six_kills() {
    survive(&Place::new(), 6, 0x5eed_0001).await;
}

#[tokio::test]
async fn the_same_holds_when_every_acknowledgement_waits_for_the_disk() {
    let place = Place::with("", "[storage]\nsync = \"always\"");
    survive(&place, 2, 0x5eed_0002).await;
}

#[tokio::test]
async fn a_kill_right_after_the_first_subscription_changes_no_epoch() {
    let place = Place::new();
    let mut node = place.start();
    for round in 0..4 {
        let quiet = Quiet::begin(&place, &format!("never-{round}")).await;
        node.kill();
        node = place.start();
        // What nobody has published to for two lives of the node has its epoch, too.
        node.kill();
        node = place.start();
        quiet.goes_on(&place).await;
    }
}

#[tokio::test]
async fn a_kill_right_after_the_welcome_loses_no_session() {
    let place = Place::new();
    let node = place.start();
    let session: Resume = place.client("ada").await.cut();
    node.kill();
    let _node = place.start();
    place.resume("ada", &session, json!({})).await;
}
