//! The tests: many seeds, and the seeds that failed once.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{run::run, world::Outcome};

/// Seeds that found a bug once.
const KEPT: &[u64] = &[
    // A reader that came to the head stayed on this side of a boundary behind which nothing was
    // minted yet.
    106, 130, 183,
    // A read that went back and on in one step left what it had gone back over acknowledged.
    1966,
    // A snapshot left out a value for a newer one, which was lost before it came, and the client
    // resumed in between.
    426,
    // A node that was still on a primary that others had left did not know the life that its
    // client came from, and let it start over in the one before.
    3577,
    // The simulation's own: the first of two programs with one session had lost its memory, and
    // went on where the other was.
    5029,
    // The simulation's own: a socket that its node had let go of never ended at the far side.
    5877,
    // Two failovers fell into the overlap of two connections of a session: the newer one repeated
    // the first rewind, which its client did not hold any more.
    5466,
    // A reset that was lost with its connection counted as acknowledged: a program without memory
    // was not told again.
    4912,
];
/// Seeds of an ordinary test run.
const SEEDS: u64 = 5_000;
/// Seeds that are run twice and compared.
const TWICE: u64 = 200;
/// Failed seeds that end a run: they tell the story.
const FAILED_MAX: usize = 20;
/// From so many seeds on, shares mean something.
const SHARED_FROM: u64 = 500;
/// What must happen in so many of a thousand seeds, or the run proved less than it seems.
const SOMETIMES: &[(&str, u64)] = &[
    ("a boundary without loss", 100),
    ("a failover with loss", 50),
    ("a failover without loss", 50),
    ("a fence refused", 100),
    ("a gap", 100),
    ("a lane built again", 200),
    ("a lane cut by its canary", 30),
    ("a move", 30),
    ("a page of a snapshot", 200),
    ("a page of history", 200),
    ("a publication retried", 200),
    ("a rewind with loss", 80),
    ("a session replaced", 50),
    ("a session resumed", 300),
    ("a session resumed twice", 50),
    ("a snapshot that broke off", 1),
    ("a tab duplicated", 50),
    ("a zombie primary", 40),
    ("an announcement lost", 30),
    ("an announcement twice", 30),
    ("an answer of the broker lost", 100),
    ("began full", 300),
    ("began with a reset", 50),
    ("stale", 10),
    ("stale ended", 10),
    ("two connections overlap", 10),
    ("unsub and sub in one breath", 100),
];

#[expect(clippy::disallowed_methods, reason = "scripts/sim says how many")]
fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Time on a processor that this thread had, where the system tells.
fn cpu_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanos = stat.split(' ').next()?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}

/// Seeds a minute on one core that does nothing else: what the threads needed, not how long it
/// took beside whatever else ran.
fn rate(seeds: u64, cpu_ms: u64) -> String {
    match (60_000 * seeds).checked_div(cpu_ms) {
        Some(rate) => format!("{rate} a minute on one core"),
        None => "their processor time is not known".to_owned(),
    }
}

/// Shows what a seed that failed did.
#[expect(clippy::print_stdout, reason = "a trace is for people")]
fn show(seed: u64, outcome: &Outcome) -> String {
    let traced = run(seed, true);
    for line in &traced.trace {
        println!("{line}");
    }
    format!("seed {seed}: {}{:?}", outcome.report, outcome.faults)
}

#[test]
fn no_promise_is_broken_whatever_goes_wrong() {
    let from = from_env("SIM_FROM").unwrap_or(0);
    let seeds = from_env("SIM_SEEDS").unwrap_or(SEEDS);
    // A run that is expected to fail is over at the first that does.
    let enough = if from_env("SIM_FAST") == Some(1) {
        1
    } else {
        FAILED_MAX
    };
    let next = AtomicU64::new(from);
    let failed = Mutex::new(Vec::new());
    let seen: Mutex<BTreeMap<&str, u64>> = Mutex::default();
    let (began, cpu_ms) = (Instant::now(), AtomicU64::new(0));
    // In an ordinary run one core is left to the tests beside it, which wait for real servers.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if from_env("SIM_SEEDS").is_some() {
        cores
    } else {
        cores.saturating_sub(1).max(1)
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds || failed.lock().len() >= enough {
                        let used_ms = cpu_time().map_or(0, |used| used.as_millis());
                        let used_ms = u64::try_from(used_ms).unwrap();
                        cpu_ms.fetch_add(used_ms, Ordering::Relaxed);
                        return;
                    }
                    let outcome = run(seed, false);
                    for what in outcome.seen.keys() {
                        *seen.lock().entry(what).or_insert(0) += 1;
                    }
                    if !outcome.is_clean() {
                        failed.lock().push((seed, outcome));
                    }
                }
            });
        }
    });
    let (mut failed, seen) = (failed.into_inner(), seen.into_inner());
    failed.sort_by_key(|(seed, _)| *seed);
    let rate = rate(seeds, cpu_ms.into_inner());
    eprintln!("{seeds} seeds in {:?}, {rate}, {seen:#?}", began.elapsed());
    for (seed, outcome) in &failed {
        eprintln!("seed {seed}: {} {:?}", outcome.report, outcome.faults);
    }
    if from_env("SIM_TRACE") == Some(1) {
        show(from, &run(from, false));
    }
    if let Some((seed, outcome)) = failed.first() {
        panic!("{}", show(*seed, outcome));
    }
    for (what, share) in SOMETIMES.iter().filter(|_| seeds >= SHARED_FROM) {
        let count = seen.get(what).copied().unwrap_or(0);
        assert!(
            1000 * count >= share * seeds,
            "{what}: in {count} of {seeds} seeds"
        );
    }
}

#[test]
fn a_seed_is_the_same_run_every_time() {
    for seed in 0..from_env("SIM_TWICE").unwrap_or(TWICE) {
        let (one, two) = (run(seed, true).trace, run(seed, true).trace);
        let differs = one.iter().zip(&two).position(|(one, two)| one != two);
        if let Some(at) = differs {
            let shown = |trace: &[String]| trace[at.saturating_sub(5)..=at].join("\n");
            panic!("seed {seed}:\n{}\n--\n{}", shown(&one), shown(&two));
        }
        assert_eq!(one.len(), two.len(), "seed {seed}");
    }
}

#[test]
fn seeds_that_failed_once_pass() {
    for seed in KEPT {
        let outcome = run(*seed, false);
        assert!(outcome.is_clean(), "{}", show(*seed, &outcome));
    }
}
