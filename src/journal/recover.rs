//! Recovery: reads every segment in order, hands each record to the indexes, cuts a torn end.
//! Called once by `Journal::open`; changes nothing in the folder before everything was read.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{
    OpenError, Place, Record,
    frame::{FRAME_HEAD, Scanner, Step, check},
    record::{MARK_BODY, MARK_KIND},
    segment::{self, HEADER, Segment},
};

/// What was read, and what has to be cut off.
pub(super) struct Recovered {
    pub segments: BTreeMap<u32, Segment>,
    /// The last segment that goes on, with its new length, where bytes have to be cut off.
    pub cut: Option<(u32, u64)>,
    /// Segments that hold nothing but what is cut off.
    pub drop: Vec<u32>,
    pub records: u64,
    pub bytes: u64,
}

/// The numbers of the segments in the folder, in order and without holes.
pub(super) fn list(dir: &Path) -> Result<Vec<u32>, OpenError> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(OpenError::io(dir))? {
        let entry = entry.map_err(OpenError::io(dir))?;
        match entry.file_name().to_str().and_then(segment::number) {
            Some(number) => numbers.push(number),
            None => return Err(OpenError::Foreign(entry.path())),
        }
    }
    numbers.sort_unstable();
    for pair in numbers.windows(2) {
        if pair[1] != pair[0] + 1 {
            return Err(OpenError::Missing(segment::path(dir, pair[0] + 1)));
        }
    }
    Ok(numbers)
}

/// Reads the folder and replays it.
pub(super) fn recover(
    dir: &Path,
    replay: &mut dyn FnMut(Place, &Record<'_>),
) -> Result<Recovered, OpenError> {
    let numbers = list(dir)?;
    let mut out = Recovered {
        segments: BTreeMap::new(),
        cut: None,
        drop: Vec::new(),
        records: 0,
        bytes: 0,
    };
    for (index, &number) in numbers.iter().enumerate() {
        let later = &numbers[index + 1..];
        let Some(mut segment) = Segment::open(dir, number)? else {
            refuse_if_marked(dir, None, later, (number, 0))?;
            out.drop.extend_from_slice(&numbers[index..]);
            return Ok(out);
        };
        let broken = scan(dir, number, &segment, &mut out, replay)?;
        out.bytes += segment.len;
        let Some(at) = broken else {
            out.segments.insert(number, segment);
            continue;
        };
        refuse_if_marked(dir, Some((number, &segment, at)), later, (number, at))?;
        segment.len = at;
        out.segments.insert(number, segment);
        out.cut = Some((number, at));
        out.drop.extend_from_slice(later);
        return Ok(out);
    }
    Ok(out)
}

/// Replays one segment; where its frames end before the file does.
fn scan(
    dir: &Path,
    number: u32,
    segment: &Segment,
    out: &mut Recovered,
    replay: &mut dyn FnMut(Place, &Record<'_>),
) -> Result<Option<u64>, OpenError> {
    let file: PathBuf = segment::path(dir, number);
    let mut scanner = Scanner::new(
        segment.file.clone(),
        segment.salt,
        HEADER as u64,
        segment.len,
    );
    loop {
        match scanner.step().map_err(OpenError::io(&file))? {
            Step::End => return Ok(None),
            Step::Broken { at } => return Ok(Some(at)),
            Step::Frame {
                at,
                len,
                kind,
                body,
            } => {
                let Some(record) = Record::read(kind, body) else {
                    return Err(OpenError::Damaged {
                        file,
                        at: u64::from(at),
                    });
                };
                out.records += 1;
                replay(
                    Place {
                        segment: number,
                        at,
                        len,
                    },
                    &record,
                );
            }
        }
    }
}

/// Tells a torn end from damage: bytes that a later mark says had reached the disk cannot have
/// been torn by a crash.
fn refuse_if_marked(
    dir: &Path,
    torn: Option<(u32, &Segment, u64)>,
    later: &[u32],
    broken: (u32, u64),
) -> Result<(), OpenError> {
    let damaged = || OpenError::Damaged {
        file: segment::path(dir, broken.0),
        at: broken.1,
    };
    if let Some((number, segment, at)) = torn
        && marked_past(dir, number, segment, at, broken)?
    {
        return Err(damaged());
    }
    for &number in later {
        if let Some(segment) = Segment::open(dir, number)?
            && marked_past(dir, number, &segment, HEADER as u64, broken)?
        {
            return Err(damaged());
        }
    }
    Ok(())
}

/// Whether a mark after `from` says that more than `broken` had reached the disk. Frames have no
/// known beginning there, so every byte is tried.
fn marked_past(
    dir: &Path,
    number: u32,
    segment: &Segment,
    from: u64,
    broken: (u32, u64),
) -> Result<bool, OpenError> {
    const FRAME: usize = FRAME_HEAD + MARK_BODY;
    let file = segment::path(dir, number);
    let bytes = fs::read(&file).map_err(OpenError::io(&file))?;
    let rest = bytes
        .get(usize::try_from(from).unwrap_or(usize::MAX)..)
        .unwrap_or_default();
    let mark = |bytes: &[u8]| match check(bytes, segment.salt) {
        Some((kind, body, _)) => match Record::read(kind, body) {
            Some(Record::Mark { segment, at }) => Some((segment, u64::from(at))),
            Some(_) | None => None,
        },
        None => None,
    };
    Ok(rest
        .windows(FRAME)
        .filter(|window| window[0] == 8 && window[8] == MARK_KIND)
        .filter_map(mark)
        .any(|place| place > broken))
}
