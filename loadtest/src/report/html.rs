//! The page of a run: one file without scripts or anything from elsewhere.
//!
//! Made by `Report::write`. It shows what the report holds and calculates nothing.

use std::fmt::Write;

use super::{
    Latency, Report, amount, named,
    plot::{Plot, Series, escape, short},
};
use crate::sampler::{Sample, float};

const STYLE: &str = include_str!("style.css");
const MIB: f64 = 1024.0 * 1024.0;

/// The whole page.
pub fn page(report: &Report) -> String {
    let verdict = if report.passed {
        ("good", "passed")
    } else {
        ("bad", "failed")
    };
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{scenario}: {word}</title><style>{STYLE}</style></head><body><main>\n\
         <h1>Tidewire under load: {scenario}<span class=\"verdict {class}\">{word}</span></h1>\n\
         <p><code>{command}</code></p>\n<p class=\"soft\">{machine}</p>\n",
        scenario = report.scenario,
        class = verdict.0,
        word = verdict.1,
        command = escape(&report.command),
        machine = machine(report),
    );
    if !report.failures.is_empty() {
        let items = report
            .failures
            .iter()
            .map(|failure| format!("<li>{}</li>", escape(failure)));
        put(
            &mut page,
            format_args!("<ul class=\"failures\">{}</ul>", items.collect::<String>()),
        );
    }
    if report.tool_was_late() {
        put(
            &mut page,
            format_args!(
                "<p class=\"soft\">The tool itself was late by {:.0} ms at p99: the machine was too busy for these latencies.</p>",
                report.lateness_ms.p99
            ),
        );
    }
    tiles(&mut page, report);
    put(
        &mut page,
        format_args!(
            "<h2>Over time</h2><div class=\"plots\">{}</div>",
            plots(report)
        ),
    );
    tables(&mut page, report);
    page.push_str("</main></body></html>\n");
    page
}

fn machine(report: &Report) -> String {
    let machine = &report.machine;
    let build = if machine.debug_build {
        ", built without optimization: times mean little"
    } else {
        ""
    };
    format!(
        "{} cores shared by nodes and tool, load average {} at the end, Linux {}{build}. Began at Unix second {}.",
        machine.cores,
        escape(&machine.load_average),
        escape(&machine.kernel),
        report.began_unix_s
    )
}

fn tiles(page: &mut String, report: &Report) {
    let totals = &report.totals;
    let mut tiles = vec![
        (grouped(totals.delivered), "delivered".to_owned()),
        (grouped(totals.lost), "lost".to_owned()),
        (grouped(totals.repeated), "repeated".to_owned()),
        (grouped(totals.disordered), "disordered".to_owned()),
    ];
    if report.latency_ms.count > 0 {
        tiles.push((
            format!("{} ms", short(report.latency_ms.p50)),
            "p50, intended send → reader".to_owned(),
        ));
        tiles.push((
            format!("{} ms", short(report.latency_ms.p99)),
            "p99".to_owned(),
        ));
    }
    if let Some(each) = report.server.cpu_us_per_delivery {
        tiles.push((
            format!("{each:.2} µs"),
            "CPU of the nodes per delivery".to_owned(),
        ));
    }
    let peak = float(report.server.resident_bytes[1]) / MIB;
    if peak > 0.0 {
        tiles.push((
            format!("{peak:.0} MiB"),
            "nodes, resident at most".to_owned(),
        ));
    }
    tiles.extend(
        report
            .findings
            .iter()
            .map(|finding| (amount(finding), finding.name.clone())),
    );
    let tiles = tiles.iter().map(|(value, name)| {
        format!(
            "<div class=\"tile\"><b>{}</b><span>{}</span></div>",
            escape(value),
            escape(name)
        )
    });
    put(
        page,
        format_args!("<div class=\"tiles\">{}</div>\n", tiles.collect::<String>()),
    );
}

/// What a line shows of each second.
type Value = fn(&Sample) -> Option<f64>;
/// Lines by name.
type Lines = &'static [(&'static str, Value)];

/// Title, unit, lines. The first has a logarithmic axis.
const PLOTS: [(&str, &str, Lines); 7] = [
    (
        "Latency",
        "ms from the intended moment of sending",
        &[
            ("p50", |sample| sample.p50_ms),
            ("p99", |sample| sample.p99_ms),
            ("max", |sample| sample.max_ms),
        ],
    ),
    (
        "Deliveries",
        "a second",
        &[("delivered", |sample| Some(sample.delivered))],
    ),
    ("Sent", "a second", &[("sent", |sample| Some(sample.sent))]),
    (
        "Memory",
        "MiB resident",
        &[
            ("nodes", |sample| Some(float(sample.resident_bytes) / MIB)),
            ("this tool", |sample| Some(float(sample.tool_bytes) / MIB)),
        ],
    ),
    (
        "CPU",
        "% of one core",
        &[
            ("nodes", |sample| Some(sample.cpu_cores * 100.0)),
            ("this tool", |sample| Some(sample.tool_cores * 100.0)),
            ("Redis", |sample| {
                sample.redis_cores.map(|cores| cores * 100.0)
            }),
        ],
    ),
    (
        "Connections",
        "open",
        &[("connections", |sample| {
            Some(float(sample.connections.max(0).unsigned_abs()))
        })],
    ),
    (
        "Resumes",
        "sessions a second",
        &[("resumed", |sample| Some(sample.resumes))],
    ),
];

fn plots(report: &Report) -> String {
    let series = |(name, value): &(&str, Value)| {
        let points = report
            .samples
            .iter()
            .map(|sample| (sample.at_s, value(sample)));
        Series {
            name: (*name).to_owned(),
            points: points.collect(),
        }
    };
    let marks = report
        .marks
        .iter()
        .map(|mark| (mark.at_s, mark.what.as_str()));
    let drawn = PLOTS
        .iter()
        .enumerate()
        .map(|(number, (title, unit, lines))| {
            let lines = lines.iter().map(series);
            let shown = lines.filter(|line| line.points.iter().any(|(_, value)| value.is_some()));
            Plot {
                title,
                unit,
                series: shown.collect(),
                marks: marks.clone().collect(),
                labels: None,
                logarithmic: number == 0,
            }
            .draw()
        });
    let mut drawn: Vec<String> = drawn.collect();
    drawn.insert(1, percentiles(&report.latency_ms));
    if report.totals.resumed == 0 {
        drawn.pop();
    }
    drawn.concat()
}

fn percentiles(latency: &Latency) -> String {
    if latency.count == 0 {
        return String::new();
    }
    let places = (0_u32..).map(f64::from);
    let points = places
        .clone()
        .zip(&latency.curve)
        .map(|(at, (_, ms))| (at, Some(*ms)));
    let labels = places
        .zip(&latency.curve)
        .map(|(at, (quantile, _))| (at, percent(*quantile)));
    let plot = Plot {
        title: "Latency by percentile",
        unit: "ms",
        series: vec![Series {
            name: "latency".to_owned(),
            points: points.collect(),
        }],
        marks: Vec::new(),
        labels: Some(labels.collect()),
        logarithmic: true,
    };
    plot.draw()
}

fn percent(quantile: f64) -> String {
    let text = format!("{:.3}", quantile * 100.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn tables(page: &mut String, report: &Report) {
    let distributions = [
        ("intended → reader", &report.latency_ms),
        ("intended → acknowledged", &report.acknowledged_ms),
        ("intended → sent by this tool", &report.lateness_ms),
    ];
    let rows = distributions.iter().map(|(name, of)| {
        let cells = [of.p50, of.p90, of.p99, of.p999, of.max].map(|ms| format!("<td>{ms:.2}</td>"));
        format!(
            "<tr><td>{name}</td><td>{}</td>{}</tr>",
            grouped(of.count),
            cells.concat()
        )
    });
    put(
        page,
        format_args!(
            "<h2>Latencies, ms</h2><div class=\"wide\"><table><tr><th></th><th>count</th><th>p50</th><th>p90</th><th>p99</th><th>p99.9</th><th>max</th></tr>{}</table></div>",
            rows.collect::<String>()
        ),
    );
    let marks = report.marks.iter().map(|mark| {
        let what = escape(&mark.what);
        format!("<tr><td>{what}</td><td>{:.1} s</td></tr>", mark.at_s)
    });
    if !report.marks.is_empty() {
        let marks = marks.collect::<String>();
        put(
            page,
            format_args!("<h2>What was done</h2><div class=\"wide\"><table>{marks}</table></div>"),
        );
    }
    let counts = named(&report.totals).into_iter().map(|(name, value)| {
        let value = value.as_u64().map_or_else(|| value.to_string(), grouped);
        format!(
            "<tr><td>{}</td><td>{value}</td></tr>",
            name.replace('_', " ")
        )
    });
    put(
        page,
        format_args!(
            "<h2>Counts</h2><div class=\"wide\"><table>{}</table></div>\n",
            counts.collect::<String>()
        ),
    );
}

/// With a thin space between thousands.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{2009}');
        }
        text.push(digit);
    }
    text
}

fn put(page: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing into a string cannot fail.
    let _never = page.write_fmt(arguments);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(grouped(1_234_567), "1\u{2009}234\u{2009}567");
        assert_eq!(
            [0.5, 0.999, 0.99999, 1.0].map(percent),
            ["50", "99.9", "99.999", "100"]
        );
    }
}
