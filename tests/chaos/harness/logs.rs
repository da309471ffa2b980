//! What survived: the logs of all channels at the end, read over HTTP like any backend would.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use tidewire_check::{Channel, Position, SurvivingLog};

use super::{journal::Journal, nodes::API_KEY};

/// For one page.
const PATIENCE: Duration = Duration::from_secs(10);
/// Publications in one page: the most a node gives.
const PAGE: u64 = 256;

/// Reads all logs at this address.
pub async fn read(
    url: &str,
    channels: &[String],
    journal: &Journal,
) -> BTreeMap<Channel, SurvivingLog> {
    let client = client();
    let mut logs = BTreeMap::new();
    for name in channels {
        let channel = journal.channel(name);
        let log = read_one(&client, url, name, &journal.epochs(channel), journal).await;
        logs.insert(channel, log);
    }
    logs
}

/// Where all logs end.
pub async fn heads(
    url: &str,
    channels: &[String],
    journal: &Journal,
) -> BTreeMap<Channel, Position> {
    let client = client();
    let mut heads = BTreeMap::new();
    for name in channels {
        let path = format!("{url}/v1/channels/{name}/history?limit=1");
        let page = get(&client, &path).await;
        let epoch = page["epoch"].as_str().unwrap();
        let head = Position::new(epoch, number(&page["offset"]));
        heads.insert(journal.channel(name), head);
    }
    heads
}

fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .timeout(PATIENCE)
        .build()
        .unwrap()
}

async fn read_one(
    client: &reqwest::Client,
    url: &str,
    name: &str,
    epochs: &[Arc<str>],
    journal: &Journal,
) -> SurvivingLog {
    let mut log = SurvivingLog::default();
    let mut after = 0;
    loop {
        let path = format!("{url}/v1/channels/{name}/history?after={after}&limit={PAGE}");
        let page = get(client, &path).await;
        log.head = number(&page["offset"]);
        log.first = page["first"].as_u64().unwrap_or(log.head + 1);
        log.lineage = lineage(page["epoch"].as_str().unwrap(), epochs);
        let items = page["items"].as_array().unwrap();
        for item in items {
            after = number(&item["offset"]);
            log.entries.insert(after, item["data"].as_u64());
        }
        if page["more"] != true || items.is_empty() {
            break;
        }
    }
    if name.starts_with("board:") {
        log.state = Some(state(client, url, name, journal).await);
    }
    log
}

async fn state(
    client: &reqwest::Client,
    url: &str,
    name: &str,
    journal: &Journal,
) -> BTreeMap<tidewire_check::Key, (u64, u64)> {
    let page = get(client, &format!("{url}/v1/channels/{name}/state")).await;
    assert_ne!(page["more"], true, "a handful of keys fits one page");
    let items = page["items"].as_array().unwrap().iter();
    items
        .map(|item| {
            let key = journal.key(item["key"].as_str().unwrap());
            (key, (number(&item["offset"]), number(&item["data"])))
        })
        .collect()
}

async fn get(client: &reqwest::Client, url: &str) -> Value {
    let answer = client.get(url).bearer_auth(API_KEY).send().await.unwrap();
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert!(status.is_success(), "{url}: {status} {text}");
    serde_json::from_str(&text).unwrap()
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("a number, not {value}"))
}

/// The generations of a log by its last epoch: each names the one before it, and those that
/// anybody was told of have a text. (`docs/cluster.md`: `life.generation.start.previous`.)
fn lineage(last: &str, epochs: &[Arc<str>]) -> Vec<(Arc<str>, u64)> {
    let mut found: Vec<(Arc<str>, u64)> = Vec::new();
    let mut next: Option<Arc<str>> = Some(Arc::from(last));
    let mut met = BTreeSet::new();
    while let Some(epoch) = next.take() {
        if !met.insert(Arc::clone(&epoch)) {
            break;
        }
        let parts: Vec<&str> = epoch.split('.').collect();
        let [life, _, start, previous] = parts[..] else {
            found.push((Arc::clone(&epoch), 1));
            break;
        };
        found.push((Arc::clone(&epoch), u64::from_str_radix(start, 36).unwrap()));
        let before = format!("{life}.{previous}.");
        next = epochs
            .iter()
            .find(|epoch| !previous.is_empty() && epoch.starts_with(&before))
            .cloned();
    }
    found.reverse();
    found
}
