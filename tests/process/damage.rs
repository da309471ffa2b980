//! Folders a node must not touch: it says which file and what to do, and leaves them as they are.

use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::json;

use crate::process::{Place, run, snapshot, text};

/// A folder with a hundred publications, closed cleanly.
async fn filled() -> Place {
    let place = Place::new();
    let node = place.start();
    let mut client = place.client("ada").await;
    for n in 0..100 {
        client.publish("news", json!({"n": n})).await;
    }
    node.signal(Signal::TERM);
    assert_eq!(node.ended().await.code(), Some(0));
    place
}

/// Starts a node that must refuse with code 1 and these words, and touch nothing.
fn refuses(place: &Place, words: &[&str]) {
    let data = place.dir.path().join("data");
    let before = snapshot(&data);
    refuses_with(place, words);
    assert!(snapshot(&data) == before, "the folder was changed");
}

fn refuses_with(place: &Place, words: &[&str]) {
    let output = run(&mut place.serve());
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let last = said.lines().last().unwrap();
    assert!(last.starts_with("error: "), "{said}");
    for word in words {
        assert!(last.contains(word), "{word:?} is not in {last:?}");
    }
}

fn first_segment(place: &Place) -> PathBuf {
    place.log_folder().join("0000000001.log")
}

#[tokio::test]
async fn a_flipped_byte_is_refused() {
    let place = filled().await;
    let file = first_segment(&place);
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    refuses(
        &place,
        &[file.to_str().unwrap(), "is damaged at byte", "backup"],
    );
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    let place = filled().await;
    let file = first_segment(&place);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[8] += 1;
    std::fs::write(&file, bytes).unwrap();
    refuses(
        &place,
        &[file.to_str().unwrap(), "storage format 2", "empty data_dir"],
    );
}

#[tokio::test]
async fn a_foreign_file_is_refused() {
    let place = filled().await;
    let file = place.log_folder().join("notes.txt");
    std::fs::write(&file, "milk, bread").unwrap();
    refuses(&place, &[file.to_str().unwrap(), "move it away"]);
}

#[tokio::test]
async fn a_missing_segment_is_refused() {
    let place = filled().await;
    let (first, third) = (
        first_segment(&place),
        place.log_folder().join("0000000003.log"),
    );
    std::fs::copy(first, third).unwrap();
    refuses(&place, &["0000000002.log", "is missing", "backup"]);
}

#[tokio::test]
async fn a_folder_in_use_is_refused() {
    let place = Place::new();
    let _node = place.start();
    let config = std::fs::read_to_string(place.config()).unwrap();
    let elsewhere = config.replace(&format!(":{}", place.port), ":0");
    std::fs::write(place.config(), elsewhere).unwrap();
    let folder = place.log_folder();
    // The node that has the folder writes to it: its lease, if nothing else.
    refuses_with(
        &place,
        &[
            folder.to_str().unwrap(),
            "in use by another node",
            "stop it",
        ],
    );
    place.client("ada").await.publish("news", json!(1)).await;
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let place = Place::new();
    let _taken = std::net::TcpListener::bind(place.address()).unwrap();
    let output = run(&mut place.serve());
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&place.address().to_string()), "{said}");
    assert!(!place.dir.path().join("data").exists());
}
