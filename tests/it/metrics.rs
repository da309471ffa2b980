//! What operators read at `/metrics` after a session of work.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::json;

use crate::{
    seeded::Seeded,
    support::{API_KEY, Client, PATIENCE, Resume, TestNode, with},
};

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

/// What Prometheus' own tool makes of a node's page: series by metric, and none of its complaints.
async fn checked(node: &TestNode) -> BTreeMap<String, u64> {
    let url = format!("http://{}/metrics", node.address());
    let page = reqwest::get(url).await.unwrap().bytes().await.unwrap();
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics", "--extended"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool, of Debian's package prometheus");
    promtool.stdin.take().unwrap().write_all(&page).unwrap();
    let said = promtool.wait_with_output().unwrap();
    let (table, complaints) = (text(&said.stdout), text(&said.stderr));
    assert!(
        said.status.success() && complaints.is_empty(),
        "{complaints}"
    );
    let series = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
    };
    table.lines().filter_map(series).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn ten_thousand_channels_users_and_sessions_add_no_series() {
    const CHANNELS: usize = 10_000;
    const BATCH: usize = 1_000;
    const USERS: usize = 40;
    let node = TestNode::start().await;
    until(&node, "tidewire_broker_up", 1.0).await;
    let before = checked(&node).await;
    let mut seeded = Seeded(0x7469_6465);
    let mut name = |space: &str| format!("{space}{:016x}", seeded.next());
    let backend = reqwest::Client::new();
    let url = format!("http://{}/v1/batch", node.address());
    let mut channels = Vec::with_capacity(CHANNELS);
    for _ in 0..CHANNELS / BATCH {
        let batch: Vec<_> = (0..BATCH).map(|_| name("chat:")).collect();
        let items: Vec<_> = batch
            .iter()
            .map(
                |channel| json!({"channel": channel, "data": 1, "key": name("k"), "id": name("i")}),
            )
            .collect();
        let request = backend.post(&url).bearer_auth(API_KEY);
        let answer = request.json(&json!({"items": items})).send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
        channels.extend(batch);
    }
    for (at, _) in channels.iter().enumerate().take(USERS) {
        let mut client = node.client(&name("user-")).await;
        for channel in channels.iter().skip(at).step_by(CHANNELS / 10) {
            client.sub(channel, json!({"me": 1, "last": 1})).await;
        }
        client
            .refused(json!({"t": "sub", "ch": name("unknown-") + ":x"}))
            .await;
    }
    let page = scrape(&node).await;
    let published = "tidewire_publications_total{namespace=\"chat\",source=\"api\"}";
    assert_eq!(page.get(published), Some(&(CHANNELS as f64)));
    assert_eq!(
        page.get("tidewire_connections_opened_total"),
        Some(&(USERS as f64))
    );
    let after = checked(&node).await;
    assert!(before.len() > 30, "{before:?}");
    assert_eq!(after, before);
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
