//! The table of `top`: a line for each node, and one for all of them.
//!
//! Pure: samples in, text out.

use std::{fmt::Write, time::Duration};

use crate::telemetry::sample::Sample;

/// What was there is not known yet, or nothing happened.
const NOTHING: &str = "-";
const HEAD: [&str; 13] = [
    "NODE", "BROKER", "CONNS", "SESSIONS", "PUB/S", "DELIV/S", "P99", "LAG", "STALLED", "RESUMES",
    "GAPS", "CPU", "MEMORY",
];

/// One node.
#[derive(Debug)]
pub(super) struct Row {
    name: String,
    shown: Result<Shown, String>,
}

#[derive(Debug, Default)]
struct Shown {
    broker: &'static str,
    connections: f64,
    sessions: f64,
    publications: Option<f64>,
    deliveries: Option<f64>,
    delivery_p99: Option<f64>,
    lag_p99: Option<f64>,
    stalled: f64,
    resumes: f64,
    gaps: f64,
    cpu: Option<f64>,
    memory: f64,
}

impl Row {
    /// A node that does not answer.
    pub(super) const fn away(name: String, failure: String) -> Self {
        Self {
            name,
            shown: Err(failure),
        }
    }

    /// A node that answered: rates since `before`, times since `window`.
    pub(super) fn of(
        name: String,
        now: &Sample,
        before: Option<(Duration, &Sample)>,
        window: Option<&Sample>,
    ) -> Self {
        let rate = |name: &str| {
            let (elapsed, before) = before?;
            Some((now.sum(name) - before.sum(name)) / elapsed.as_secs_f64())
        };
        let up = now.sum("tidewire_broker_up") > 0.0;
        let safe = now.sum("tidewire_broker_config_safe") > 0.0;
        let shown = Shown {
            broker: match (up, safe) {
                (true, true) => "ok",
                (true, false) => "unsafe",
                (false, _) => "AWAY",
            },
            connections: now.sum("tidewire_connections"),
            sessions: now.sum("tidewire_sessions"),
            publications: rate("tidewire_publications_total"),
            deliveries: rate("tidewire_deliveries_total"),
            delivery_p99: window.and_then(|window| now.delivery.p99_since(&window.delivery)),
            lag_p99: window.and_then(|window| now.lag.p99_since(&window.lag)),
            stalled: now.sum("tidewire_stalled_connections"),
            resumes: now.sum("tidewire_resumes_total"),
            gaps: now.sum("tidewire_gaps_total"),
            cpu: rate("process_cpu_seconds_total"),
            memory: now.sum("process_resident_memory_bytes"),
        };
        Self {
            name,
            shown: Ok(shown),
        }
    }
}

/// The table, without an end of line after the last.
pub(super) fn draw(rows: &[Row]) -> String {
    let mut lines = vec![HEAD.map(str::to_owned)];
    let mut notes = String::new();
    for row in rows {
        match &row.shown {
            Ok(shown) => lines.push(shown.cells(&row.name)),
            Err(failure) => {
                lines.push(HEAD.map(|_| NOTHING.to_owned()));
                if let Some(name) = lines.last_mut().and_then(|cells| cells.first_mut()) {
                    name.clone_from(&row.name);
                }
                // Writing to a String cannot fail.
                let _infallible = write!(notes, "\n{} {failure}", row.name);
            }
        }
    }
    let there: Vec<&Shown> = rows
        .iter()
        .filter_map(|row| row.shown.as_ref().ok())
        .collect();
    if there.len() > 1 {
        lines.push(all(&there).cells("all"));
    }
    align(&lines) + &notes
}

/// Sums, and of times and lags the worst.
fn all(nodes: &[&Shown]) -> Shown {
    let sum = |of: fn(&Shown) -> f64| nodes.iter().map(|node| of(node)).sum::<f64>();
    let rates = |of: fn(&Shown) -> Option<f64>| {
        let known: Vec<f64> = nodes.iter().filter_map(|node| of(node)).collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>())
    };
    let worst =
        |of: fn(&Shown) -> Option<f64>| nodes.iter().filter_map(|node| of(node)).reduce(f64::max);
    Shown {
        broker: NOTHING,
        connections: sum(|node| node.connections),
        sessions: sum(|node| node.sessions),
        publications: rates(|node| node.publications),
        deliveries: rates(|node| node.deliveries),
        delivery_p99: worst(|node| node.delivery_p99),
        lag_p99: worst(|node| node.lag_p99),
        stalled: sum(|node| node.stalled),
        resumes: sum(|node| node.resumes),
        gaps: sum(|node| node.gaps),
        cpu: rates(|node| node.cpu),
        memory: sum(|node| node.memory),
    }
}

impl Shown {
    fn cells(&self, name: &str) -> [String; HEAD.len()] {
        let known = |value: Option<f64>, show: fn(f64) -> String| {
            value.map_or_else(|| NOTHING.to_owned(), show)
        };
        [
            name.to_owned(),
            self.broker.to_owned(),
            count(self.connections),
            count(self.sessions),
            known(self.publications, count),
            known(self.deliveries, count),
            known(self.delivery_p99, seconds),
            known(self.lag_p99, bound),
            count(self.stalled),
            count(self.resumes),
            count(self.gaps),
            known(self.cpu, |cores| format!("{cores:.2}")),
            format!("{:.0}M", self.memory / f64::from(1 << 20)),
        ]
    }
}

/// Names to the left, figures to the right.
fn align(lines: &[[String; HEAD.len()]]) -> String {
    let mut text = String::new();
    for (number, cells) in lines.iter().enumerate() {
        let mut line = String::new();
        for (column, cell) in cells.iter().enumerate() {
            let width = lines
                .iter()
                .map(|cells| cells[column].chars().count())
                .max();
            let width = width.unwrap_or_default();
            // Writing to a String cannot fail.
            let _infallible = match column {
                0 => write!(line, "{cell:<width$}"),
                1 => write!(line, "  {cell:<width$}"),
                _ => write!(line, "  {cell:>width$}"),
            };
        }
        if number > 0 {
            text.push('\n');
        }
        text.push_str(line.trim_end());
    }
    text
}

fn count(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.1}M", value / 1e6),
        value if value >= 1e4 => format!("{:.1}k", value / 1e3),
        value => format!("{value:.0}"),
    }
}

/// The bound of a bucket.
fn bound(value: f64) -> String {
    if value.is_finite() {
        format!("≤{value:.0}")
    } else {
        ">65536".to_owned()
    }
}

fn seconds(value: f64) -> String {
    match value {
        value if value.is_infinite() => ">10s".to_owned(),
        value if value >= 1.0 => format!("≤{value}s"),
        value => format!("≤{}ms", value * 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(connections: u32, published: u32) -> Sample {
        Sample::parse(&format!(
            "tidewire_connections {connections}\ntidewire_broker_up 1\ntidewire_broker_config_safe 1\n\
             tidewire_publications_total{{namespace=\"a\"}} {published}\n\
             tidewire_gaps_total{{reason=\"expired\"}} 2\nprocess_resident_memory_bytes 52428800\n\
             tidewire_delivery_seconds_bucket{{le=\"0.005\"}} {published}\n\
             tidewire_delivery_seconds_bucket{{le=\"+Inf\"}} {published}\n"
        ))
        .unwrap()
    }

    #[test]
    fn nodes_are_lines_and_together_a_last_one() {
        let (before, now) = (sample(12_000, 100), sample(12_345, 300));
        let second = Duration::from_secs(1);
        let rows = [
            Row::of(
                "a:1".to_owned(),
                &now,
                Some((2 * second, &before)),
                Some(&before),
            ),
            Row::of("b:1".to_owned(), &sample(5, 0), None, None),
            Row::away("c:1".to_owned(), "does not answer".to_owned()),
        ];
        let text = draw(&rows);
        let words: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(words[0], HEAD);
        let (rest, resumes) = (["-", "0", "0"], "2");
        let a = ["a:1", "ok", "12.3k", "0", "100", "0", "≤5ms"];
        assert_eq!(
            words[1],
            [&a[..], &rest, &[resumes, "0.00", "50M"]].concat()
        );
        assert_eq!(words[2][..7], ["b:1", "ok", "5", "0", "-", "-", "-"]);
        assert_eq!(words[3], [&["c:1"][..], &["-"; 12]].concat());
        assert_eq!(words[4][..6], ["all", "-", "12.3k", "0", "100", "0"]);
        assert_eq!(words[4][10], "4", "gaps");
        assert_eq!(text.lines().last(), Some("c:1 does not answer"));
    }

    #[test]
    fn figures_are_short() {
        for (shown, expected) in [
            (count(9_999.0), "9999"),
            (count(1_250_000.0), "1.2M"),
            (seconds(0.0025), "≤2.5ms"),
            (seconds(2.5), "≤2.5s"),
            (seconds(f64::INFINITY), ">10s"),
            (bound(256.0), "≤256"),
            (bound(f64::INFINITY), ">65536"),
        ] {
            assert_eq!(shown, expected);
        }
    }
}
