//! What a client asks of its session, one batch at a time, answered in order.
//!
//! A batch is executed in order and to its end before the next is read, so requests about one
//! channel take effect in order; neighbouring `sub` and `pub` share one step of the broker.

use std::{sync::Arc, time::Duration};

use tidewire_protocol::{
    CloseCode, Command, ErrorCode, Frame,
    command::{Pub, Sub},
};

use super::{
    answer::{limit, refuse},
    connection::Connection,
    pages,
    publish::publish,
    read::Budgets,
    refresh::refresh,
    subscribe::{Wanted, subscribe, unsubscribe},
};
use crate::clock;

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

/// Commands that are executed together.
enum Work {
    Subs(Vec<Sub>),
    Pubs(Vec<Pub>),
    One(Command),
}

/// Puts neighbouring `sub` and `pub` together; the order stays.
fn group(commands: Vec<Command>) -> Vec<Work> {
    let mut works = Vec::with_capacity(commands.len());
    for command in commands {
        match (works.last_mut(), command) {
            (Some(Work::Subs(subs)), Command::Sub(sub)) => subs.push(sub),
            (Some(Work::Pubs(pubs)), Command::Pub(publish)) => pubs.push(publish),
            (_, Command::Sub(sub)) => works.push(Work::Subs(vec![sub])),
            (_, Command::Pub(publish)) => works.push(Work::Pubs(vec![publish])),
            (_, one) => works.push(Work::One(one)),
        }
    }
    works
}

/// Executes a batch.
pub async fn execute(
    connection: &Arc<Connection>,
    commands: Vec<Command>,
    budgets: &mut Budgets,
) -> Flow {
    let mut token_ms = None;
    for work in group(commands) {
        // One read may bring thousands of small commands with large answers.
        connection.room().await;
        pace(&work, budgets).await;
        let flow = match work {
            Work::Subs(subs) => {
                subscribe(connection, within_rate(connection, subs, budgets)).await;
                continue;
            }
            Work::Pubs(pubs) => {
                publish(connection, pubs, budgets).await;
                continue;
            }
            Work::One(command) => one(connection, command, budgets).await,
        };
        match flow {
            Flow::Continue { token_ms: renewed } => token_ms = renewed.or(token_ms),
            Flow::Leave | Flow::Close(_) => return flow,
        }
    }
    connection.gateway.checkpoints.note_changed(connection);
    Flow::Continue { token_ms }
}

/// Waits out the connection's rate of commands: past it the socket is not read, and the client
/// feels it as a slow connection. What only acknowledges is free.
async fn pace(work: &Work, budgets: &mut Budgets) {
    let count = match work {
        Work::Subs(subs) => subs.len(),
        Work::Pubs(pubs) => pubs.len(),
        Work::One(Command::Ack(_) | Command::Pong(_)) => 0,
        Work::One(_) => 1,
    };
    for _ in 0..count {
        while let Err(wait_ms) = budgets.commands.take(clock::now_ms()) {
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        }
    }
}

async fn one(connection: &Arc<Connection>, command: Command, budgets: &mut Budgets) -> Flow {
    match command {
        Command::Unsub { i, channel } => {
            unsubscribe(connection, &channel).await;
            if let Some(i) = i {
                connection.send(&[Frame::Done { i, expires: None }]);
            }
        }
        Command::History(request) => pages::history(connection, request, budgets).await,
        Command::State { i, channel, from } => {
            pages::state(connection, i, &channel, from, budgets).await;
        }
        Command::Ack(handled) | Command::Pong(handled) => {
            connection.with_session(|session| session.acknowledge(&handled));
        }
        Command::Auth { i, token } => {
            let token_ms = refresh(connection, i, &token).await;
            return Flow::Continue { token_ms };
        }
        Command::Leave => return Flow::Leave,
        Command::Unknown { i } => {
            let text = "this frame type is not known";
            refuse(connection, i, ErrorCode::UnknownType, text);
        }
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
            let too_large = code == ErrorCode::TooLarge;
            return Flow::Close(if too_large {
                CloseCode::TooLarge
            } else {
                CloseCode::BadRequest
            });
        }
        Command::Invalid { i, code, text } => refuse(connection, i, code, text),
        // A `sub` and a `pub` come in groups; a second hello has no number to answer to.
        Command::Hello(_) | Command::Sub(_) | Command::Pub(_) => {
            let text = "the session is open already";
            connection.send(&[connection.error(None, ErrorCode::BadRequest, text)]);
        }
    }
    Flow::Continue { token_ms: None }
}

fn within_rate(connection: &Arc<Connection>, subs: Vec<Sub>, budgets: &mut Budgets) -> Vec<Wanted> {
    let mut wanted = Vec::with_capacity(subs.len());
    for sub in subs {
        match budgets.subscribes.take(clock::now_ms()) {
            Ok(()) => wanted.push(Wanted::from(sub)),
            Err(retry_ms) => limit(
                connection,
                sub.i,
                retry_ms,
                "too many subscriptions begun in a short time",
            ),
        }
    }
    wanted
}
