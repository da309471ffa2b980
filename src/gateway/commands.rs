//! What a client asks of its session, one batch at a time, answered in order.
//!
//! A batch is executed in order and to its end before the next is read, so requests about one
//! channel take effect in order; neighbouring `sub` and `pub` share one step of the broker.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use tidewire_protocol::{
    ChannelName, CloseCode, Command, ErrorCode, Frame, Position,
    command::{History, Pub, Range, RequestId, Sub},
};

use super::{
    connection::Connection,
    read::Budgets,
    subscribe::{Wanted, subscribe, unsubscribe},
};
use crate::{
    auth::Right,
    broker::{BrokerError, PageLimit, Publish, StateQuery},
    clock,
    config::Namespace,
    telemetry::labels::{PublicationSource, Rejection},
};

/// Most bytes of payload in a page a client asked for; its frame stays under the message limit.
const PAGE_BYTES: usize = 96 * 1024;

/// What happens after a batch.
#[derive(Debug)]
pub enum Flow {
    /// Go on; the token was renewed until `token_ms`, if any.
    Continue { token_ms: Option<u64> },
    /// The client ends its session.
    Leave,
    /// The connection ends.
    Close(CloseCode),
}

/// Executes a batch.
pub async fn execute(
    connection: &Arc<Connection>,
    commands: Vec<Command>,
    budgets: &mut Budgets,
) -> Flow {
    let mut commands = VecDeque::from(commands);
    let mut token_ms = None;
    while let Some(command) = commands.pop_front() {
        // One read may bring thousands of small commands with large answers.
        connection.room().await;
        if !matches!(command, Command::Ack(_) | Command::Pong(_)) {
            // Past its rate the socket is not read: the client feels it as a slow connection.
            while let Err(wait_ms) = budgets.commands.take(clock::now_ms()) {
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            }
        }
        match command {
            Command::Sub(first) => {
                let subs = neighbours(first, &mut commands, |command| match command {
                    Command::Sub(sub) => Ok(sub),
                    other => Err(other),
                });
                subscribe(connection, within_rate(connection, subs, budgets)).await;
            }
            Command::Pub(first) => {
                let pubs = neighbours(first, &mut commands, |command| match command {
                    Command::Pub(publish) => Ok(publish),
                    other => Err(other),
                });
                publish(connection, pubs, budgets).await;
            }
            Command::Unsub { i, channel } => {
                let was_there = unsubscribe(connection, &channel).await;
                if let Some(i) = i {
                    connection.send(&[Frame::Done { i, expires: None }]);
                }
                if was_there {
                    connection.gateway.checkpoints.note(connection);
                }
            }
            Command::History(request) => history(connection, request, budgets).await,
            Command::State { i, channel, from } => {
                state(connection, i, &channel, from, budgets).await
            }
            Command::Ack(handled) | Command::Pong(handled) => {
                connection.with_session(|session| session.acknowledge(&handled));
            }
            Command::Auth { i, token } => {
                token_ms = super::refresh::refresh(connection, i, &token)
                    .await
                    .or(token_ms)
            }
            Command::Leave => return Flow::Leave,
            Command::Hello(_) => connection.send(&[connection.error(
                None,
                ErrorCode::BadRequest,
                "the session is open already",
            )]),
            Command::Unknown { i } => reply(
                connection,
                i,
                ErrorCode::UnknownType,
                "this frame type is not known",
            ),
            Command::Invalid {
                i: None,
                code,
                text,
            } => {
                tracing::debug!(
                    connection_id = connection.id,
                    code = code.name(),
                    text,
                    "an invalid command"
                );
                return Flow::Close(if code == ErrorCode::TooLarge {
                    CloseCode::TooLarge
                } else {
                    CloseCode::BadRequest
                });
            }
            Command::Invalid { i, code, text } => reply(connection, i, code, text),
        }
    }
    connection.gateway.checkpoints.note_changed(connection);
    Flow::Continue { token_ms }
}

/// The first and those of its kind that follow right behind it.
fn neighbours<T>(
    first: T,
    commands: &mut VecDeque<Command>,
    take: impl Fn(Command) -> Result<T, Command>,
) -> Vec<T> {
    let mut all = vec![first];
    while let Some(command) = commands.pop_front() {
        match take(command) {
            Ok(next) => all.push(next),
            Err(other) => {
                commands.push_front(other);
                break;
            }
        }
    }
    all
}

fn reply(connection: &Arc<Connection>, i: RequestId, code: ErrorCode, text: &str) {
    connection
        .gateway
        .metrics
        .rejected
        .count(Rejection::of(code));
    if i.is_some() {
        connection.send(&[connection.error(i, code, text)]);
    }
}

fn limited(connection: &Arc<Connection>, i: RequestId, retry_ms: u64, text: &str) {
    connection
        .gateway
        .metrics
        .rejected
        .count(Rejection::RateLimited);
    if i.is_some() {
        connection.send(&[Frame::Error {
            i,
            code: ErrorCode::RateLimited,
            text: text.to_owned(),
            retry_ms: Some(retry_ms),
            position: None,
        }]);
    }
}

fn within_rate(connection: &Arc<Connection>, subs: Vec<Sub>, budgets: &mut Budgets) -> Vec<Wanted> {
    let mut wanted = Vec::with_capacity(subs.len());
    for sub in subs {
        match budgets.subscribes.take(clock::now_ms()) {
            Ok(()) => wanted.push(Wanted { sub, member: None }),
            Err(retry_ms) => limited(
                connection,
                sub.i,
                retry_ms,
                "too many subscriptions begun in a short time",
            ),
        }
    }
    wanted
}

async fn publish(connection: &Arc<Connection>, pubs: Vec<Pub>, budgets: &mut Budgets) {
    let (mut batch, mut numbers) = (
        Vec::with_capacity(pubs.len()),
        Vec::with_capacity(pubs.len()),
    );
    for publish in pubs {
        let i = publish.i;
        match accept(connection, publish, budgets) {
            Ok(publish) => {
                numbers.push(i);
                batch.push(publish);
            }
            Err(Refused::Code(code, text)) => reply(connection, i, code, text),
            Err(Refused::Rate(retry_ms)) => limited(
                connection,
                i,
                retry_ms,
                "too many publications in a short time",
            ),
        }
    }
    if batch.is_empty() {
        return;
    }
    let metrics = &connection.gateway.metrics;
    let namespaces: Vec<_> = batch
        .iter()
        .map(|publish| publish.channel.clone())
        .collect();
    let begun = Instant::now();
    let results = connection.gateway.feed.broker().publish(batch).await;
    metrics
        .publish_seconds
        .record(begun.elapsed().as_secs_f64());
    let mut frames = Vec::with_capacity(results.len());
    for ((i, result), channel) in numbers.into_iter().zip(results).zip(namespaces) {
        if result.is_ok() {
            connection
                .gateway
                .count_publication(&channel, PublicationSource::Client);
        }
        let Some(i) = i else { continue };
        frames.push(match result {
            Ok(published) => Frame::Published {
                i,
                position: published.position,
                duplicate: published.duplicate,
            },
            Err(error) => connection.broker_error(Some(i), error),
        });
    }
    connection.send(&frames);
}

enum Refused {
    Code(ErrorCode, &'static str),
    Rate(u64),
}

fn accept(
    connection: &Connection,
    publish: Pub,
    budgets: &mut Budgets,
) -> Result<Publish, Refused> {
    let namespace = connection
        .permit(&publish.channel, Right::Pub)
        .map_err(|(code, text)| Refused::Code(code, text))?;
    let gateway = &connection.gateway;
    if publish
        .payload
        .as_ref()
        .is_some_and(|payload| payload.len() > gateway.config.limits.publication.bytes())
    {
        return Err(Refused::Code(
            ErrorCode::TooLarge,
            "the data is over the publication limit",
        ));
    }
    budgets.publication(namespace).map_err(Refused::Rate)?;
    let (user, session) = connection
        .with_session(|session| (session.identity.user.clone(), session.id.clone()))
        .ok_or(Refused::Code(
            ErrorCode::Unauthenticated,
            "the session has ended",
        ))?;
    Ok(Publish {
        retention: namespace.retention(gateway.config.session.ttl),
        channel: publish.channel,
        payload: publish.payload,
        key: publish.key,
        event: publish.event,
        id: publish.id,
        publisher: Arc::from(
            user.as_ref()
                .map_or_else(|| format!("s:{}", session.0), |user| format!("u:{user}")),
        ),
        by: user,
        delete: publish.delete,
        ttl_ms: publish.ttl_ms,
        guard: publish.guard,
    })
}

async fn history(connection: &Arc<Connection>, request: History, budgets: &mut Budgets) {
    let Some(i) = request.i else { return };
    if let Err((code, text)) = connection.permit(&request.channel, Right::History) {
        return reply(connection, Some(i), code, text);
    }
    if let Err(retry_ms) = budgets.reads.take(clock::now_ms()) {
        return limited(
            connection,
            Some(i),
            retry_ms,
            "too many pages read in a short time",
        );
    }
    let page_max = connection.gateway.config.limits.page.get();
    let limit = PageLimit {
        items: usize::try_from(request.limit.min(page_max)).unwrap_or(1),
        bytes: PAGE_BYTES,
    };
    let frame = match connection
        .gateway
        .feed
        .broker()
        .history(&request.channel, request.range, limit)
        .await
    {
        Ok(page) => {
            let head = page.head.position;
            // What lies before an offset past the head is the newest page; after it lies nothing.
            let past_head = matches!(request.range, Range::After(offset) if offset > head.offset);
            if request.epoch.is_some_and(|epoch| epoch != head.epoch) || past_head {
                connection.broker_error(Some(i), BrokerError::Gone)
            } else {
                Frame::HistoryPage {
                    i,
                    position: head,
                    items: page.items,
                    more: page.more,
                }
            }
        }
        Err(error) => connection.broker_error(Some(i), error),
    };
    connection.send(&[frame]);
}

async fn state(
    connection: &Arc<Connection>,
    i: RequestId,
    channel: &ChannelName,
    from: u64,
    budgets: &mut Budgets,
) {
    let Some(i) = i else { return };
    let permitted = connection
        .permit(channel, Right::Sub)
        .or_else(|_| connection.permit(channel, Right::History));
    match permitted {
        Err((code, text)) => return reply(connection, Some(i), code, text),
        Ok(namespace) if !namespace.state => {
            return reply(
                connection,
                Some(i),
                ErrorCode::BadRequest,
                "the channel keeps no state",
            );
        }
        Ok(_) => {}
    }
    if let Err(retry_ms) = budgets.reads.take(clock::now_ms()) {
        return limited(
            connection,
            Some(i),
            retry_ms,
            "too many pages read in a short time",
        );
    }
    let items = usize::try_from(connection.gateway.config.limits.page.get()).unwrap_or(1);
    let query = StateQuery {
        from,
        catch_up: false,
        limit: PageLimit {
            items,
            bytes: PAGE_BYTES,
        },
    };
    let frame = match connection.gateway.feed.broker().state(channel, query).await {
        Ok(page) => Frame::StatePage {
            i,
            position: page.head.position,
            items: page.items,
            more: page.more,
        },
        Err(error) => connection.broker_error(Some(i), error),
    };
    connection.send(&[frame]);
}

impl Connection {
    /// Whether the session may do this to a channel.
    pub fn permit(
        &self,
        channel: &ChannelName,
        right: Right,
    ) -> Result<&Namespace, (ErrorCode, &'static str)> {
        let Some(namespace) = self.gateway.namespaces.resolve(channel) else {
            return Err((
                ErrorCode::UnknownChannel,
                "no namespace is configured for this channel",
            ));
        };
        let allowed =
            self.with_session(|session| session.identity.rights.allows(namespace, channel, right));
        if allowed == Some(true) {
            Ok(namespace)
        } else {
            Err((
                ErrorCode::Forbidden,
                "neither the token nor the namespace allows this",
            ))
        }
    }

    /// An error frame.
    pub fn error(&self, i: RequestId, code: ErrorCode, text: &str) -> Frame {
        let retry_ms = code.temporary().then_some(1_000);
        Frame::Error {
            i,
            code,
            text: text.to_owned(),
            retry_ms,
            position: None,
        }
    }

    fn broker_error(&self, i: RequestId, error: BrokerError) -> Frame {
        let code = error.code();
        let text = error.to_string();
        let position: Option<Position> = match error {
            BrokerError::PreconditionFailed(position) => Some(position),
            BrokerError::IdConflict
            | BrokerError::StateFull
            | BrokerError::Gone
            | BrokerError::Unavailable => None,
        };
        self.gateway.metrics.rejected.count(Rejection::of(code));
        Frame::Error {
            i,
            code,
            text,
            retry_ms: code.temporary().then_some(1_000),
            position,
        }
    }
}
