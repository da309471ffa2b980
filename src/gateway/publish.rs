//! A client's publications: each checked by itself, all of a batch handed to the broker in one step
//! and answered in order.
//!
//! Never decides what a log does with one: that is the broker's step.

use std::{sync::Arc, time::Instant};

use tidewire_protocol::{
    ChannelName, ErrorCode, Frame, Name,
    command::{Pub, RequestId},
};

use super::{
    Gateway,
    answer::{limit, permit, refuse},
    connection::Connection,
    read::Budgets,
};
use crate::{
    auth::Right,
    broker::{BrokerError, Publish, Published},
    config::Namespace,
    session::Session,
    telemetry::{labels::PublicationSource, spans::Begun},
};

/// Why one is refused before the broker sees it.
enum Refused {
    Code(ErrorCode, &'static str),
    Rate(u64),
}

/// What is remembered of one while the broker works.
struct Sent<'a> {
    i: RequestId,
    namespace: &'a Namespace,
}

/// In whose name a batch is published.
struct Author {
    user: Option<Name>,
    /// By whom ids are told apart.
    publisher: Arc<str>,
}

impl Author {
    fn of(session: &Session) -> Self {
        let user = session.identity.user.clone();
        let publisher = match &user {
            Some(user) => format!("u:{user}"),
            None => format!("s:{}", session.id.0),
        };
        Self {
            user,
            publisher: publisher.into(),
        }
    }
}

/// Publishes a batch and answers what asked for an answer.
pub async fn publish(connection: &Arc<Connection>, pubs: Vec<Pub>, budgets: &mut Budgets) {
    let gateway = &connection.gateway;
    let (mut batch, sent) = accept_all(connection, pubs, budgets);
    if batch.is_empty() {
        return;
    }
    let spans = begin_spans(gateway, &mut batch);
    let begun = Instant::now();
    let results = gateway.feed.broker().publish(batch).await;
    gateway
        .metrics
        .publish_seconds
        .record(begun.elapsed().as_secs_f64());
    for (span, channel) in spans {
        gateway.tracer.published(span, Some(&channel), 1);
    }
    let frames: Vec<_> = sent
        .into_iter()
        .zip(results)
        .filter_map(|(sent, result)| answer(connection, &sent, result))
        .collect();
    if !frames.is_empty() {
        connection.send(&frames);
    }
}

/// Counts what is in the log now, and answers it if it has a number.
fn answer(
    connection: &Connection,
    sent: &Sent<'_>,
    result: Result<Published, BrokerError>,
) -> Option<Frame> {
    if result.as_ref().is_ok_and(|published| !published.duplicate) {
        let gateway = &connection.gateway;
        gateway.count_publication(sent.namespace, PublicationSource::Client);
    }
    let i = sent.i?;
    Some(match result {
        Ok(published) => Frame::Published {
            i,
            position: published.position,
            duplicate: published.duplicate,
            acknowledged: published.acknowledged,
        },
        Err(error) => connection.broker_error(Some(i), error),
    })
}

/// Those that may go to the broker; the others are refused.
fn accept_all<'a>(
    connection: &'a Arc<Connection>,
    pubs: Vec<Pub>,
    budgets: &mut Budgets,
) -> (Vec<Publish>, Vec<Sent<'a>>) {
    let gateway = &connection.gateway;
    let (mut batch, mut sent) = (
        Vec::with_capacity(pubs.len()),
        Vec::with_capacity(pubs.len()),
    );
    let mut refused = Vec::new();
    let accepted = connection.with_session(|session| {
        let author = Author::of(session);
        for publish in pubs {
            let i = publish.i;
            match accept(gateway, session, &author, publish, budgets) {
                Ok((namespace, publish)) => {
                    batch.push(publish);
                    sent.push(Sent { i, namespace });
                }
                Err(reason) => refused.push((i, reason)),
            }
        }
    });
    if accepted.is_none() {
        // It ended while its commands were read: nobody is there to be answered.
        return (batch, sent);
    }
    for (i, reason) in refused {
        match reason {
            Refused::Code(code, text) => refuse(connection, i, code, text),
            Refused::Rate(retry_ms) => {
                let text = "too many publications in a short time";
                limit(connection, i, retry_ms, text);
            }
        }
    }
    (batch, sent)
}

fn accept<'a>(
    gateway: &'a Gateway,
    session: &Session,
    author: &Author,
    publish: Pub,
    budgets: &mut Budgets,
) -> Result<(&'a Namespace, Publish), Refused> {
    let namespace = permit(gateway, session, &publish.channel, Right::Pub)
        .map_err(|(code, text)| Refused::Code(code, text))?;
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
    let accepted = Publish {
        retention: namespace.retention(gateway.config.session.ttl),
        channel: publish.channel,
        payload: publish.payload,
        key: publish.key,
        event: publish.event,
        id: publish.id,
        publisher: Arc::clone(&author.publisher),
        by: author.user.clone(),
        delete: publish.delete,
        ttl_ms: publish.ttl_ms,
        guard: publish.guard,
        trace: (publish.trace)
            .filter(|_| gateway.tracer.is_on())
            .map(|parent| *parent),
    };
    Ok((namespace, accepted))
}

/// Begins a span for each, whose context travels on with it; none where no traces are made.
fn begin_spans(gateway: &Gateway, batch: &mut [Publish]) -> Vec<(Option<Begun>, ChannelName)> {
    if !gateway.tracer.is_on() {
        return Vec::new();
    }
    let begin = |publish: &mut Publish| {
        let span = gateway.tracer.begin(publish.trace.take());
        publish.trace = span.as_ref().map(Begun::context);
        (span, publish.channel.clone())
    };
    batch.iter_mut().map(begin).collect()
}
