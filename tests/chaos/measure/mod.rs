//! Measurements of the hub as a cluster: two nodes on one Redis.
//!
//! Figures are ratios within one run, or counts; what they are compared with is measured in the
//! same run on the same Redis.

mod away;
mod latency;
mod publishing;
mod round_trips;

use std::path::Path;

use crate::harness::{
    nodes::Nodes,
    topology::{Layout, Topology},
};

/// Names of measurements, and what runs them.
pub const NAMES: [&str; 4] = ["latency", "publishing", "round-trips", "redis-away"];

/// Runs one and answers its text.
pub async fn measure(name: &str, program: &Path) -> String {
    match name {
        "latency" => latency::measure(program).await,
        "publishing" => publishing::measure(program).await,
        "redis-away" => away::measure(program).await,
        "round-trips" => round_trips::measure(program).await,
        _ => panic!("no measurement is called {name}"),
    }
}

/// Two nodes on one Redis.
async fn two_nodes(program: &Path, root: &Path, layout: Layout) -> (Topology, Nodes) {
    let topology = Topology::start(layout, root, 2, false).await;
    let urls = [topology.url(0), topology.url(1)];
    let mut nodes = Nodes::configure(program, root, &urls, "log");
    nodes.start_all().await;
    (topology, nodes)
}

/// The value below which `share` of the sorted values are.
fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len() - 1;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place in a list"
    )]
    let at = (last as f64 * share).round() as usize;
    values[at]
}
