//! Sends publications to the HTTP API and repeats what failed for the moment.
//!
//! Used by `publish`.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use reqwest::{StatusCode, Url, header::RETRY_AFTER};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidewire_client::Backoff;

use crate::cli::{client::Target, output};

/// Longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Tries of one batch: some minutes, the time in which ids are remembered.
const TRIES_MAX: u32 = 10;

/// One publication as the API takes it.
#[derive(Debug, Serialize)]
pub(super) struct Item {
    pub(super) channel: String,
    pub(super) data: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) event: Option<String>,
    pub(super) id: String,
}

/// What became of one publication.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Outcome {
    channel: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<serde_json::Value>,
}

impl Outcome {
    /// Why it was refused, if it was.
    pub(super) fn refusal(&self) -> Option<String> {
        self.error.as_ref().map(told)
    }
}

#[derive(Deserialize)]
struct Answer {
    results: Vec<Outcome>,
}

#[derive(Serialize)]
struct Batch<'a> {
    items: &'a [Item],
}

/// What is said for people in a problem or an error.
fn told(error: &serde_json::Value) -> String {
    let part = |names: &[&str]| {
        let mut found = names.iter().filter_map(|name| error.get(name)?.as_str());
        found.next().map(str::to_owned)
    };
    match (part(&["name", "title"]), part(&["text", "detail"])) {
        (Some(name), Some(text)) => format!("{name}: {text}"),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => error
            .as_str()
            .map_or_else(|| error.to_string(), str::to_owned),
    }
}

/// A node's HTTP API.
#[derive(Debug)]
pub(super) struct Sender {
    client: reqwest::Client,
    one: Url,
    batch: Url,
    api_key: String,
}

enum Failure {
    /// Another try may succeed, after this long if the node said so.
    Passing(anyhow::Error, Option<Duration>),
    Final(anyhow::Error),
}

impl Sender {
    pub(super) fn new(target: &Target, api_key: String) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .user_agent(concat!("tidewire/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("cannot set up HTTP")?;
        Ok(Self {
            client,
            one: target.address("/v1/publish", false)?,
            batch: target.address("/v1/batch", false)?,
            api_key,
        })
    }

    /// Publishes in order; answers what became of each.
    ///
    /// # Errors
    /// The node refuses the whole, or did not answer in [`TRIES_MAX`] tries.
    pub(super) async fn send(&self, items: &[Item]) -> anyhow::Result<Vec<Outcome>> {
        let mut backoff = Backoff::default();
        loop {
            match self.attempt(items).await {
                Ok(outcomes) => return Ok(outcomes),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(error, _)) if backoff.failures() + 1 >= TRIES_MAX => {
                    return Err(error.context(format!("gave up after {TRIES_MAX} tries")));
                }
                Err(Failure::Passing(error, asked)) => {
                    let wait = backoff.next_wait(asked);
                    output::note(&format!(
                        "{error:#}; trying again in {:.1} s",
                        wait.as_secs_f32()
                    ));
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    async fn attempt(&self, items: &[Item]) -> Result<Vec<Outcome>, Failure> {
        let request = match items {
            [item] => self.client.post(self.one.clone()).json(item),
            _ => self.client.post(self.batch.clone()).json(&Batch { items }),
        };
        let sent = request.bearer_auth(&self.api_key).send().await;
        let response = sent.map_err(|error| {
            let address = self.one.origin().ascii_serialization();
            let error = anyhow::Error::new(error.without_url());
            Failure::Passing(error.context(format!("no answer from {address}")), None)
        })?;
        let status = response.status();
        let asked = response.headers().get(RETRY_AFTER).and_then(|after| {
            let seconds = after.to_str().ok()?.parse().ok()?;
            Some(Duration::from_secs(seconds))
        });
        let body = response.bytes().await.map_err(|error| {
            let error = anyhow::Error::new(error.without_url());
            Failure::Passing(error.context("the answer broke off"), None)
        })?;
        if status.is_success() {
            return outcomes(&body, items.len()).map_err(Failure::Final);
        }
        let problem = serde_json::from_slice(&body).map_or_else(
            |_no_problem| status.to_string(),
            |problem| format!("{}: {}", status.as_u16(), told(&problem)),
        );
        let passing = matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT
        );
        let error = anyhow!("the node answered {problem}");
        Err(if passing {
            Failure::Passing(error, asked)
        } else {
            Failure::Final(error)
        })
    }
}

fn outcomes(body: &[u8], wanted: usize) -> anyhow::Result<Vec<Outcome>> {
    let answer: Answer = serde_json::from_slice(body).context("the answer is not the API's")?;
    if answer.results.len() != wanted {
        bail!("{} results for {wanted} publications", answer.results.len());
    }
    Ok(answer.results)
}
