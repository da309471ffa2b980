//! How much the Redis servers work: commands and scripts a second, sampled while the scenario
//! runs. A script counts as one command, and each command inside of it as another.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

use super::topology::{Work, work};

const SAMPLE_EVERY: Duration = Duration::from_millis(500);

/// Samples until it is dropped.
pub struct Load {
    samples: Arc<Mutex<Vec<Sample>>>,
    sampling: JoinHandle<()>,
}

struct Sample {
    at: Instant,
    /// Of all primaries since the sample before, and in how long.
    work: Work,
    over: Duration,
}

/// What the servers do in a second.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Commands, those inside of scripts included.
    pub commands: f64,
    /// Scripts: of what the nodes send, nearly all.
    pub scripts: f64,
}

impl Load {
    /// Watches the servers at these ports.
    pub fn watch(ports: Vec<u16>) -> Self {
        let samples = Arc::new(Mutex::new(Vec::new()));
        let sampling = tokio::spawn(sample(ports, Arc::clone(&samples)));
        Self { samples, sampling }
    }

    /// The rate between two moments; None: nothing was measured then.
    pub fn rate(&self, from: Instant, to: Instant) -> Option<Rate> {
        let samples = self.samples.lock().unwrap();
        let within = samples
            .iter()
            .filter(|sample| from < sample.at && sample.at <= to);
        let (mut done, mut over) = (Work::default(), Duration::ZERO);
        for sample in within {
            done.add(sample.work);
            over += sample.over;
        }
        let a_second = |count: u64| count as f64 / over.as_secs_f64();
        (!over.is_zero()).then(|| Rate {
            commands: a_second(done.commands),
            scripts: a_second(done.scripts),
        })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.sampling.abort();
    }
}

async fn sample(ports: Vec<u16>, samples: Arc<Mutex<Vec<Sample>>>) {
    let mut last: BTreeMap<u16, Work> = BTreeMap::new();
    let mut last_at = Instant::now();
    loop {
        tokio::time::sleep(SAMPLE_EVERY).await;
        let mut sum = Work::default();
        for port in &ports {
            // What a busy server did not answer for is in its next answer.
            let Some(now) = work(*port).await else {
                continue;
            };
            // A server that began again counts from 0; one met first tells nothing yet.
            let before = last.insert(*port, now);
            sum.add(before.map_or_else(Work::default, |before| now.since(before)));
        }
        let at = Instant::now();
        samples.lock().unwrap().push(Sample {
            at,
            work: sum,
            over: at - last_at,
        });
        last_at = at;
    }
}
