//! An older copy of the data folder put back: offsets are minted again, and every client that had
//! seen the ones of the lost time is told.

use std::{fs, path::Path};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    process::{Place, Process},
    support::Resume,
};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

async fn stop(node: Process) {
    node.signal(Signal::TERM);
    assert_eq!(node.ended().await.code(), Some(0));
}

/// Publishes these on a fresh connection.
async fn publish(place: &Place, range: std::ops::RangeInclusive<u64>) {
    let mut client = place.client("bob").await;
    for n in range {
        client.publish("news", json!(n)).await;
    }
}

/// A folder put back as it was after 3 publications, and marked, after a reader had seen 5 and a
/// channel that the copy does not know; and the log has 6 again. What the reader is told when it
/// resumes: the answers for both channels.
async fn resumed_after_a_restore() -> (Value, Value, Place, Process) {
    let place = Place::new();
    let (data, backup) = (place.dir.path().join("data"), place.dir.path().join("copy"));
    let node = place.start();
    publish(&place, 1..=3).await;
    stop(node).await;
    copy(&data, &backup);

    let node = place.start();
    let mut reader = place.client("ada").await;
    let news = reader.sub("news", json!({"last": 10})).await;
    let begun = reader.sub("orders:1", json!({})).await;
    publish(&place, 4..=5).await;
    let later = reader.publish("orders:1", json!("of the lost time")).await;
    reader
        .find(|frame| frame["t"] == "msg" && frame["o"] == 5)
        .await;
    let session = reader.cut();
    stop(node).await;

    fs::remove_dir_all(&data).unwrap();
    copy(&backup, &data);
    fs::write(data.join("restored"), "").unwrap();
    let node = place.start();
    publish(&place, 4..=6).await;
    place
        .client("bob")
        .await
        .publish("orders:1", json!("of another time"))
        .await;
    let subs = json!({"subs": [
        {"ch": "news", "e": news["e"], "o": 5},
        {"ch": "orders:1", "e": begun["e"], "o": later["o"]},
    ]});
    let mut reader = resume(&place, &session, subs).await;
    let mut answer = async |channel: &str| {
        reader
            .find(|frame| frame["t"] == "ok" && frame["ch"] == channel)
            .await
    };
    let answers = (answer("news").await, answer("orders:1").await);
    (answers.0, answers.1, place, node)
}

/// Resumes; the restored folder may not know the session.
async fn resume(place: &Place, session: &Resume, subs: Value) -> crate::support::Client {
    let mut client = crate::support::Client::connect(place.address()).await;
    let hello = crate::support::with(session.hello(Resume::next_attempt()), &subs);
    client.hello("ada", hello).await;
    client
}

#[tokio::test]
async fn a_restored_copy_that_is_marked_has_everybody_start_over_once() {
    let (news, orders, place, node) = resumed_after_a_restore().await;
    assert_eq!(
        (&news["rec"], &orders["rec"]),
        (&json!("reset"), &json!("reset"))
    );
    assert!(node.log().contains("a restored copy"));
    let mark = place.dir.path().join("data/restored");
    assert!(!mark.exists());

    // The next start is an ordinary one.
    let session = {
        let mut reader = place.client("ada").await;
        reader.sub("news", json!({})).await;
        reader.cut()
    };
    stop(node).await;
    let _node = place.start();
    let subs = json!({"subs": [{"ch": "news", "e": news["e"], "o": 6}]});
    let mut reader = place.resume("ada", &session, subs).await;
    let again = reader.find(|frame| frame["t"] == "ok").await;
    assert_eq!(again["rec"], "full");
}
