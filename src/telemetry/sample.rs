//! One answer of `/metrics`, in numbers: what `top` and the operators' rows show.
//!
//! Pure: text in, numbers out. Unknown lines are passed over, as other versions may have more.

use std::collections::BTreeMap;

/// A histogram: how many were at most this much, by rising bound.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Buckets(Vec<(f64, f64)>);

impl Buckets {
    /// The bound under which 99 % of what was recorded since `before` is; none if there was nothing.
    pub fn p99_since(&self, before: &Self) -> Option<f64> {
        const SHARE: f64 = 0.99;
        let counts = self.0.iter().enumerate().map(|(at, (bound, count))| {
            let earlier = before.0.get(at).map_or(0.0, |(_, count)| *count);
            (*bound, count - earlier)
        });
        let counts: Vec<_> = counts.collect();
        let (_, all) = *counts.last()?;
        let holds = |(_, count): &&(f64, f64)| all > 0.0 && *count >= all * SHARE;
        counts.iter().find(holds).map(|(bound, _)| *bound)
    }
}

/// What a node exposed.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// By name, summed over labels.
    sums: BTreeMap<String, f64>,
    /// By name and the whole of its labels.
    labelled: BTreeMap<(String, String), f64>,
    pub lag: Buckets,
    pub delivery: Buckets,
}

impl Sample {
    /// Reads Prometheus' text format; none where it is not a node's.
    pub fn parse(text: &str) -> Option<Self> {
        let mut sample = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let Ok(value) = value.parse::<f64>() else {
                continue;
            };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            match name {
                "tidewire_lag_publications_bucket" => sample.lag.0.extend(bucket(labels, value)),
                "tidewire_delivery_seconds_bucket" => {
                    sample.delivery.0.extend(bucket(labels, value));
                }
                name => {
                    *sample.sums.entry(name.to_owned()).or_default() += value;
                    if let Some(labels) = labels.strip_suffix('}') {
                        let of = (name.to_owned(), labels.to_owned());
                        sample.labelled.insert(of, value);
                    }
                }
            }
        }
        sample
            .sums
            .contains_key("tidewire_connections")
            .then_some(sample)
    }

    /// A metric over all its labels; 0 where there is none.
    pub fn sum(&self, name: &str) -> f64 {
        self.sums.get(name).copied().unwrap_or_default()
    }

    /// What is not 0 of a counter with one label, by the label's value.
    pub fn by_label(&self, name: &str) -> BTreeMap<String, f64> {
        let value = |labels: &str| Some(labels.split_once("=\"")?.1.strip_suffix('"')?.to_owned());
        let counted = self.labelled.iter().filter(|(_, count)| **count > 0.0);
        counted
            .filter(|((of, _), _)| of == name)
            .filter_map(|((_, labels), count)| Some((value(labels)?, *count)))
            .collect()
    }

    /// When the process started, in whole Unix seconds: the exposed figure is a sum that rounds.
    pub fn started(&self) -> f64 {
        self.sum("process_start_time_seconds").round()
    }
}

fn bucket(labels: &str, count: f64) -> Option<(f64, f64)> {
    let (_, bound) = labels.split_once("le=\"")?;
    let (bound, _) = bound.split_once('"')?;
    let bound = match bound {
        "+Inf" => f64::INFINITY,
        number => number.parse().ok()?,
    };
    Some((bound, count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Namespaces, telemetry::metrics::Metrics};

    fn buckets(counts: [f64; 3]) -> Buckets {
        Buckets([0.1, 1.0, f64::INFINITY].into_iter().zip(counts).collect())
    }

    #[test]
    fn what_a_node_exposes_is_read() {
        let metrics = Metrics::new(&Namespaces::default()).unwrap();
        metrics.connections.set(7.0);
        metrics.lag_publications.record(100.0);
        metrics.delivered(crate::clock::now_ms() - 1_500);
        let text = metrics.render();
        let sample = Sample::parse(&text).unwrap();
        assert!((sample.sum("tidewire_connections") - 7.0).abs() < f64::EPSILON);
        assert!(sample.started() > 1e9);
        let nothing = Buckets::default();
        assert_eq!(sample.lag.p99_since(&nothing), Some(256.0));
        assert_eq!(sample.delivery.p99_since(&nothing), Some(2.5));
    }

    #[test]
    fn labels_are_summed_and_other_pages_are_no_sample() {
        let text =
            "# HELP x y\ntidewire_connections 0\nx_total{a=\"1 b\"} 2\nx_total{a=\"2\"} 3\nodd\n";
        let sample = Sample::parse(text).unwrap();
        assert!((sample.sum("x_total") - 5.0).abs() < f64::EPSILON);
        let by_label = [("1 b".to_owned(), 2.0), ("2".to_owned(), 3.0)];
        assert_eq!(sample.by_label("x_total"), by_label.into());
        assert!(Sample::parse("<html> hello 1\n").is_none());
    }

    #[test]
    fn a_quantile_is_of_what_came_since() {
        let old = buckets([0.0, 900.0, 1_000.0]);
        let new = buckets([99.0, 1_000.0, 1_100.0]);
        assert_eq!(new.p99_since(&old), Some(0.1));
        assert_eq!(new.p99_since(&Buckets::default()), Some(f64::INFINITY));
        assert_eq!(new.p99_since(&new), None);
    }
}
