//! What operators read at `/metrics` after a session of work.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use serde_json::json;

use crate::support::{Client, PATIENCE, Resume, TestNode, with};

type Metrics = BTreeMap<String, f64>;

async fn scrape(node: &TestNode) -> Metrics {
    let url = format!("http://{}/metrics", node.address());
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

/// Scrapes until a metric has this value: connections end a moment after the client did.
pub async fn until(node: &TestNode, name: &str, value: f64) -> Metrics {
    tokio::time::timeout(PATIENCE, async {
        loop {
            let metrics = scrape(node).await;
            if metrics.get(name) == Some(&value) {
                return metrics;
            }
        }
    })
    .await
    .expect("the metric reaches its value")
}

#[tokio::test]
async fn what_happened_is_counted_and_what_ended_is_not_left_over() {
    let node = TestNode::start().await;
    let mut writer = node.client("bob").await;
    let mut reader = node.client("ada").await;
    reader.sub("news", json!({})).await;
    reader.sub("orders:1", json!({"mode": "latest"})).await;
    reader.sub("orders:1", json!({"mode": "every"})).await;
    reader.sub("orders:1", json!({"last": 3})).await;
    for n in 0..10 {
        writer.publish("news", json!(n)).await;
    }
    reader
        .find(|frame| frame["t"] == "msg" && frame["o"] == 10)
        .await;
    writer
        .refused(json!({"t": "pub", "ch": "nowhere:1", "d": 1}))
        .await;
    writer.refused(json!({"t": "teleport"})).await;
    let metrics = until(&node, "tidewire_broker_up", 1.0).await;
    for (name, value) in [
        ("tidewire_connections", 2.0),
        ("tidewire_sessions", 2.0),
        ("tidewire_subscriptions", 2.0),
        ("tidewire_connections_opened_total", 2.0),
        (
            "tidewire_publications_total{namespace=\"default\",source=\"client\"}",
            10.0,
        ),
        (
            "tidewire_deliveries_total{namespace=\"default\",mode=\"every\"}",
            10.0,
        ),
        ("tidewire_publish_seconds_count", 10.0),
        ("tidewire_invariant_violations_total", 0.0),
        ("tidewire_stalled_connections", 0.0),
    ] {
        assert_eq!(metrics.get(name), Some(&value), "{name} in {metrics:#?}");
    }

    let session = reader.cut();
    let mut again = Client::connect(node.address()).await;
    again
        .hello("ada", session.hello(Resume::next_attempt()))
        .await;
    let mut thief = Client::connect(node.address()).await;
    thief
        .hello("eve", session.hello(Resume::next_attempt()))
        .await;
    let mut late = Client::connect(node.address()).await;
    let hello = json!({"t": "hello", "token": crate::support::token("ada")});
    late.send(with(hello, &session.hello(1))).await;
    late.refused_with_bye().await;
    for mut client in [again, thief, writer] {
        client.send(json!({"t": "leave"})).await;
        client.closed().await;
    }
    let metrics = until(&node, "tidewire_connections", 0.0).await;
    for (name, value) in [
        ("tidewire_sessions", 0.0),
        ("tidewire_subscriptions", 0.0),
        ("tidewire_connections_opened_total", 5.0),
        ("tidewire_connections_closed_total{code=\"1000\"}", 3.0),
        ("tidewire_connections_closed_total{code=\"4409\"}", 1.0),
        ("tidewire_resumes_total{outcome=\"resumed\"}", 1.0),
        ("tidewire_resumes_total{outcome=\"refused\"}", 1.0),
        ("tidewire_resumes_total{outcome=\"fenced\"}", 1.0),
        ("tidewire_resumes_total{outcome=\"unknown\"}", 0.0),
    ] {
        assert_eq!(metrics.get(name), Some(&value), "{name} in {metrics:#?}");
    }
}

#[tokio::test]
async fn no_channel_user_or_session_becomes_a_label() {
    let node = TestNode::start().await;
    let before = scrape(&node).await.len();
    for n in 0..20 {
        let mut client = node.client(&format!("user-{n}")).await;
        let channel = format!("chat:room-{n}");
        client.sub(&channel, json!({"me": 1})).await;
        client.publish(&channel, json!(1)).await;
        client
            .refused(json!({"t": "sub", "ch": format!("unknown-{n}:x")}))
            .await;
    }
    let metrics = scrape(&node).await;
    assert!(
        metrics.len() <= before + 20,
        "{before} became {}",
        metrics.len()
    );
    for name in metrics.keys() {
        assert!(
            !name.contains("room-") && !name.contains("user-") && !name.contains("unknown-"),
            "{name}"
        );
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let inside = |path: PathBuf| {
        if path.is_dir() {
            files(&path)
        } else {
            vec![path]
        }
    };
    entries.flat_map(|entry| inside(entry.path())).collect()
}

/// What stands behind each `start` in the text, as long as `belongs` holds.
fn words<'a>(text: &'a str, start: &str, belongs: fn(char) -> bool) -> Vec<&'a str> {
    text.match_indices(start)
        .map(|(at, _)| {
            let word = &text[at + start.len()..];
            word.find(|c| !belongs(c)).map_or(word, |end| &word[..end])
        })
        .collect()
}

/// Every `label="value"` that a query of the text asks for.
fn label_values(text: &str) -> Vec<String> {
    let of_label = |label: &'static str| {
        let starts = [format!("{label}=\""), format!("{label}=~\"")];
        let found = starts.map(|start| words(text, &start, |c| c != '"').join("|"));
        let values = found.join("|");
        let pair = |value: &str| format!("{label}=\"{value}\"");
        let named = values.split('|').filter(|value| !value.is_empty());
        named.map(pair).collect::<Vec<_>>()
    };
    ["outcome", "reason", "code", "le"]
        .into_iter()
        .flat_map(of_label)
        .collect()
}

#[tokio::test]
async fn dashboards_and_alerts_name_only_what_a_node_exposes() {
    // What the adapter of Kubernetes calls a record of ours.
    const DERIVED: &str = "sessions_behind_ratio";
    let node = TestNode::start().await;
    let exposed = until(&node, "tidewire_broker_up", 1.0).await;
    let names: BTreeSet<&str> = exposed
        .keys()
        .map(|series| series.split('{').next().unwrap())
        .collect();
    let (mut metrics, mut values) = (0, 0);
    for path in files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")) {
        let text = fs::read_to_string(&path).unwrap().replace("\\\"", "\"");
        let shown = path.display();
        let of_names = |c: char| c.is_ascii_alphanumeric() || c == '_';
        for name in words(&text, "tidewire_", of_names) {
            let known = names.contains(format!("tidewire_{name}").as_str());
            assert!(known || name == DERIVED, "{shown}: tidewire_{name}");
            metrics += 1;
        }
        for pair in label_values(&text) {
            let known = exposed.keys().any(|series| series.contains(&pair));
            assert!(known, "{shown}: {pair}");
            values += 1;
        }
    }
    let counted = format!("{metrics} names, {values} values");
    assert!(metrics > 100 && values > 20, "{counted}");
}
