//! `tidewire top`: the nodes of a hub in a terminal, from what they expose at `/metrics`.
//!
//! Asks each node every few seconds and shows one line for each. Never asks for anything else, and
//! needs no key: `/metrics` is on the internal port.

mod table;

use std::{
    collections::VecDeque,
    io::{self, IsTerminal},
    time::Duration,
};

use anyhow::Context;
use futures_util::future::join_all;
use reqwest::{Client, Url};
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::table::Row;
use super::output;
use crate::telemetry::sample::Sample;

/// A node that takes longer to answer is shown as one that does not.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Most nodes that are watched: a screen of them.
const NODES_MAX: usize = 64;
/// What lag and delivery times are taken over: heartbeats, which measure lag, come every 25 s.
const WINDOW: Duration = Duration::from_secs(60);
/// Puts the cursor in the first place and clears what is below.
const REDRAW: &str = "\x1b[H\x1b[J";

/// Show the nodes of a hub as a live table.
///
/// Reads /metrics of each node: name their internal addresses. Columns: the broker as the node
/// sees it, connections, sessions, publications and deliveries a second, 99 % of deliveries and of
/// sessions' lag in the last minute, connections that take no bytes, resumes and gaps since the
/// node started, CPU in cores, memory.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tidewire top
  tidewire top --url http://10.0.0.1:9090 --url http://10.0.0.2:9090
  tidewire top --once | column -t       one table, for scripts")]
pub(super) struct Arguments {
    /// Address of a node; repeat it, or separate several by commas.
    #[arg(long = "url", value_name = "URL", default_value = "http://127.0.0.1:8080", env = "TIDEWIRE_URL", value_delimiter = ',', num_args = 1..=NODES_MAX)]
    urls: Vec<Url>,
    /// Seconds between two looks.
    #[arg(long, default_value_t = 2, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=30))]
    every: u64,
    /// Print one table and end.
    #[arg(long)]
    once: bool,
}

pub(super) fn run(arguments: Arguments) -> anyhow::Result<()> {
    let client = Client::builder().timeout(ANSWER_MAX).build();
    let client = client.context("cannot set up an HTTP client")?;
    let every = Duration::from_secs(arguments.every);
    let watched = arguments.urls.into_iter().map(|url| Watched::new(&url));
    let watched = watched.collect::<anyhow::Result<Vec<_>>>()?;
    super::block_on(watch(client, watched, every, arguments.once))
}

async fn watch(
    client: Client,
    mut nodes: Vec<Watched>,
    every: Duration,
    once: bool,
) -> anyhow::Result<()> {
    let redraws = !once && io::stdout().is_terminal();
    let mut looks = interval(every);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for look in 0_u64.. {
        looks.tick().await;
        join_all(nodes.iter_mut().map(|node| node.look(&client))).await;
        // Rates need two looks.
        if look == 0 && once {
            continue;
        }
        let rows: Vec<Row> = nodes.iter().map(Watched::row).collect();
        let clear = if redraws { REDRAW } else { "" };
        output::line(&format!("{clear}{}", table::draw(&rows)))?;
        if once {
            break;
        }
    }
    Ok(())
}

/// A node and what it said in the last minute.
#[derive(Debug)]
struct Watched {
    name: String,
    metrics: Url,
    /// Oldest first; one per look, so their number is bounded by [`WINDOW`].
    samples: VecDeque<(Instant, Sample)>,
    failure: Option<String>,
}

impl Watched {
    fn new(url: &Url) -> anyhow::Result<Self> {
        let metrics = url.join("/metrics").context("--url is not an address")?;
        let host = url.host_str().context("--url names no host")?;
        let name = url
            .port_or_known_default()
            .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        Ok(Self {
            name,
            metrics,
            samples: VecDeque::new(),
            failure: None,
        })
    }

    async fn look(&mut self, client: &Client) {
        match read(client, self.metrics.clone()).await {
            Ok(sample) => {
                let now = Instant::now();
                // A node that was started again counts from 0.
                if let Some((_, last)) = self.samples.back()
                    && last.started() != sample.started()
                {
                    self.samples.clear();
                }
                let is_old = |at: &Instant| now.duration_since(*at) > WINDOW;
                while self.samples.front().is_some_and(|(at, _)| is_old(at)) {
                    self.samples.pop_front();
                }
                self.samples.push_back((now, sample));
                self.failure = None;
            }
            Err(failure) => {
                self.samples.clear();
                self.failure = Some(failure);
            }
        }
    }

    fn row(&self) -> Row {
        let name = self.name.clone();
        let newest = self.samples.len().saturating_sub(1);
        let (Some((first_at, first)), Some((at, sample))) =
            (self.samples.front(), self.samples.back())
        else {
            let failure = self.failure.clone().unwrap_or_default();
            return Row::away(name, failure);
        };
        let before = newest
            .checked_sub(1)
            .and_then(|index| self.samples.get(index));
        let rate_since = before.map(|(then, before)| (at.duration_since(*then), before));
        let window = (first_at < at).then_some(first);
        Row::of(name, sample, rate_since, window)
    }
}

/// What a node exposes, or why there is nothing, in a few words.
async fn read(client: &Client, url: Url) -> Result<Sample, String> {
    let answer = client.get(url).send().await;
    let answer = answer.and_then(reqwest::Response::error_for_status);
    let text = match answer {
        Ok(answer) => answer.text().await,
        Err(error) => Err(error),
    };
    let text = text.map_err(|error| match error.status() {
        Some(status) => format!("answers {}", status.as_u16()),
        None => "does not answer".to_owned(),
    })?;
    let sample = Sample::parse(&text);
    sample.ok_or_else(|| "exposes no metrics of a node".to_owned())
}
