//! `protocol/vectors/backoff.json` and `close.json`.

use serde_json::Value;
use tidewire_protocol::CloseCode;

use super::world::vector;
use crate::core::{
    backoff::backoff,
    close::{Action, Ending, after_close},
    told,
};

fn cases(file: &str) -> Vec<Value> {
    vector(file)["cases"].as_array().unwrap().clone()
}

#[test]
fn waits_are_those_of_the_vectors() {
    let cases = cases("backoff.json");
    assert!(cases.len() > 10);
    for case in cases {
        let failures = u32::try_from(case["failures"].as_u64().unwrap()).unwrap();
        let retry = case["retry"].as_u64().unwrap_or(0);
        let wait = backoff(failures, case["random"].as_f64().unwrap(), retry);
        assert_eq!(wait, case["ms"].as_u64().unwrap(), "{case}");
    }
}

#[test]
fn ends_of_connections_mean_what_the_vectors_say() {
    let cases = cases("close.json");
    assert!(cases.len() > 20);
    for case in cases {
        let number = case["code"].as_u64().unwrap();
        let small = |key: &str| usize::try_from(case[key].as_u64().unwrap()).unwrap();
        let action = after_close(&Ending {
            code: told(number),
            welcomed: case["welcomed"].as_bool().unwrap(),
            unauthenticated: u32::try_from(small("unauthenticated")).unwrap(),
            attempt: case["attempt"].as_u64(),
            claimed: case["claimed"].as_bool().unwrap(),
            replaced: small("replaced"),
        });
        let expected = match case["action"].as_str().unwrap() {
            "resume" => Action::Resume,
            "token" => Action::Token,
            "claim" => Action::Claim(case["attempt"].as_u64().unwrap()),
            "fresh" => Action::Fresh,
            "blocked" => Action::Blocked(CloseCode::from_wire(number)),
            other => panic!("{other}"),
        };
        assert_eq!(action, expected, "{case}");
    }
}
