//! `tidewire tail`: follows channels in a terminal, across every loss of the connection.
//!
//! Owns the socket and the waiting; what was seen and what comes next is `follower`'s.

mod follower;
mod print;
#[cfg(test)]
mod tests;

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use tidewire_protocol::{
    ChannelName, CloseCode, Command, Encoding,
    command::Fallback,
    decode,
    limits::{MESSAGE_BYTES_MAX, SUBSCRIPTIONS_MAX},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{
        self, Message, Utf8Bytes,
        client::IntoClientRequest,
        http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL},
        protocol::WebSocketConfig,
    },
};

use super::{backoff::Backoff, block_on, client::Target, now_ms, output};
use follower::{Follower, Next};
use print::Printer;

/// Longest wait for a connection: after it another try is worth more.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that lived this long was a good one: the next wait is short again.
const GOOD_CONNECTION: Duration = Duration::from_secs(10);
/// The library's default buffers hold 128 KiB from the start; a terminal needs no more than this.
const BUFFER_BYTES: usize = 16 * 1024;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

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
    let fallback = match (arguments.state, arguments.last) {
        (true, _) => Fallback::State,
        (false, Some(count)) => Fallback::Last(count),
        (false, None) => Fallback::Now,
    };
    let kept = || arguments.target.development()?.token("cli").ok();
    let token = arguments.token.clone().or_else(kept);
    let mut follower = Follower::new(token, &arguments.channels, fallback);
    let mut out = io::BufWriter::new(io::stdout());
    let mut printer = Printer::new(&mut out, arguments.json);
    block_on(follow(&arguments.target, &mut follower, &mut printer))
}

/// How a connection ended.
enum Ended {
    /// Ctrl-C, or nothing left to follow.
    Done,
    /// Come back, after this long if the node said so; why, for people.
    Lost(Option<Duration>, String),
}

async fn follow<W: Write>(
    target: &Target,
    follower: &mut Follower,
    printer: &mut Printer<'_, W>,
) -> anyhow::Result<()> {
    let address = target.address("/v1/connect", true)?;
    let mut backoff = Backoff::default();
    loop {
        let begun = Instant::now();
        let ended = match connect(address.as_str()).await? {
            Ok(mut socket) => converse(&mut socket, follower, printer).await?,
            Err(why) => Ended::Lost(None, why),
        };
        let Ended::Lost(asked, why) = ended else {
            return Ok(());
        };
        if begun.elapsed() > GOOD_CONNECTION {
            backoff.reset();
        }
        let wait = backoff.next(asked);
        output::note(&format!(
            "{why}; connecting again in {:.1} s",
            wait.as_secs_f32()
        ));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            interrupted = tokio::signal::ctrl_c() => return interrupted.context("cannot listen for Ctrl-C"),
        }
    }
}

/// A socket, or why there is none for the moment.
async fn connect(address: &str) -> anyhow::Result<Result<Socket, String>> {
    let mut request = address
        .into_client_request()
        .context("--url is not an address")?;
    let encoding = HeaderValue::from_static(Encoding::Json.subprotocol());
    request
        .headers_mut()
        .insert(SEC_WEBSOCKET_PROTOCOL, encoding);
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(MESSAGE_BYTES_MAX)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let connecting = connect_async_with_config(request, Some(config), true);
    match timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok((socket, _response))) => Ok(Ok(socket)),
        Ok(Err(tungstenite::Error::Http(response))) if response.status().is_client_error() => {
            bail!(
                "{address} answers {}; is this a Tidewire node?",
                response.status()
            )
        }
        Ok(Err(tungstenite::Error::Url(error))) => {
            Err(anyhow::Error::new(error).context("--url is not an address"))
        }
        Ok(Err(error)) => Ok(Err(format!("cannot connect to {address}: {error}"))),
        Err(_elapsed) => Ok(Err(format!("cannot connect to {address}: no answer"))),
    }
}

async fn send(socket: &mut Socket, command: &Command) -> Result<(), tungstenite::Error> {
    let mut bytes = Vec::new();
    command.encode(Encoding::Json, &mut bytes);
    // A codec that wrote no UTF-8 would be seen by the node as an empty message and refused.
    let text = String::from_utf8(bytes).unwrap_or_default();
    socket.send(Message::Text(Utf8Bytes::from(text))).await
}

async fn converse<W: Write>(
    socket: &mut Socket,
    follower: &mut Follower,
    printer: &mut Printer<'_, W>,
) -> anyhow::Result<Ended> {
    if let Err(error) = send(socket, &follower.hello(now_ms())).await {
        return Ok(Ended::Lost(None, format!("the connection broke: {error}")));
    }
    loop {
        let received = tokio::select! {
            received = timeout(follower.patience(), socket.next()) => received,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted.context("cannot listen for Ctrl-C")?;
                // The process ends whether or not the node hears of it.
                let _unheard = send(socket, &Command::Leave).await;
                return Ok(Ended::Done);
            }
        };
        let message = match received {
            Ok(Some(Ok(Message::Text(text)))) => text,
            Ok(Some(Ok(Message::Close(frame)))) => {
                let number = frame.map_or(1006, |frame| u64::from(u16::from(frame.code)));
                return closed(follower, CloseCode::from_wire(number), None);
            }
            Ok(Some(Ok(_other))) => continue,
            Ok(Some(Err(error))) => {
                return Ok(Ended::Lost(None, format!("the connection broke: {error}")));
            }
            Ok(None) => return Ok(Ended::Lost(None, "the connection ended".to_owned())),
            Err(_elapsed) => return Ok(Ended::Lost(None, "the node fell silent".to_owned())),
        };
        let frames = decode::frames(Encoding::Json, message.as_bytes());
        for frame in frames.context("the node does not speak this protocol")? {
            match follower.take(frame, printer)? {
                Next::Go => {}
                Next::Answer(command) => {
                    if let Err(error) = send(socket, &command).await {
                        return Ok(Ended::Lost(None, format!("the connection broke: {error}")));
                    }
                }
                Next::Closed(code, retry) => return closed(follower, code, retry),
                Next::NothingLeft => bail!("no channel is left to follow"),
            }
        }
        printer.flush()?;
    }
}

/// What a close means for this program.
fn closed(
    follower: &mut Follower,
    code: CloseCode,
    retry: Option<Duration>,
) -> anyhow::Result<Ended> {
    match code {
        CloseCode::Normal => Ok(Ended::Done),
        CloseCode::Unauthenticated => {
            bail!("the node does not take the token; give a fresh one with --token")
        }
        CloseCode::BadRequest | CloseCode::Forbidden | CloseCode::Version | CloseCode::TooLarge => {
            bail!(
                "the node ended the connection: {} {}",
                code.number(),
                code.name()
            )
        }
        CloseCode::Replaced => {
            follower.forget_session();
            Ok(Ended::Lost(
                retry,
                "another connection took the session over".to_owned(),
            ))
        }
        CloseCode::HelloTimeout
        | CloseCode::RateLimited
        | CloseCode::Internal
        | CloseCode::Overloaded
        | CloseCode::SlowConsumer
        | CloseCode::Draining => Ok(Ended::Lost(
            retry,
            format!("the node ended the connection: {}", code.name()),
        )),
    }
}
