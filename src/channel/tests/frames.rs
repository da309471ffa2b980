//! `Frames` against a list of frames.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Push(usize),
    Trim(usize),
    DropThrough(u64),
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..300_usize).prop_map(Step::Push),
        1 => (2_000..5_000_usize).prop_map(Step::Push),
        2 => (0..2_000_usize).prop_map(Step::Trim),
        1 => (0..60_u64).prop_map(Step::DropThrough),
        1 => Just(Step::Clear),
    ]
}

struct Model {
    encoding: Encoding,
    first: u64,
    frames: Vec<Vec<u8>>,
}

impl Model {
    fn len_of(&self, frame: &[u8]) -> usize {
        frame.len() + encode::separator(self.encoding).len()
    }

    fn len_bytes(&self) -> usize {
        self.frames.iter().map(|frame| self.len_of(frame)).sum()
    }

    fn drop_first(&mut self) {
        self.frames.remove(0);
        self.first += 1;
    }

    fn apply(&mut self, step: &Step, frame: Option<Vec<u8>>) {
        match step {
            Step::Push(_) => self.frames.extend(frame),
            Step::Trim(max) => {
                while self.len_bytes() > *max && self.frames.len() > 1 {
                    self.drop_first();
                }
            }
            Step::DropThrough(offset) => {
                while self.first <= *offset && !self.frames.is_empty() {
                    self.drop_first();
                }
            }
            Step::Clear => {
                self.first += self.frames.len() as u64;
                self.frames.clear();
            }
        }
    }

    /// One frame, and as many more up to `end` as fit.
    fn run(&self, cursor: u64, end: u64, bytes_max: usize) -> Option<(Vec<u8>, u64)> {
        let index = usize::try_from((cursor + 1).checked_sub(self.first)?).ok()?;
        let wanted = usize::try_from(end.saturating_sub(cursor)).unwrap_or(usize::MAX);
        let held = self.frames.get(index..)?;
        let held = &held[..wanted.min(held.len())];
        if held.is_empty() {
            return None;
        }
        let (mut bytes, mut count) = (0, 0);
        for frame in held {
            bytes += self.len_of(frame);
            if count > 0 && bytes > bytes_max {
                break;
            }
            count += 1;
        }
        Some((joined(self.encoding, &held[..count]), cursor + count as u64))
    }
}

fn check(frames: &Frames, model: &Model) {
    assert_eq!(frames.first(), model.first);
    assert_eq!(frames.next(), model.first + model.frames.len() as u64);
    assert_eq!(frames.len_bytes(), model.len_bytes());
    for cursor in model.first.saturating_sub(2)..=frames.next() + 1 {
        for (bytes_max, ahead) in [
            (0, u64::MAX),
            (1, 9),
            (200, u64::MAX),
            (1_000, 2),
            (100_000, u64::MAX),
            (100_000, 0),
            (100_000, 3),
        ] {
            let end = cursor.saturating_add(ahead);
            let run = frames.run(cursor, end, bytes_max);
            let found = run.map(|run| (run.bytes.to_vec(), run.last));
            assert_eq!(found, model.run(cursor, end, bytes_max), "after {cursor}");
            if let Some(run) = run {
                assert!(run.bytes.len() <= bytes_max || run.last == cursor + 1);
            }
        }
        let held = cursor
            .checked_sub(model.first)
            .and_then(|index| model.frames.get(usize::try_from(index).unwrap()));
        assert_eq!(frames.frame(cursor), held.map(Vec::as_slice));
    }
}

proptest! {
    #![proptest_config(cases(48))]
    #[test]
    fn frames_do_as_a_list_of_frames_does(
        steps in proptest::collection::vec(step(), 1..40),
        first in 1..30_u64,
        binary: bool,
    ) {
        let encoding = ENCODINGS[usize::from(binary)];
        let mut frames = Frames::new(encoding, first);
        let mut model = Model { encoding, first, frames: Vec::new() };
        for step in &steps {
            let mut frame = None;
            match step {
                Step::Push(size) => {
                    let publication = publication(frames.next(), None, *size);
                    frames.push(&name(), &publication);
                    frame = Some(encoded(encoding, &publication));
                }
                Step::Trim(max) => frames.trim(*max),
                Step::DropThrough(offset) => frames.drop_through(*offset),
                Step::Clear => frames.clear(),
            }
            model.apply(step, frame);
            check(&frames, &model);
        }
    }
}

#[test]
fn a_frame_over_every_budget_is_handed_out_alone() {
    let mut frames = Frames::new(Encoding::Json, 1);
    for (offset, size) in [(1, 10), (2, 100_000), (3, 10)] {
        frames.push(&name(), &publication(offset, None, size));
    }
    assert_eq!(frames.run(0, u64::MAX, 1_000).unwrap().last, 1);
    assert_eq!(frames.run(1, u64::MAX, 1_000).unwrap().last, 2);
    assert_eq!(frames.run(2, u64::MAX, 1_000).unwrap().last, 3);
    frames.trim(1_000);
    assert_eq!(frames.first(), 3);
    frames.push(&name(), &publication(4, None, 100_000));
    frames.trim(1_000);
    assert_eq!((frames.first(), frames.next()), (4, 5));
}
