//! Torn ends, damage, foreign folders, full disks.

use std::{collections::BTreeMap, fs, path::PathBuf};

use tidewire_protocol::command::Range;

use super::*;
use crate::{
    broker::{
        BrokerError,
        contract::{
            PAGE, catch_up, channel, entries, head, history, keyed, one, publish, put, removal,
        },
    },
    store::{Checkpoint, Fence, SessionId, Write},
};

/// Everything in a folder.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

fn last_segment(dir: &Path) -> PathBuf {
    files(dir).into_keys().next_back().unwrap()
}

type Seen = (u64, String, String);

/// What a reader can see of a channel and a session.
async fn seen(broker: &dyn Broker, store: &dyn CheckpointStore) -> Seen {
    let a = channel("a");
    let page = history(broker, &a, Range::After(0)).await;
    let state = catch_up(broker, &a, 0).await;
    let session = store.read(&SessionId(Arc::from("s"))).await.unwrap();
    (
        page.head.position.offset,
        format!("{:?} {:?}", page.items, entries(&state)),
        format!("{session:?}"),
    )
}

fn checkpoint(body: &str) -> Vec<Write> {
    vec![Write {
        session: SessionId(Arc::from("s")),
        checkpoint: Checkpoint {
            fence: Fence {
                attempt: 1,
                nonce: 1,
            },
            body: body.to_owned().into(),
        },
        ttl_ms: 3_600_000,
        connected: true,
    }]
}

/// Makes a small log of every kind of record; what could be seen at each length of the file.
async fn small_log(folder: &Folder) -> Vec<(u64, Seen)> {
    let (broker, store) = folder.reopen();
    let a = channel("a");
    let length = || fs::metadata(last_segment(folder.path())).unwrap().len();
    let mut steps = vec![(0, seen(&*broker, &*store).await)];
    for step in 0..10 {
        match step {
            0 | 4 => drop(put(&*broker, publish(&a, "no key")).await),
            1 | 5 => drop(put(&*broker, keyed(&a, "x", "value")).await),
            2 => store.write(checkpoint("first")).await.remove(0).unwrap(),
            3 => drop(put(&*broker, removal(&a, "x")).await),
            6 => broker.blank(&a, 1).await.unwrap(),
            7 => {
                let session = SessionId(Arc::from("s"));
                let fence = Fence {
                    attempt: 2,
                    nonce: 1,
                };
                store.claim(&session, fence, 7_200_000).await.unwrap();
            }
            8 => drop(broker.delete(&a).await.unwrap()),
            _ => drop(put(&*broker, publish(&a, "another life")).await),
        }
        steps.push((length(), seen(&*broker, &*store).await));
    }
    steps
}

#[tokio::test]
async fn a_log_torn_at_any_byte_holds_exactly_what_was_whole_before_it() {
    // No sync runs within the test, so that no mark says how much was on disk.
    let folder = Folder::new(Sync::Within(std::time::Duration::from_secs(60)));
    let steps = small_log(&folder).await;
    let segment = last_segment(folder.path());
    let whole = fs::read(&segment).unwrap();
    folder.close();
    for cut in 0..=whole.len() {
        fs::write(&segment, &whole[..cut]).unwrap();
        let (broker, store) = folder.reopen();
        let reached = steps
            .iter()
            .rfind(|(length, _)| *length <= cut as u64)
            .unwrap();
        assert_eq!(seen(&*broker, &*store).await, reached.1, "cut at {cut}");
        folder.close();
    }
}

#[tokio::test]
async fn a_flipped_bit_in_what_was_synced_is_refused_and_nothing_is_touched() {
    let folder = Folder::new(Sync::Always);
    let steps = small_log(&folder).await;
    folder.close();
    let segment = last_segment(folder.path());
    let whole = fs::read(&segment).unwrap();
    let marked = usize::try_from(steps.last().unwrap().0).unwrap();
    for at in (0..marked).step_by(7) {
        let mut flipped = whole.clone();
        flipped[at] ^= 16;
        fs::write(&segment, &flipped).unwrap();
        let before = files(folder.path());
        let refused = EmbeddedStorage::open(folder.path(), Options::default());
        assert!(refused.is_err(), "flip at {at}");
        assert_eq!(files(folder.path()), before);
    }
    fs::write(&segment, &whole).unwrap();
    let (broker, store) = folder.reopen();
    assert_eq!(seen(&*broker, &*store).await, steps.last().unwrap().1);
}

fn refusal(dir: &Path) -> String {
    let before = files(dir);
    let error = EmbeddedStorage::open(dir, Options::default()).unwrap_err();
    assert_eq!(files(dir), before, "the folder is as it was");
    error.to_string()
}

#[tokio::test]
async fn a_folder_that_cannot_be_read_is_refused_by_name() {
    let folder = Folder::with(Options {
        segment_bytes: 64 * 1024,
        ..Options::default()
    });
    let (broker, _) = folder.reopen();
    for _ in 0..40 {
        put(&*broker, publish(&channel("a"), &"x".repeat(8000))).await;
    }
    let in_use = refusal(folder.path());
    assert!(in_use.contains("in use by another node"), "{in_use}");
    folder.close();

    let all = files(folder.path());
    let second = all.keys().nth(1).unwrap().clone();
    let bytes = fs::read(&second).unwrap();
    fs::remove_file(&second).unwrap();
    assert!(refusal(folder.path()).contains("0000000002.log is missing"));
    let mut newer = bytes.clone();
    newer[8] = 2;
    fs::write(&second, newer).unwrap();
    assert!(refusal(folder.path()).contains("storage format 2, this version reads 1"));
    fs::write(&second, &bytes[..bytes.len() / 2]).unwrap();
    assert!(refusal(folder.path()).contains("0000000002.log is damaged at byte"));
    fs::write(&second, "hello, I am a log file of something else").unwrap();
    assert!(refusal(folder.path()).contains("not a file of Tidewire"));
    fs::write(&second, &bytes).unwrap();
    fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    assert!(refusal(folder.path()).contains("notes.txt is not a file of Tidewire"));
    fs::remove_file(folder.path().join("notes.txt")).unwrap();
    let (broker, _) = folder.reopen();
    assert_eq!(head(&*broker, &channel("a")).await.position.offset, 40);
}

#[tokio::test]
async fn an_unsynced_end_that_spans_two_segments_is_cut_off() {
    let folder = Folder::with(Options {
        segment_bytes: 64 * 1024,
        sync: Sync::Within(std::time::Duration::from_secs(60)),
        ..Options::default()
    });
    let (broker, _) = folder.reopen();
    for _ in 0..12 {
        put(&*broker, publish(&channel("a"), &"x".repeat(8000))).await;
    }
    let power_cut = files(folder.path());
    folder.close();
    for (file, bytes) in &power_cut {
        fs::write(file, bytes).unwrap();
    }
    let first = power_cut.keys().next().unwrap();
    fs::write(first, &power_cut[first][..30_000]).unwrap();
    let (broker, _) = folder.reopen();
    assert_eq!(head(&*broker, &channel("a")).await.position.offset, 3);
    assert_eq!(put(&*broker, publish(&channel("a"), "on")).await.offset, 4);
    let (broker, _) = folder.reopen();
    assert_eq!(head(&*broker, &channel("a")).await.position.offset, 4);
}

#[tokio::test]
async fn a_failed_write_ends_the_service_and_loses_nothing_acknowledged() {
    let folder = Folder::new(Sync::Within(std::time::Duration::from_millis(1)));
    let (broker, store) = folder.reopen();
    let a = channel("a");
    let first = put(&*broker, publish(&a, "1")).await;
    folder.fail_writes();
    let refused = one(&*broker, publish(&a, "2")).await;
    assert_eq!(refused, Err(BrokerError::Unavailable));
    let read = broker.history(&a, Range::After(0), PAGE).await;
    assert_eq!(
        read,
        Err(BrokerError::Unavailable),
        "memory is ahead of the disk"
    );
    assert!(store.write(checkpoint("x")).await.remove(0).is_err());
    let (broker, _) = folder.reopen();
    assert_eq!(head(&*broker, &a).await.position, first);
    assert_eq!(put(&*broker, publish(&a, "2")).await.offset, 2);
}
