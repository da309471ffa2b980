//! The last minutes of a node in `$sys:history`: a point every ten seconds, and a last word.
//!
//! Called by `rows` with what it measured, and by `node` when it has left. What the broker does
//! not take is left out: a plot may have a hole, and nothing waits.

use serde::Serialize;
use tidewire_protocol::ChannelName;

use crate::{auth::operator, broker::Retention, control, gateway::Gateway};

/// How long the past is kept, ms: a quarter of an hour and the points at its ends.
const KEPT_MS: u64 = 16 * 60_000;
/// Most points kept: a quarter of an hour of 60 nodes, 1 MB; of more nodes the past is shorter.
const POINTS_MAX: u32 = 6_000;
const RETENTION: Retention = Retention::of_log(POINTS_MAX, KEPT_MS);

/// A moment of the past. Its time is that of its publication.
#[derive(Debug, Default, Serialize)]
pub(super) struct Point {
    pub connections: usize,
    pub sessions: usize,
    pub publications: f64,
    pub deliveries: f64,
    pub delivery_p99: Option<f64>,
    pub lag_p99: Option<f64>,
    pub memory: u64,
    pub cpu: f64,
    /// Resumes, gaps and rewinds since the point before.
    pub resumes: f64,
    pub gaps: f64,
    pub rewinds: f64,
    /// The node has left as it should: nothing follows.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub left: bool,
}

#[derive(Serialize)]
struct Said<'a> {
    node: &'a str,
    #[serde(flatten)]
    point: &'a Point,
}

/// Says that this node has left: it is not taken for one that died.
pub async fn farewell(gateway: &Gateway) {
    let last = Point {
        left: true,
        ..Point::default()
    };
    say(gateway, &last).await;
}

/// Adds a point.
pub(super) async fn say(gateway: &Gateway, point: &Point) {
    let said = Said {
        node: gateway.node.as_str(),
        point,
    };
    let channel = ChannelName::new(operator::PAST).ok();
    let publish = channel.and_then(|channel| control::of_node(channel, RETENTION, &said));
    let publish = publish.into_iter().collect();
    let answers = gateway.feed.broker().publish(publish).await;
    for error in answers.into_iter().filter_map(Result::err) {
        tracing::debug!(%error, "a point of the past was not taken");
    }
}
