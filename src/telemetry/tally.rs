//! Counts of one batch of deliveries, added up on the thread that makes them.
//!
//! The counters behind are shared by every thread: touched once per delivery they would travel
//! between cores with each. Made by whoever lets readers pull; what was added is counted when the
//! tally is dropped.

use std::sync::Arc;

use super::{
    labels::DeliveryMode,
    metrics::{Metrics, NamespaceMetrics},
};

/// What a batch came to so far.
#[derive(Debug)]
pub struct Tally<'a> {
    metrics: &'a Metrics,
    bytes: u64,
    /// The namespace of the last delivery in mode `every`, and how many of it are not counted yet.
    every: Option<(Arc<NamespaceMetrics>, u64)>,
}

impl<'a> Tally<'a> {
    /// An empty one.
    pub const fn new(metrics: &'a Metrics) -> Self {
        Self {
            metrics,
            bytes: 0,
            every: None,
        }
    }

    /// Adds bytes that a socket took.
    pub const fn add_bytes(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// Adds publications of a namespace that were delivered in mode `every`.
    pub fn add_every(&mut self, namespace: &Arc<NamespaceMetrics>, count: u64) {
        match &mut self.every {
            Some((held, sum)) if Arc::ptr_eq(held, namespace) => *sum += count,
            Some(_) | None => {
                self.count_every();
                self.every = Some((Arc::clone(namespace), count));
            }
        }
    }

    fn count_every(&mut self) {
        if let Some((namespace, sum)) = self.every.take() {
            namespace.deliveries.add(DeliveryMode::Every, sum);
        }
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        self.count_every();
        if self.bytes > 0 {
            self.metrics.delivered_bytes.increment(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Namespace, Namespaces};

    #[test]
    fn what_was_added_is_counted_once_and_by_namespace() {
        let namespaces = Namespaces::new([
            ("chat", Namespace::default()),
            ("game", Namespace::default()),
        ]);
        let metrics = Metrics::new(&namespaces).unwrap();
        let spaces: Vec<_> = namespaces
            .iter()
            .map(|space| metrics.namespace(space).unwrap())
            .collect();
        let mut tally = Tally::new(&metrics);
        tally.add_bytes(40);
        for (space, count) in [(0, 2), (0, 3), (1, 7), (0, 1)] {
            tally.add_every(spaces[space], count);
        }
        tally.add_bytes(2);
        drop(tally);
        let text = metrics.render();
        let names: Vec<_> = namespaces.iter().map(|space| space.name.clone()).collect();
        let line = |at: usize, count: u32| {
            let name = &names[at];
            format!("tidewire_deliveries_total{{namespace=\"{name}\",mode=\"every\"}} {count}")
        };
        for wanted in [
            line(0, 6),
            line(1, 7),
            "tidewire_delivered_bytes_total 42".to_owned(),
        ] {
            assert!(text.lines().any(|line| line == wanted), "{wanted}\n{text}");
        }
    }
}
