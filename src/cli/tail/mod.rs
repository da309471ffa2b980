//! `tidewire tail`: follows channels in a terminal, across every loss of the connection.
//!
//! Owns what is told to people; the connection and what was seen are the client library's.

mod print;
#[cfg(test)]
mod tests;
mod told;

use std::{
    collections::BTreeSet,
    future::ready,
    io::{self, Write},
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context, bail};
use futures_util::{Stream, StreamExt, stream::select_all};
use tidewire_client::{
    ChannelName, Client, CloseCode, Event, Loss, Options, Start, Status, TokenError, TokenReason,
};
use tidewire_protocol::limits::SUBSCRIPTIONS_MAX;

use super::{block_on, client::Target, output};
use print::Printer;
use told::Told;

/// Events written before what was written is handed to the reader, if so many are there.
const CHUNK_MAX: usize = 256;

/// Follow channels and print what is published.
///
/// Reconnects by itself and goes on where it was: nothing is printed twice, and what could not be
/// had is told as a gap on standard error.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tidewire tail chat:lobby --last 20
  tidewire tail orders:42 --state
  tidewire tail dash:plant --json | jq .d")]
pub(super) struct Arguments {
    /// The channels.
    #[arg(required = true, value_name = "CHANNEL", num_args = 1..=SUBSCRIPTIONS_MAX, value_parser = parse_channel)]
    channels: Vec<ChannelName>,
    /// Begin with the last N publications of each.
    #[arg(long, value_name = "N", conflicts_with = "state")]
    last: Option<u32>,
    /// Begin with the keyed state of each.
    #[arg(long)]
    state: bool,
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
    /// The token.
    #[arg(long, env = "TIDEWIRE_TOKEN", hide_env_values = true)]
    token: Option<String>,
    #[command(flatten)]
    target: Target,
}

fn parse_channel(text: &str) -> Result<ChannelName, String> {
    ChannelName::new(text).map_err(|error| error.to_string())
}

pub(super) fn run(arguments: Arguments) -> anyhow::Result<()> {
    let start = match (arguments.state, arguments.last) {
        (true, _) => Start::State,
        (false, Some(count)) => Start::Last(count),
        (false, None) => Start::Now,
    };
    let kept = || arguments.target.development()?.token("cli").ok();
    let token = arguments.token.clone().or_else(kept);
    let mut channels = arguments.channels;
    let mut named = BTreeSet::new();
    channels.retain(|channel| named.insert(channel.clone()));
    let mut out = io::BufWriter::new(io::stdout());
    let mut printer = Printer::new(&mut out, arguments.json);
    block_on(async {
        let client = connect(&arguments.target, token)?;
        follow(client, &channels, &start, &mut printer).await
    })
}

fn connect(target: &Target, token: Option<String>) -> anyhow::Result<Client> {
    let address = target.address("/v1/connect", true)?;
    let builder = Client::builder(address).sdk(concat!("tidewire-cli/", env!("CARGO_PKG_VERSION")));
    let builder = match token {
        None => builder,
        Some(token) => {
            let warned = AtomicBool::new(false);
            builder.token_source(move |reason| ready(the_only(&token, reason, &warned)))
        }
    };
    builder.connect().context("--url is not an address")
}

/// There is one token and no way to a fresh one.
fn the_only(token: &str, reason: TokenReason, warned: &AtomicBool) -> Result<String, TokenError> {
    match reason {
        TokenReason::Connect | TokenReason::Wake => Ok(token.to_owned()),
        TokenReason::Expiring => {
            if !warned.swap(true, Ordering::Relaxed) {
                output::note("the token expires soon; start again with a fresh one");
            }
            Err(TokenError::Unavailable)
        }
        TokenReason::Unauthenticated => Err(TokenError::Forbidden),
    }
}

async fn follow<W: Write>(
    client: Client,
    channels: &[ChannelName],
    start: &Start,
    printer: &mut Printer<'_, W>,
) -> anyhow::Result<()> {
    let mut status = client.status();
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    let events = subscribe(&client, channels, start).await?;
    let mut events = events.ready_chunks(CHUNK_MAX);
    let mut told = Told::new(channels.len());
    loop {
        tokio::select! {
            chunk = events.next() => {
                let Some(chunk) = chunk else {
                    return ended(&status.borrow());
                };
                for (channel, event) in chunk {
                    told.take(&channel, &event, printer)?;
                }
                printer.flush()?;
                if told.nothing_left() {
                    bail!("no channel is left to follow");
                }
            }
            Ok(()) = status.changed() => note(&status.borrow_and_update())?,
            interrupted = &mut interrupted => {
                interrupted.context("cannot listen for Ctrl-C")?;
                client.leave().await;
                return Ok(());
            }
        }
    }
}

/// All channels as one stream.
async fn subscribe(
    client: &Client,
    channels: &[ChannelName],
    start: &Start,
) -> anyhow::Result<impl Stream<Item = (ChannelName, Event)> + use<>> {
    let mut subscriptions = Vec::with_capacity(channels.len());
    for channel in channels {
        let options = Options::from(start.clone());
        let subscription = client.subscribe(channel.as_str(), options).await?;
        let channel = channel.clone();
        subscriptions.push(subscription.map(move |event| (channel.clone(), event)));
    }
    Ok(select_all(subscriptions))
}

/// Tells people why there is no connection.
fn note(status: &Status) -> anyhow::Result<()> {
    if let Status::Offline { why, retry_in } = status {
        if let Loss::Http(status @ 400..500) = why {
            bail!("the address answers with HTTP status {status}; is this a Tidewire node?");
        }
        let wait = retry_in.as_secs_f32();
        output::note(&format!("{why}; connecting again in {wait:.1} s"));
    }
    Ok(())
}

/// What the end of the client means for this program.
fn ended(status: &Status) -> anyhow::Result<()> {
    match status {
        Status::Blocked(CloseCode::Unauthenticated) => {
            bail!("the node does not take the token; give a fresh one with --token")
        }
        Status::Blocked(code) => {
            bail!(
                "the node ended the connection: {} {}",
                code.number(),
                code.name()
            )
        }
        Status::Closed
        | Status::Connecting
        | Status::Online(_)
        | Status::Offline { .. }
        | Status::Suspended => Ok(()),
    }
}
