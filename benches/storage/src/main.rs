//! What one acknowledged put costs: Tidewire's own journal as the node uses it, fjall and redb.
//! Prints Markdown tables; `docs/storage.md` says what they mean.

#![allow(dead_code, reason = "the node's modules are compiled in as they are")]

#[path = "../../../src/broker/mod.rs"]
mod broker;
#[path = "../../../src/journal/mod.rs"]
mod journal;
#[path = "../../../src/storage/mod.rs"]
mod storage;
#[path = "../../../src/store/mod.rs"]
mod store;

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use broker::{Broker, Publish, Retention};
use storage::{EmbeddedStorage, Opened, Options, Sync};
use tidewire_protocol::{ChannelName, Payload, command::Range};

/// How long each line runs.
const RUN: Duration = Duration::from_secs(3);
/// Bytes of a value.
const VALUE: usize = 300;
/// Keys, or channels.
const KEYS: u64 = 10_000;

type Failure = Box<dyn std::error::Error>;

/// Processor time of this process so far, µs, from the kernel's own account.
fn cpu_us() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split_whitespace()
        .collect();
    let ticks = |at: usize| {
        fields
            .get(at)
            .and_then(|text| text.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) * 10_000.0
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Runs `put` for the time of a line and prints it.
fn line(
    name: &str,
    batch: usize,
    mut put: impl FnMut(usize) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (cpu, begun) = (cpu_us(), Instant::now());
    let (mut puts, mut slowest) = (0_u64, Duration::ZERO);
    while begun.elapsed() < RUN {
        let one = Instant::now();
        put(batch)?;
        slowest = slowest.max(one.elapsed());
        puts += batch as u64;
    }
    let (cpu, seconds) = (cpu_us() - cpu, begun.elapsed().as_secs_f64());
    println!(
        "| {name} | {batch} | {:.0} | {:.2} | {:.1} |",
        puts as f64 / seconds,
        cpu / puts as f64,
        slowest.as_secs_f64() * 1000.0
    );
    Ok(())
}

fn item(random: &mut Random, value: &bytes::Bytes, names: &[ChannelName]) -> Publish {
    let which = usize::try_from(random.next() % KEYS).unwrap_or(0);
    Publish {
        channel: names[which].clone(),
        retention: Retention {
            history_size: 100,
            history_ttl_ms: 3_600_000,
            state: false,
            state_keys: 0,
            state_ttl_ms: 0,
            tombstone_ttl_ms: 3_600_000,
            dedup_ttl_ms: 120_000,
        },
        payload: Some(Payload::Json(value.clone())),
        key: None,
        event: None,
        id: None,
        publisher: Arc::from("k:bench"),
        by: None,
        delete: false,
        ttl_ms: None,
        guard: None,
        trace: None,
    }
}

fn open(dir: &Path, sync: Sync) -> Result<Opened, Failure> {
    Ok(EmbeddedStorage::open(
        dir,
        Options {
            sync,
            ..Options::default()
        },
    )?)
}

fn journal(sync: Sync, name: &str, runtime: &tokio::runtime::Runtime) -> Result<(), Failure> {
    let names = names()?;
    for batch in [1, 64, 1024] {
        let dir = tempfile::tempdir_in(".")?;
        let opened = open(dir.path(), sync)?;
        let (mut random, value) = (Random(88), bytes::Bytes::from(vec![b'x'; VALUE]));
        line(name, batch, |batch| {
            let items = (0..batch)
                .map(|_| item(&mut random, &value, &names))
                .collect();
            for answer in runtime.block_on(opened.broker.publish(items)) {
                answer?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn names() -> Result<Vec<ChannelName>, Failure> {
    let name = |n: u64| Ok(ChannelName::new(&format!("orders:{n}"))?);
    (0..KEYS).map(name).collect()
}

fn fjall_lines(sync: bool, name: &str) -> Result<(), Failure> {
    for batch in [1, 64, 1024] {
        let dir = tempfile::tempdir_in(".")?;
        let db = fjall::Database::builder(dir.path()).open()?;
        let space = db.keyspace("log", fjall::KeyspaceCreateOptions::default)?;
        let (mut random, value) = (Random(88), vec![b'x'; VALUE]);
        let mut offset = 0_u64;
        line(name, batch, |batch| {
            let mut writes = db.batch();
            for _ in 0..batch {
                offset += 1;
                let mut key = (random.next() % KEYS).to_be_bytes().to_vec();
                key.extend_from_slice(&offset.to_be_bytes());
                writes.insert(&space, key, &value);
            }
            writes.commit()?;
            db.persist(if sync {
                fjall::PersistMode::SyncData
            } else {
                fjall::PersistMode::Buffer
            })?;
            Ok(())
        })?;
    }
    Ok(())
}

const TABLE: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("log");

fn redb_lines() -> Result<(), Failure> {
    for batch in [1, 64, 1024] {
        let dir = tempfile::tempdir_in(".")?;
        let db = redb::Database::create(dir.path().join("log.redb"))?;
        let (mut random, value) = (Random(88), vec![b'x'; VALUE]);
        let mut offset = 0_u64;
        line("redb, synced", batch, |batch| {
            let write = db.begin_write()?;
            {
                let mut table = write.open_table(TABLE)?;
                for _ in 0..batch {
                    offset += 1;
                    let mut key = (random.next() % KEYS).to_be_bytes().to_vec();
                    key.extend_from_slice(&offset.to_be_bytes());
                    table.insert(&key[..], &value[..])?;
                }
            }
            write.commit()?;
            Ok(())
        })?;
    }
    Ok(())
}

/// Group commit: many publishers, each with one publication under way, every one synced.
fn group(runtime: &tokio::runtime::Runtime) -> Result<(), Failure> {
    println!("\n| publishers at once | puts/s | CPU µs a put |\n|---|---|---|");
    let names = Arc::new(names()?);
    for publishers in [1_u64, 16, 256] {
        let dir = tempfile::tempdir_in(".")?;
        let opened = open(dir.path(), Sync::Always)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (cpu, begun) = (cpu_us(), Instant::now());
        let tasks: Vec<_> = (1..=publishers)
            .map(|seed| {
                let (broker, stop, names) = (opened.broker.clone(), stop.clone(), names.clone());
                runtime.spawn(async move {
                    let (mut random, value) =
                        (Random(seed * 77), bytes::Bytes::from(vec![b'x'; VALUE]));
                    let mut puts = 0_u64;
                    while !stop.load(Ordering::Relaxed) {
                        let answers = broker
                            .publish(vec![item(&mut random, &value, &names)])
                            .await;
                        puts += answers.iter().filter(|answer| answer.is_ok()).count() as u64;
                    }
                    puts
                })
            })
            .collect();
        std::thread::sleep(RUN);
        stop.store(true, Ordering::Relaxed);
        let mut puts = 0;
        for task in tasks {
            puts += runtime.block_on(task)?;
        }
        let (cpu, seconds) = (cpu_us() - cpu, begun.elapsed().as_secs_f64());
        println!(
            "| {publishers} | {:.0} | {:.1} |",
            puts as f64 / seconds,
            cpu / puts as f64
        );
    }
    Ok(())
}

/// A folder that is compacted all the while: the longest wait of a reader, then the recovery.
fn compaction(runtime: &tokio::runtime::Runtime) -> Result<(), Failure> {
    let dir = tempfile::tempdir_in(".")?;
    let empty = Instant::now();
    let opened = open(dir.path(), Options::default().sync)?;
    println!(
        "\nEmpty folder opened in {:.1} ms.",
        empty.elapsed().as_secs_f64() * 1000.0
    );
    let names = names()?;
    let (mut random, value) = (Random(88), bytes::Bytes::from(vec![b'x'; VALUE]));
    let (begun, mut written) = (Instant::now(), 0_u64);
    let mut waits = Vec::new();
    while begun.elapsed() < 4 * RUN {
        let items: Vec<_> = (0..64).map(|_| item(&mut random, &value, &names)).collect();
        written += 64;
        runtime.block_on(opened.broker.publish(items));
        let one = Instant::now();
        let limit = broker::PageLimit {
            items: 10,
            bytes: 16 * 1024,
        };
        runtime.block_on(opened.broker.history(&names[7], Range::Before(None), limit))?;
        waits.push(one.elapsed());
    }
    waits.sort_unstable();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0;
    println!(
        "{written} publications in {:.0} s under compaction; a page of 10: median {:.3} ms, 99.9 % {:.3} ms, slowest {:.1} ms.",
        begun.elapsed().as_secs_f64(),
        at(0.5),
        at(0.999),
        at(1.0)
    );
    drop(opened);
    let size: u64 = fs::read_dir(dir.path())?
        .filter_map(|f| Some(f.ok()?.metadata().ok()?.len()))
        .sum();
    let again = Instant::now();
    let opened = open(dir.path(), Options::default().sync)?;
    let seconds = again.elapsed().as_secs_f64();
    println!(
        "{} MiB on disk; {} records recovered in {seconds:.2} s, {:.0} MB/s.",
        size >> 20,
        opened.recovery.records,
        opened.recovery.bytes as f64 / 1e6 / seconds
    );
    Ok(())
}

fn main() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()?;
    println!("| store | batch | puts/s | CPU µs a put | slowest ms |\n|---|---|---|---|---|");
    journal(Options::default().sync, "journal, in the OS", &runtime)?;
    fjall_lines(false, "fjall, in the OS")?;
    journal(Sync::Always, "journal, synced", &runtime)?;
    fjall_lines(true, "fjall, synced")?;
    redb_lines()?;
    group(&runtime)?;
    compaction(&runtime)
}
