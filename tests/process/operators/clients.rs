//! Readers that count, each behind the balancer, and a backend that publishes numbers in order.

use std::time::Duration;

use serde_json::json;
use tidewire_client::{Client, Event, Options};
use tokio::{sync::watch, task::JoinHandle};

use super::stage::Stage;
use crate::support::{API_KEY, token};

const CHANNEL: &str = "orders:1";
/// Between publications: enough that many fall into each fault, few for a machine full of tests.
const PAUSE: Duration = Duration::from_millis(40);
/// After the last publication, everybody has everything within this.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Crowd {
    readers: Vec<JoinHandle<u64>>,
    publisher: JoinHandle<()>,
    finish: watch::Sender<bool>,
}

impl Crowd {
    /// Readers that have subscribed, and the first publications on their way.
    pub async fn join(stage: &Stage, count: usize) -> Self {
        let mut readers = Vec::new();
        for number in 0..count {
            let user = format!("reader-{number}");
            let client = Client::builder(stage.socket_url()).token(token(&user));
            let client = client.connect().unwrap();
            let mut events = client.subscribe(CHANNEL, Options::default()).await.unwrap();
            let begun = events.next().await;
            assert!(matches!(begun, Some(Event::Fresh(_))), "{begun:?}");
            readers.push(tokio::spawn(async move {
                let read = read(events).await;
                client.leave().await;
                read
            }));
        }
        let (finish, told) = watch::channel(false);
        let publisher = tokio::spawn(publish(stage.publish_url(), told));
        Self {
            readers,
            publisher,
            finish,
        }
    }

    /// Ends the publisher; every reader has read every publication once and in order.
    pub async fn everything_arrived_once(self) {
        self.finish.send(true).unwrap();
        self.publisher.await.unwrap();
        let mut counts = Vec::new();
        for reader in self.readers {
            let read = tokio::time::timeout(PATIENCE, reader).await;
            counts.push(read.expect("everything arrives").unwrap());
        }
        assert!(counts[0] > 20, "{counts:?}");
        assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
    }
}

/// Reads up to the publication that says that it is the last; how many there were.
async fn read(mut events: tidewire_client::Subscription) -> u64 {
    let mut count = 0;
    loop {
        match events.next().await {
            Some(Event::Message(message)) => {
                let data: serde_json::Value = message.json().unwrap();
                assert_eq!(data["n"], count + 1);
                count += 1;
                if data["last"] == true {
                    return count;
                }
            }
            Some(Event::Live { .. } | Event::Stale(_)) => {}
            other => panic!("after {count}: {other:?}"),
        }
    }
}

/// Publishes 1, 2, 3 …, each with its id until it is acknowledged, as a backend does.
async fn publish(url: String, told: watch::Receiver<bool>) {
    let backend = reqwest::Client::new();
    let mut pace = tokio::time::interval(PAUSE);
    for n in 1_u64.. {
        let last = *told.borrow();
        let body =
            json!({"channel": CHANNEL, "id": format!("p-{n}"), "data": {"n": n, "last": last}});
        loop {
            pace.tick().await;
            let request = backend.post(&url).bearer_auth(API_KEY).json(&body);
            let answer = request.timeout(Duration::from_secs(2)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                break;
            }
        }
        if last {
            return;
        }
    }
}
