//! Lines of standard input as batches: what is there is sent, nothing waits for a batch to fill.
//!
//! Used by `publish`. At most two batches are held, however fast lines come.

use std::io::{self, BufRead, Read};

use anyhow::{Context, bail};
use tokio::sync::mpsc;

/// Most lines of one batch: what the HTTP API takes.
const BATCH_LINES_MAX: usize = 1_000;
/// Most bytes of one batch, unless one line alone is longer: a request stays small.
const BATCH_BYTES_MAX: usize = 512 * 1024;
/// Longest line in bytes: over any publication a node could be configured to take.
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// One line.
#[derive(Debug)]
pub(super) struct Line {
    /// Counted from 1.
    pub(super) number: u64,
    /// Without its line feed.
    pub(super) text: String,
}

/// The lines still to come.
#[derive(Debug)]
pub(super) struct Lines {
    incoming: mpsc::Receiver<anyhow::Result<Line>>,
    /// Read, but over the bytes of the last batch.
    held: Option<Line>,
    /// What ended the input, told after the lines before it were sent.
    failed: Option<anyhow::Error>,
}

/// Begins reading, on a thread of its own since standard input cannot be awaited. Empty lines are
/// passed over.
pub(super) fn read(input: impl BufRead + Send + 'static) -> Lines {
    let (outgoing, incoming) = mpsc::channel(BATCH_LINES_MAX);
    std::thread::spawn(move || {
        let mut input = input;
        let mut number = 0;
        loop {
            number += 1;
            let line = match next_line(&mut input, number) {
                Ok(None) => break,
                Ok(Some(line)) if line.text.trim().is_empty() => continue,
                Ok(Some(line)) => Ok(line),
                Err(error) => Err(error),
            };
            let failed = line.is_err();
            if outgoing.blocking_send(line).is_err() || failed {
                break;
            }
        }
    });
    Lines {
        incoming,
        held: None,
        failed: None,
    }
}

fn next_line(input: &mut impl BufRead, number: u64) -> anyhow::Result<Option<Line>> {
    let mut bytes = Vec::new();
    let limit = LINE_BYTES_MAX as u64 + 1;
    let mut bounded: io::Take<&mut _> = input.take(limit);
    bounded
        .read_until(b'\n', &mut bytes)
        .context("cannot read standard input")?;
    if bytes.is_empty() {
        return Ok(None);
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    } else if bytes.len() > LINE_BYTES_MAX {
        bail!("line {number} is longer than {LINE_BYTES_MAX} bytes");
    }
    let Ok(text) = String::from_utf8(bytes) else {
        bail!("line {number} is not UTF-8");
    };
    Ok(Some(Line { number, text }))
}

impl Lines {
    /// Waits for a line and takes with it what else is there; empty at the end.
    pub(super) async fn next_batch(&mut self) -> anyhow::Result<Vec<Line>> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let mut batch = Vec::new();
        let mut bytes = 0;
        let mut next = match self.held.take() {
            Some(line) => Some(Ok(line)),
            None => self.incoming.recv().await,
        };
        while let Some(line) = next {
            match line {
                Ok(line) if !batch.is_empty() && bytes + line.text.len() > BATCH_BYTES_MAX => {
                    self.held = Some(line);
                    break;
                }
                Ok(line) => {
                    bytes += line.text.len();
                    batch.push(line);
                }
                Err(error) if batch.is_empty() => return Err(error),
                Err(error) => {
                    self.failed = Some(error);
                    break;
                }
            }
            if batch.len() == BATCH_LINES_MAX {
                break;
            }
            next = self.incoming.try_recv().ok();
        }
        Ok(batch)
    }
}
