//! How many answers of Redis a publication and a resume wait for, one after another.
//!
//! The answers are held back by a known time, so what one takes longer counts the waits: a
//! pipeline is one wait, however many commands are in it.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{quantile, two_nodes};
use crate::{
    harness::{
        ask::info,
        nodes::Nodes,
        proxy::{Direction, Mode, Whose},
        topology::{Layout, Topology},
    },
    support::{Client, Resume, with},
};

/// How long answers are held back. Below the deadline of a write, 500 ms.
const HELD: Duration = Duration::from_millis(100);
const TRIALS: usize = 7;
/// Subscriptions of the session that moves.
const CHANNELS: usize = 50;
const PUBLICATIONS: u64 = 500;
/// Without work, to know what the nodes ask for of themselves.
const IDLE: Duration = Duration::from_secs(3);

pub async fn measure(program: &Path) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (topology, nodes) = two_nodes(program, folder.path(), Layout::Alone).await;
    let stage = Stage { topology, nodes };
    let publish = stage.waits("publish", Stage::publish).await;
    let fresh = stage
        .waits("resume", async |stage, trial, mode| {
            stage.resume(trial, Read::Nowhere, mode).await
        })
        .await;
    let followed = stage
        .waits("resume, channels read here", async |stage, trial, mode| {
            stage.resume(trial, Read::Here, mode).await
        })
        .await;
    let Stage { topology, nodes } = stage;
    let commands = commands_per_publication(&topology, &nodes).await;
    format!(
        "round trips to Redis in sequence (answers held back by {HELD:?})\n\
         \x20 publish                                     {publish:.2}\n\
         \x20 resume, {CHANNELS} channels nobody reads here yet    {fresh:.2}\n\
         \x20 resume, {CHANNELS} channels read here already        {followed:.2}\n\
         commands a client of Redis sends for one publication\n{commands}"
    )
}

/// Who reads the channels besides the session that moves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Read {
    /// Nobody where it goes on.
    Nowhere,
    /// Somebody there.
    Here,
}

struct Stage {
    topology: Topology,
    nodes: Nodes,
}

impl Stage {
    /// How many answers an action waits for: the median of how much longer it takes with the
    /// answers held back. The action gets the number of its trial and how answers go, which it
    /// sets for what is measured alone.
    async fn waits(
        &self,
        what: &str,
        mut action: impl AsyncFnMut(&Self, usize, Mode) -> Duration,
    ) -> f64 {
        let mut medians = Vec::new();
        for (half, mode) in [Mode::Pass, Mode::Delay(HELD)].into_iter().enumerate() {
            let mut seconds = Vec::new();
            for trial in 0..TRIALS {
                let took = action(self, half * TRIALS + trial, mode).await;
                self.answers(Mode::Pass);
                seconds.push(took.as_secs_f64());
            }
            let median = quantile(&mut seconds, 0.5);
            eprintln!("  {what}, {mode:?}: {:.1} ms", median * 1e3);
            medians.push(median);
        }
        (medians[1] - medians[0]) / HELD.as_secs_f64()
    }

    /// How Redis' answers reach node 1.
    fn answers(&self, mode: Mode) {
        self.topology.fronts[1].set(Whose::All, Direction::Down, mode);
    }

    async fn publish(&self, trial: usize, mode: Mode) -> Duration {
        let mut client = Client::connect(self.nodes.address(1)).await;
        client.hello(&format!("publisher-{trial}"), json!({})).await;
        self.answers(mode);
        let begun = Instant::now();
        client.publish("log:trips", json!(trial)).await;
        begun.elapsed()
    }

    /// A session of many channels leaves node 0 and goes on at node 1, with something to be
    /// replayed in each; from its `hello` to the last `live`.
    async fn resume(&self, trial: usize, read: Read, mode: Mode) -> Duration {
        let here = usize::from(read == Read::Here);
        let name = |channel: usize| format!("log:{here}-{trial}-{channel}");
        let user = format!("mover-{here}-{trial}");
        let mut client = Client::connect(self.nodes.address(0)).await;
        client.hello(&user, json!({})).await;
        let mut subs = Vec::new();
        for channel in 0..CHANNELS {
            let ok = client.sub(&name(channel), json!({})).await;
            subs.push(json!({"ch": name(channel), "e": ok["e"], "o": ok["o"]}));
        }
        let session = client.cut();
        let mut other = Client::connect(self.nodes.address(here)).await;
        other.hello("other", json!({})).await;
        for channel in 0..CHANNELS {
            if read == Read::Here {
                other.sub(&name(channel), json!({})).await;
            }
            let done = other.publish(&name(channel), json!("missed")).await;
            assert_eq!(done["o"], 1);
        }
        let mut client = Client::connect(self.nodes.address(1)).await;
        let hello = with(
            session.hello(Resume::next_attempt()),
            &json!({"subs": subs}),
        );
        self.answers(mode);
        let begun = Instant::now();
        let welcome = client.hello(&user, hello).await;
        assert_eq!(welcome["resumed"], true, "{welcome}");
        let mut live = 0;
        while live < CHANNELS {
            let frame: Value = client.frame().await;
            if frame["t"] == "live" {
                assert_eq!(frame["n"], 1, "{frame}");
                live += 1;
            }
        }
        begun.elapsed()
    }
}

/// Calls of each command during publications, less what an idle hub does in that time.
async fn commands_per_publication(topology: &Topology, nodes: &Nodes) -> String {
    let port = topology.servers[0].port;
    let mut client = Client::connect(nodes.address(1)).await;
    client.hello("counted", json!({})).await;
    let before_idle = calls(port).await;
    tokio::time::sleep(IDLE).await;
    let before = calls(port).await;
    let begun = Instant::now();
    for number in 0..PUBLICATIONS {
        client.publish("log:counted", json!(number)).await;
    }
    let took = begun.elapsed();
    let after = calls(port).await;
    let mut text = String::new();
    for (command, count) in &after {
        let at = |all: &[(String, u64)]| {
            let found = all.iter().find(|(name, _)| name == command);
            found.map_or(0, |(_, count)| *count)
        };
        let idle =
            (at(&before) - at(&before_idle)) as f64 * took.as_secs_f64() / IDLE.as_secs_f64();
        let each = ((count - at(&before)) as f64 - idle) / PUBLICATIONS as f64;
        if each > 0.01 {
            text.push_str(&format!("  {command:<12} {each:.2}\n"));
        }
    }
    text
}

/// Calls of each command since the server began; those of scripts count as well.
async fn calls(port: u16) -> Vec<(String, u64)> {
    let stats = info(port, "commandstats").await;
    let calls = stats.iter().filter_map(|(name, fields)| {
        let name = name.strip_prefix("cmdstat_")?;
        let count = fields.split(',').next()?.strip_prefix("calls=")?;
        Some((name.to_owned(), count.parse().ok()?))
    });
    calls.collect()
}
