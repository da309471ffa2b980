//! The parts of a crowd as processes: started, heard, ended, added up.
//!
//! Used by `million`. What a part is, is `crowd`'s; a thread for each listens to its lines.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    crowd::{Orders, Published, Said},
    hub::usage::Usage,
    meter::micros,
    stage::Stage,
};

/// Connections made at a time by all parts together, one of each at least.
const CONNECTING_MAX: usize = 256;
const POLL: Duration = Duration::from_millis(50);

/// All parts of a crowd.
#[derive(Debug)]
pub struct Parts {
    parts: Vec<Part>,
    /// One ended before it was told to.
    gone: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Part {
    child: Child,
    orders: ChildStdin,
    count: usize,
    /// What it said last; it goes on adding to the stage's counters.
    said: Arc<Mutex<Said>>,
}

impl Parts {
    /// Starts as many parts as are needed when each has at most `most` sessions.
    pub fn start(stage: &Arc<Stage>, sessions: usize, most: usize) -> Result<Self> {
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let began = unix.saturating_sub(stage.clock.elapsed());
        let all = Arc::new(Mutex::new(Vec::new()));
        let gone = Arc::new(AtomicBool::new(false));
        let mut parts = Vec::new();
        for first in (0..sessions).step_by(most) {
            let orders = Orders {
                run: stage.run.clone(),
                began_unix_us: micros(began),
                urls: stage.hub.sockets_for(0),
                token: stage.hub.token("load"),
                first,
                count: most.min(sessions - first),
                at_once: (CONNECTING_MAX / sessions.div_ceil(most)).max(1),
            };
            parts.push(Part::start(stage, &orders, &all, &gone)?);
        }
        Ok(Self { parts, gone })
    }

    /// Waits until everybody is connected; false: not in time, or a part is gone.
    pub async fn complete(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        while !self.parts.iter().all(|part| part.said.lock().complete) {
            if Instant::now() > deadline || self.gone.load(Ordering::Relaxed) {
                return false;
            }
            tokio::time::sleep(POLL).await;
        }
        true
    }

    /// Tells every part what was published, and adds up what they were owed and lack.
    pub async fn end(&mut self, stage: &Arc<Stage>, published: &Published) -> Result<()> {
        for part in &mut self.parts {
            serde_json::to_writer(&mut part.orders, published)?;
            part.orders.write_all(b"\n")?;
            part.orders.flush()?;
        }
        let patience = Duration::from_secs(published.patience);
        let deadline = Instant::now() + 2 * patience;
        for (number, part) in self.parts.iter_mut().enumerate() {
            let owed = loop {
                if let Some(owed) = part.said.lock().owed {
                    break owed;
                }
                if Instant::now() > deadline || self.gone.load(Ordering::Relaxed) {
                    bail!("part {number} of the crowd does not end");
                }
                tokio::time::sleep(POLL).await;
            };
            stage.elsewhere(part.count, owed);
            for example in &part.said.lock().examples {
                stage.fail(format!("part {number} of the crowd: {example}"));
            }
        }
        Ok(())
    }
}

impl Part {
    fn start(
        stage: &Arc<Stage>,
        orders: &Orders,
        all: &Arc<Mutex<Vec<Usage>>>,
        gone: &Arc<AtomicBool>,
    ) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("crowd")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a part of the crowd")?;
        let mut input = child.stdin.take().context("no input")?;
        let output = child.stdout.take().context("no output")?;
        serde_json::to_writer(&mut input, orders)?;
        input.write_all(b"\n")?;
        input.flush()?;
        let said = Arc::new(Mutex::new(Said::default()));
        let number = all.lock().len();
        all.lock().push(Usage::default());
        let (stage, heard, all) = (Arc::clone(stage), Arc::clone(&said), Arc::clone(all));
        let gone = Arc::clone(gone);
        std::thread::spawn(move || {
            hear(&stage, number, output, &heard, &all);
            if heard.lock().owed.is_none() {
                stage.fail(format!("part {number} of the crowd ended"));
                gone.store(true, Ordering::Relaxed);
            }
        });
        Ok(Self {
            child,
            orders: input,
            count: orders.count,
            said,
        })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // It may have ended by itself: then there is nobody to kill and to wait for.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Listens to one part until it ends, and adds what it says to the stage.
fn hear(
    stage: &Stage,
    number: usize,
    output: ChildStdout,
    heard: &Mutex<Said>,
    all: &Mutex<Vec<Usage>>,
) {
    for line in BufReader::new(output).lines() {
        let said = line.map_err(anyhow::Error::from);
        let said = said.and_then(|line| Ok(serde_json::from_str::<Said>(&line)?));
        let now = match said {
            Ok(now) => now,
            Err(error) => {
                stage.fail(format!("part {number} of the crowd: {error}"));
                return;
            }
        };
        add(stage, number, &heard.lock(), &now);
        let mut usages = all.lock();
        usages[number] = Usage {
            resident: now.resident,
            cpu_seconds: now.cpu_seconds,
        };
        let mut sum = Usage::default();
        usages.iter().for_each(|usage| sum += *usage);
        drop(usages);
        stage.set_helpers(sum);
        *heard.lock() = now;
    }
}

/// Adds what came since the part spoke last.
fn add(stage: &Stage, number: usize, before: &Said, now: &Said) {
    let meter = &stage.meter;
    meter
        .connections
        .fetch_add(now.connections - before.connections, Ordering::Relaxed);
    let counters: [(&AtomicU64, u64, u64); 7] = [
        (&meter.delivered, before.delivered, now.delivered),
        (&meter.resumes, before.resumes, now.resumes),
        (&meter.forgotten, before.forgotten, now.forgotten),
        (
            &meter.lost_connections,
            before.lost_connections,
            now.lost_connections,
        ),
        (&meter.repeated, before.repeated, now.repeated),
        (&meter.disordered, before.disordered, now.disordered),
        (&meter.told_losses, before.told_losses, now.told_losses),
    ];
    for (counter, before, now) in counters {
        counter.fetch_add(now - before, Ordering::Relaxed);
    }
    for (latency_us, count) in &now.latencies {
        meter.latency(number, *latency_us, *count);
    }
}
