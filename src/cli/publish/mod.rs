//! `tidewire publish`: publishes from a shell, or from lines of standard input.
//!
//! Every publication carries an id, so that trying again never publishes twice.

mod lines;
mod send;
#[cfg(test)]
mod tests;

use std::io;

use anyhow::bail;
use tidewire_protocol::{ChannelName, Name};

use super::{block_on, client::Target, output};
use send::{Item, Sender};

/// Publish DATA to a channel; without DATA, every line of standard input.
///
/// What is JSON is published as JSON, anything else as a JSON string. Lines are published in
/// order and in batches; a try that fails for the moment is repeated and never applied twice.
/// Exits with 1 if anything was refused.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tidewire publish chat:lobby 'hello'
  tidewire publish orders:42 '{\"at\":\"gate\"}' --key status --id 7f3a
  tail -f readings.ndjson | tidewire publish dash:plant")]
pub(super) struct Arguments {
    /// The channel.
    channel: String,
    /// The data; without it, lines of standard input.
    data: Option<String>,
    /// The key of the channel's state to set.
    #[arg(long)]
    key: Option<String>,
    /// The publication id, for idempotency; only with DATA. Default: a new one.
    #[arg(long, requires = "data")]
    id: Option<String>,
    /// The event name.
    #[arg(long)]
    event: Option<String>,
    /// The API key.
    #[arg(long, env = "TIDEWIRE_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// What all publications of one run share.
#[derive(Debug, Clone)]
struct Template {
    channel: String,
    key: Option<String>,
    event: Option<String>,
}

impl Template {
    /// One publication; text that is no JSON becomes a JSON string.
    fn item(&self, text: &str, id: Option<String>) -> anyhow::Result<Item> {
        let data = match serde_json::value::RawValue::from_string(text.trim().to_owned()) {
            Ok(json) => json,
            Err(_) => serde_json::value::to_raw_value(text)?,
        };
        Ok(Item {
            channel: self.channel.clone(),
            data,
            key: self.key.clone(),
            event: self.event.clone(),
            id: id.unwrap_or_else(|| uuid::Uuid::now_v7().simple().to_string()),
        })
    }
}

pub(super) fn run(arguments: Arguments) -> anyhow::Result<()> {
    let template = template(&arguments)?;
    let api_key = arguments.api_key.or_else(|| {
        let kept = arguments.target.development()?;
        Some(kept.api_key.expose().to_owned())
    });
    let Some(api_key) = api_key else {
        bail!("an API key is needed: --api-key or TIDEWIRE_API_KEY");
    };
    let sender = Sender::new(&arguments.target, api_key)?;
    block_on(async move {
        match arguments.data {
            Some(data) => one(&sender, template.item(&data, arguments.id)?).await,
            None => many(&sender, &template, io::BufReader::new(io::stdin())).await,
        }
    })
}

/// Checks names here, so that a mistake is told before anything is sent.
fn template(arguments: &Arguments) -> anyhow::Result<Template> {
    if let Err(error) = ChannelName::new(&arguments.channel) {
        bail!("CHANNEL: {error}");
    }
    for (flag, name) in [
        ("--key", &arguments.key),
        ("--id", &arguments.id),
        ("--event", &arguments.event),
    ] {
        if let Some(Err(error)) = name.as_deref().map(Name::new) {
            bail!("{flag}: {error}");
        }
    }
    Ok(Template {
        channel: arguments.channel.clone(),
        key: arguments.key.clone(),
        event: arguments.event.clone(),
    })
}

async fn one(sender: &Sender, item: Item) -> anyhow::Result<()> {
    let outcomes = sender.send(std::slice::from_ref(&item)).await?;
    for outcome in &outcomes {
        if let Some(refusal) = outcome.refusal() {
            bail!("refused: {refusal}");
        }
        output::line(&serde_json::to_string(outcome)?)?;
    }
    Ok(())
}

async fn many(
    sender: &Sender,
    template: &Template,
    input: impl io::BufRead + Send + 'static,
) -> anyhow::Result<()> {
    let mut lines = lines::read(input);
    let mut progress = output::Progress::new();
    let (mut accepted, mut refused) = (0_u64, 0_u64);
    loop {
        let batch = lines.next_batch().await?;
        if batch.is_empty() {
            break;
        }
        let items: Vec<Item> = batch
            .iter()
            .map(|line| template.item(&line.text, None))
            .collect::<Result<_, _>>()?;
        let outcomes = sender.send(&items).await?;
        for (line, outcome) in batch.iter().zip(&outcomes) {
            match outcome.refusal() {
                None => accepted += 1,
                Some(refusal) => {
                    refused += 1;
                    progress.end();
                    output::note(&format!("line {}: refused: {refusal}", line.number));
                }
            }
        }
        progress.show(&format!("{accepted} published, {refused} refused"));
    }
    progress.end();
    if refused > 0 {
        bail!("{accepted} lines published, {refused} refused");
    }
    Ok(())
}
