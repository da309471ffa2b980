//! The close codes of this crate against what clients make of them in `vectors/close.json`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, fs, path::PathBuf};

use serde::Deserialize;
use tidewire_protocol::CloseCode;

#[derive(Deserialize)]
struct Vectors {
    cases: Vec<Case>,
}

#[derive(Debug, Deserialize)]
struct Case {
    code: u64,
    action: String,
}

#[test]
fn every_close_code_means_what_the_vectors_say() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors/close.json");
    let Ok(text) = fs::read_to_string(path) else {
        return;
    };
    let vectors: Vectors = serde_json::from_str(&text).unwrap();
    for case in &vectors.cases {
        let code = CloseCode::from_wire(case.code);
        let expected: &[&str] = if code == CloseCode::Unauthenticated {
            &["token", "blocked"]
        } else if code == CloseCode::Replaced {
            &["claim", "fresh", "blocked"]
        } else if code.blocks() {
            &["blocked"]
        } else {
            &["resume"]
        };
        assert!(expected.contains(&case.action.as_str()), "{case:?}");
    }
    let covered: BTreeSet<u64> = vectors.cases.iter().map(|case| case.code).collect();
    for code in CloseCode::ALL {
        assert!(
            covered.contains(&code.number().into()),
            "no case for {code:?}"
        );
    }
}
