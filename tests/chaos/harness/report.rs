//! Outcomes as rows of a table, and what went wrong in words.

use std::fmt::Write;

use super::{
    load::Rate,
    run::{Outcome, Plan},
};

/// Violations shown of one run.
const SHOWN_MAX: usize = 20;

/// The titles of the columns of [`row`].
pub fn head() -> String {
    format!(
        "{:<33} {:>6} {:>8} {:>8} {:>9} {:>7} {:>7} {:>6} {:>6} {:>5} {:>8} {:>10} {:>12} {:>11} {:>10}  {}",
        "scenario",
        "seed",
        "size",
        "acked",
        "delivered",
        "resumes",
        "rewinds",
        "resets",
        "gaps",
        "lost",
        "repeated",
        "recovery s",
        "redis/s",
        "scripts/s",
        "busy",
        "verdict"
    )
}

pub fn row(plan: &Plan, outcome: &Outcome) -> String {
    let counts = &outcome.counts;
    let recovery = outcome.recovery.map_or_else(
        || "never".to_owned(),
        |time| format!("{:.1}", time.as_secs_f64()),
    );
    let rates = |of: fn(Rate) -> f64| {
        let text = |rate: Option<Rate>| {
            rate.map_or_else(|| "?".to_owned(), |rate| format!("{:.0}", of(rate)))
        };
        format!("{}→{}", text(outcome.load.0), text(outcome.load.1))
    };
    format!(
        "{:<33} {:>6} {:>8} {:>8} {:>9} {:>7} {:>7} {:>6} {:>6} {:>5} {:>8} {:>10} {:>12} {:>11} {:>10}  {}",
        plan.scenario.title(),
        plan.seed,
        format!("{}/{}", plan.clients, plan.publishers),
        counts.acknowledged,
        counts.delivered,
        counts.resumes,
        counts.rewinds,
        counts.resets,
        counts.gaps,
        outcome.lost,
        outcome.repeated(),
        recovery,
        rates(|rate| rate.commands),
        rates(|rate| rate.scripts),
        outcome.busy.to_string(),
        if outcome.is_good() {
            "good"
        } else {
            "VIOLATED"
        }
    )
}

/// Everything that is wrong.
pub fn details(outcome: &Outcome) -> String {
    let mut text = String::new();
    if outcome.busy.is_much() {
        let busy = outcome.busy;
        writeln!(
            text,
            "the machine was busy (load/longest wait for a core {busy}): limits of time prove little"
        )
        .unwrap();
    }
    for trouble in &outcome.troubles {
        writeln!(text, "{trouble}").unwrap();
    }
    if outcome.recovery.is_none() {
        writeln!(text, "not every reader was served again in time").unwrap();
    }
    if !outcome.report.is_clean() {
        writeln!(text, "{:?}", outcome.report.counts).unwrap();
    }
    for violation in outcome.report.violations.iter().take(SHOWN_MAX) {
        writeln!(text, "  {violation}").unwrap();
    }
    if outcome.counts.sessions_lost > 0 {
        writeln!(text, "{} sessions were lost", outcome.counts.sessions_lost).unwrap();
    }
    if let Some(kept) = &outcome.kept {
        writeln!(text, "logs of all processes: {}", kept.display()).unwrap();
    }
    text
}
