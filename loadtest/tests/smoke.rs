//! The load tool as one runs it: short runs against real nodes, one of them killed.
//!
//! `cargo test --workspace` builds the node beside it; alone, `cargo build --bin tidewire` first.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

const TOOL: &str = env!("CARGO_BIN_EXE_tidewire-load");

fn load(folder: &Path, words: &str) -> Output {
    let node = Path::new(TOOL).with_file_name("tidewire");
    assert!(
        node.is_file(),
        "no {}: cargo build --bin tidewire",
        node.display()
    );
    Command::new(TOOL)
        .args(words.split(' '))
        .arg("--out")
        .arg(folder)
        .arg("--tidewire")
        .arg(node)
        .output()
        .unwrap()
}

/// The report of the only run in a folder, and its page.
fn report(folder: &Path, output: &Output) -> (Value, String) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path());
    let (pages, data): (Vec<_>, Vec<_>) =
        files.partition(|file| file.extension().unwrap() == "html");
    assert_eq!((pages.len(), data.len()), (1, 1), "{said}");
    let data = serde_json::from_slice(&std::fs::read(&data[0]).unwrap()).unwrap();
    (data, std::fs::read_to_string(&pages[0]).unwrap())
}

#[test]
fn a_short_fanout_passes_and_leaves_its_report_as_numbers_and_as_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let output = load(
        folder.path(),
        "fanout --readers 40 --channels 4 --rate 40 --seconds 2",
    );
    let (report, page) = report(folder.path(), &output);
    assert_eq!(report["passed"], true);
    assert_eq!(report["totals"]["sent"], 80);
    assert_eq!(report["totals"]["owed"], 800);
    assert_eq!(report["totals"]["delivered"], 800);
    assert_eq!(report["latency_ms"]["count"], 800);
    assert!(report["server"]["cpu_us_per_delivery"].is_number());
    assert!(page.contains("<svg") && page.contains("prefers-color-scheme"));
    // Nothing is loaded from anywhere.
    assert!(!page.contains("<script") && !page.contains("http"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("delivered/s") && said.contains("40 connections"),
        "{said}"
    );
}

#[test]
fn a_killed_node_costs_nothing_and_its_sessions_are_counted_as_they_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let output = load(
        folder.path(),
        "kill --clients 30 --channels 5 --rate 20 --seconds 6 --quiet",
    );
    let (report, page) = report(folder.path(), &output);
    let totals = &report["totals"];
    assert_eq!(totals["lost"], 0);
    assert_eq!(totals["repeated"], 0);
    assert_eq!(totals["delivered"], totals["owed"]);
    assert!(totals["resumed"].as_u64().unwrap() >= 10, "{totals}");
    assert!(
        page.contains("node 1 killed"),
        "the plots say what was done"
    );
}

#[test]
fn what_the_machine_does_not_allow_is_told_with_the_command_that_allows_it() {
    let tool = format!("ulimit -n 400 && {TOOL} idle --connections 1000");
    let output = Command::new("sh").args(["-c", &tool]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("ulimit -n 1364"), "{said}");
}
