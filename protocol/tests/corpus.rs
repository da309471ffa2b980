//! The fuzz targets on every machine: the committed corpus of each, and mutations of it by seed.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{fs, panic::catch_unwind, path::PathBuf};

#[allow(unreachable_pub, reason = "elsewhere it is a library")]
#[path = "../../fuzz/src/lib.rs"]
mod targets;

/// Mutations tried for each target: a few seconds in all without optimisation.
const MUTATIONS: u64 = 40_000;

/// Longest mutation in bytes, so that none grows without end.
const BYTES_MAX: usize = 4096;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target);
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| fs::read(path).unwrap())
        .collect()
}

/// A small generator of numbers that depend on nothing but the seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound.max(1) as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        const TELLING: &[u8] =
            b"\"\\{}[]:,u0-9eE.\n \x00\x7f\x80\xc1\xc4\xc6\xcb\xd4\xdb\xdd\xdf\xff";
        match self.below(3) {
            0 => u8::try_from(self.below(256)).unwrap(),
            _ => TELLING[self.below(TELLING.len())],
        }
    }

    fn mutate(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len() + 1);
            let end = (at + self.below(16)).min(bytes.len());
            match self.below(6) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                1 if at < bytes.len() => bytes[at] = self.byte(),
                2 => bytes.insert(at, self.byte()),
                3 => drop(bytes.drain(at..end)),
                4 => bytes.extend_from_within(at..end),
                _ => {
                    let other = &seeds[self.below(seeds.len())];
                    let from = self.below(other.len() + 1);
                    bytes.truncate(at);
                    bytes.extend_from_slice(&other[from..]);
                }
            }
        }
        bytes.truncate(BYTES_MAX);
        bytes
    }
}

fn check(name: &str, target: fn(&[u8])) {
    let seeds = corpus(name);
    assert!(!seeds.is_empty(), "fuzz/corpus/{name} is empty");
    for bytes in &seeds {
        run(name, target, bytes);
    }
    let mut random = Random(0);
    for _ in 0..MUTATIONS {
        run(name, target, &random.mutate(&seeds));
    }
}

fn run(name: &str, target: fn(&[u8]), bytes: &[u8]) {
    if catch_unwind(|| target(bytes)).is_err() {
        panic!("{name} fails on b\"{}\"", bytes.escape_ascii());
    }
}

#[test]
fn commands_json_holds_on_its_corpus() {
    check("commands_json", targets::commands_json);
}

#[test]
fn commands_msgpack_holds_on_its_corpus() {
    check("commands_msgpack", targets::commands_msgpack);
}

#[test]
fn frames_json_holds_on_its_corpus() {
    check("frames_json", targets::frames_json);
}

#[test]
fn frames_msgpack_holds_on_its_corpus() {
    check("frames_msgpack", targets::frames_msgpack);
}

#[test]
fn payload_holds_on_its_corpus() {
    check("payload", targets::payload);
}
