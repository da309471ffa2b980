//! An open loop: publications are due by the clock, whatever became of those before, and each
//! delivery is timed from the moment its publication was due.
//!
//! Nothing in a publication says when it was due: readers know by its number in its channel.

use std::{
    io::Write,
    net::TcpStream,
    sync::{
        Arc, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{fanout, latencies::Latencies, readers::Reader};

/// The timer's resolution.
const TICKS_PER_SECOND_MAX: u64 = 1000;
/// From a plan to its first publication.
const LEAD: Duration = Duration::from_millis(10);
/// How long the publisher may be behind: it gives up then.
const BEHIND_MAX: Duration = Duration::from_secs(1);

/// Which publication is due when, for one step at one rate.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Of this step.
    number: u64,
    begin: Instant,
    channels: u64,
    /// Publications that are due, and written, together.
    per_tick: u64,
    tick: Duration,
}

impl Plan {
    /// `rate` publications a second, over the channels in turn; begins a moment from now.
    pub fn new(number: u64, channels: usize, rate: u64) -> Self {
        let per_tick = rate.div_ceil(TICKS_PER_SECOND_MAX);
        Self {
            number,
            begin: Instant::now() + LEAD,
            channels: channels as u64,
            per_tick,
            tick: Duration::from_secs(per_tick) / u32::try_from(rate).unwrap(),
        }
    }

    fn due(&self, tick: u64) -> Instant {
        self.begin + self.tick * u32::try_from(tick).unwrap()
    }

    /// The tick of the `nth` publication in a channel, and the first one there of a later tick.
    const fn tick_of(&self, channel: u64, nth: u64) -> (u64, u64) {
        let tick = (channel + nth * self.channels) / self.per_tick;
        let later = ((tick + 1) * self.per_tick - channel).div_ceil(self.channels);
        (tick, later)
    }
}

/// What the readers of a program came to in the present step.
#[derive(Debug)]
pub struct Tally {
    plan: RwLock<Plan>,
    /// Of the plan.
    number: AtomicU64,
    pub delivered: AtomicU64,
    /// Of what was delivered, headers of frames included.
    pub bytes: AtomicU64,
    /// Readers whose connection has ended.
    pub ended: AtomicU64,
    pub latencies: Latencies,
}

impl Tally {
    pub fn new(plan: Plan) -> Self {
        Self {
            number: AtomicU64::new(plan.number),
            plan: RwLock::new(plan),
            delivered: AtomicU64::default(),
            bytes: AtomicU64::default(),
            ended: AtomicU64::default(),
            latencies: Latencies::default(),
        }
    }

    /// Begins another step; nothing of the last one is on its way.
    pub fn begin(&self, plan: Plan) {
        self.delivered.store(0, Ordering::SeqCst);
        self.bytes.store(0, Ordering::SeqCst);
        self.latencies.clear();
        *self.plan.write().unwrap() = plan;
        self.number.store(plan.number, Ordering::SeqCst);
    }
}

/// Reads a channel until the connection ends.
pub async fn read(mut reader: Reader, channel: u64, tally: Arc<Tally>) {
    let mut plan = *tally.plan.read().unwrap();
    // How many publications of the plan were delivered here.
    let mut seen = 0;
    while let Some(read) = reader.read().await {
        if read.marks == 0 {
            continue;
        }
        if tally.number.load(Ordering::SeqCst) != plan.number {
            plan = *tally.plan.read().unwrap();
            seen = 0;
        }
        let now = Instant::now();
        let until = seen + read.marks;
        while seen < until {
            let (tick, later) = plan.tick_of(channel, seen);
            let together = later.min(until) - seen;
            let took = now.saturating_duration_since(plan.due(tick));
            tally
                .latencies
                .add(u64::try_from(took.as_micros()).unwrap(), together);
            seen += together;
        }
        tally.bytes.fetch_add(read.bytes as u64, Ordering::SeqCst);
        tally.delivered.fetch_add(read.marks, Ordering::SeqCst);
    }
    tally.ended.fetch_add(1, Ordering::SeqCst);
}

/// Publishes for so long; each channel has one of the connections. Answers how many were sent:
/// fewer than planned where the program took none for `BEHIND_MAX`.
pub fn publish(streams: &mut [TcpStream], plan: Plan, length: Duration) -> u64 {
    let channels = usize::try_from(plan.channels).unwrap();
    let frames: Vec<_> = (0..channels).map(fanout::publication).collect();
    let mut writes = vec![Vec::new(); streams.len()];
    let ticks = length.as_nanos().div_ceil(plan.tick.as_nanos());
    let ticks = u64::try_from(ticks).unwrap();
    for tick in 0..ticks {
        let due = plan.due(tick);
        if due.elapsed() > BEHIND_MAX {
            return tick * plan.per_tick;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        for number in tick * plan.per_tick..(tick + 1) * plan.per_tick {
            let channel = usize::try_from(number % plan.channels).unwrap();
            writes[channel % streams.len()].extend_from_slice(&frames[channel]);
        }
        for (stream, write) in streams.iter_mut().zip(&mut writes) {
            if stream.write_all(write).is_err() {
                return (tick + 1) * plan.per_tick;
            }
            write.clear();
        }
    }
    ticks * plan.per_tick
}
