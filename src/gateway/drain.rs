//! Leaving: clients are moved to other nodes, each connection delivering on until its session was
//! taken over there.
//!
//! Called once, when the node is told to stop. Where no other node lives there is nowhere to move
//! to: clients are sent away and told when to come back.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tidewire_protocol::{CloseCode, Frame};
use tokio::time::{Instant, interval, sleep};

use super::{Gateway, checkpoints, connection::Connection};
use crate::{config::units::millis, random};

/// Clients are told in steps of this length, each at its own moment within it.
const STEP: Duration = Duration::from_millis(100);
/// How often progress is logged.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// How often it is looked whether anybody is left.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Longest wait for sessions to be written down, as a part of the window: a store that is away
/// then must not keep clients from moving.
const FLUSH_PART: u32 = 4;
/// Clients that nobody moved come back within at least this, each at its own moment.
const RETRY_MS_MIN: u64 = 2_000;
/// Sessions put away at once.
const LEAVE_CHUNK: usize = 64;

/// Moves every client, as far as the window lasts, then sends away who is left.
pub async fn run(gateway: &Arc<Gateway>) {
    gateway.admission.drain();
    gateway.control.nodes.drain();
    if gateway.control.nodes.takers() > 0 {
        let begun = Instant::now();
        let window = gateway.config.drain.window;
        checkpoints::flush(gateway, begun + window / FLUSH_PART).await;
        let moving = async {
            move_all(gateway, begun + window).await;
            all_gone(gateway).await;
        };
        let ended = tokio::time::timeout_at(begun + window, moving).await;
        let (left, seconds) = (gateway.sessions(), begun.elapsed().as_secs_f64());
        tracing::info!(in_time = ended.is_ok(), left, seconds, "clients were moved");
    }
    send_all_away(gateway).await;
}

/// Tells clients to move, at the configured rate.
async fn move_all(gateway: &Arc<Gateway>, deadline: Instant) {
    let connections = gateway.connections();
    let rate = f64::from(gateway.config.drain.rate.get());
    let per_step = rate * STEP.as_secs_f64();
    tracing::info!(
        sessions = connections.len(),
        seconds = connections.len() as f64 / rate,
        "moving clients to other nodes"
    );
    let mut steps = interval(STEP);
    let mut due = 0.0;
    let mut reported = Instant::now();
    let mut moved = 0;
    for connection in &connections {
        while due < 1.0 {
            steps.tick().await;
            due = (due + per_step).min(per_step.max(1.0));
        }
        due -= 1.0;
        tell(connection, deadline);
        moved += 1;
        if reported.elapsed() >= REPORT_EVERY {
            reported = Instant::now();
            tracing::info!(moved, left = gateway.sessions(), "moving clients");
        }
    }
}

fn tell(connection: &Arc<Connection>, deadline: Instant) {
    let left = deadline.saturating_duration_since(Instant::now());
    connection.send(&[Frame::Move {
        in_ms: random::below(millis(STEP)),
        by_ms: millis(left),
    }]);
}

async fn all_gone(gateway: &Gateway) {
    let mut reported = Instant::now();
    while gateway.sessions() > 0 {
        sleep(LOOK_EVERY).await;
        if reported.elapsed() >= REPORT_EVERY {
            reported = Instant::now();
            tracing::info!(left = gateway.sessions(), "waiting for clients that move");
        }
    }
}

/// Writes down the sessions that are left and sends their clients away.
async fn send_all_away(gateway: &Arc<Gateway>) {
    let connections = gateway.connections();
    let together = connections.len();
    for chunk in connections.chunks(LEAVE_CHUNK) {
        let leaving = chunk.iter().map(|connection| async move {
            gateway.end(connection).await;
            send_away(gateway, connection, together);
        });
        join_all(leaving).await;
    }
}

/// Tells one of `together` clients that the node leaves, and when to come back: where this node
/// was alone they all return to the next one, at a rate that it takes.
pub fn send_away(gateway: &Gateway, connection: &Arc<Connection>, together: usize) {
    let seconds = together as f64 / f64::from(gateway.config.drain.rate.get());
    let spread = millis(Duration::from_secs_f64(seconds));
    let retry_ms = random::below(spread.max(RETRY_MS_MIN));
    connection.close(CloseCode::Draining, Some(retry_ms), None);
}
