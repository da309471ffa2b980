//! How much the Redis servers work: commands a second, sampled while the scenario runs.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

use super::topology::commands;

const SAMPLE_EVERY: Duration = Duration::from_millis(500);

/// Samples until it is dropped.
pub struct Load {
    samples: Arc<Mutex<Vec<Sample>>>,
    sampling: JoinHandle<()>,
}

struct Sample {
    at: Instant,
    /// Commands of all primaries since the sample before, and in how long.
    commands: u64,
    over: Duration,
}

impl Load {
    /// Watches the servers at these ports.
    pub fn watch(ports: Vec<u16>) -> Self {
        let samples = Arc::new(Mutex::new(Vec::new()));
        let sampling = tokio::spawn(sample(ports, Arc::clone(&samples)));
        Self { samples, sampling }
    }

    /// Commands a second between two moments; None: nothing was measured then.
    pub fn rate(&self, from: Instant, to: Instant) -> Option<f64> {
        let samples = self.samples.lock().unwrap();
        let within = samples
            .iter()
            .filter(|sample| from < sample.at && sample.at <= to);
        let (commands, over) = within.fold((0, Duration::ZERO), |(commands, over), sample| {
            (commands + sample.commands, over + sample.over)
        });
        (!over.is_zero()).then(|| commands as f64 / over.as_secs_f64())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.sampling.abort();
    }
}

async fn sample(ports: Vec<u16>, samples: Arc<Mutex<Vec<Sample>>>) {
    let mut last: BTreeMap<u16, u64> = BTreeMap::new();
    let mut last_at = Instant::now();
    loop {
        tokio::time::sleep(SAMPLE_EVERY).await;
        let mut sum = 0;
        for port in &ports {
            let Some(now) = commands(*port).await else {
                last.remove(port);
                continue;
            };
            // A server that began again counts from 0; one met first tells nothing yet.
            let before = last.insert(*port, now);
            sum += before.map_or(0, |before| now.checked_sub(before).unwrap_or(now));
        }
        let at = Instant::now();
        samples.lock().unwrap().push(Sample {
            at,
            commands: sum,
            over: at - last_at,
        });
        last_at = at;
    }
}
