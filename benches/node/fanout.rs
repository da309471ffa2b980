//! Server CPU per delivery and latency at a steady rate, beside the floor: the programs take turns,
//! each round with fresh processes, the same readers and the same bytes.

use std::{
    fmt::{self, Write as _},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{
    readers::{self, Count, MARK},
    server::{Cpu, Program, Server, median, token},
    socket,
};

/// Bytes of data in one publication.
const DATA_BYTES: usize = 128;
/// Times every program is measured.
const ROUNDS: usize = 3;
/// Seconds at the rate before the measurement: pages, buffers and branches are warm then.
const WARM_SECONDS: usize = 1;
/// The timer's resolution.
const STEPS_PER_SECOND_MAX: usize = 1000;

/// What is delivered to whom, and how fast.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub channels: usize,
    pub readers: usize,
    /// Publications a second.
    pub rate: usize,
    pub seconds: usize,
}

impl Load {
    pub const fn per_publication(self) -> usize {
        self.readers / self.channels
    }
}

pub async fn run(load: Load, peer: Option<Program>) {
    let programs: Vec<_> = [Some(Program::Floor), Some(Program::Node), peer]
        .into_iter()
        .flatten()
        .collect();
    let mut figures = vec![Vec::new(); programs.len()];
    for round in 0..ROUNDS {
        for (program, figures) in programs.iter().zip(&mut figures) {
            let measured = measure(program, load).await;
            println!("round {round}: {program:?}: {measured}");
            figures.push(measured);
        }
    }
    for (program, of_program) in programs.iter().zip(&figures) {
        println!("fanout: {load:?}: {program:?} (medians of {ROUNDS} rounds):");
        for (name, figure) in FIGURES {
            let value = median(&mut of_program.iter().map(figure).collect::<Vec<_>>());
            let mut line = format!("  {name}: {value:.2} us");
            for (reference, of_reference) in programs.iter().zip(&figures) {
                if reference == program || *reference == Program::Node {
                    continue;
                }
                let each = of_program.iter().zip(of_reference);
                let mut ratios: Vec<_> = each.map(|(a, b)| figure(a) / figure(b)).collect();
                write!(line, ", {:.2} x {reference:?}", median(&mut ratios)).unwrap();
            }
            println!("{line}");
        }
    }
}

/// Of one delivery.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// CPU in µs.
    pub cpu: Cpu,
    /// Bytes on the wire: the programs are to write the same.
    bytes: u64,
    /// From publishing to delivery, in µs.
    p50: f64,
    p99: f64,
}

impl fmt::Display for Measured {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            to,
            "{:.2} us of CPU per delivery of {} bytes, of it {:.2} user; delivered after p50 {:.0}, p99 {:.0} us",
            self.cpu.all(),
            self.bytes,
            self.cpu.user,
            self.p50,
            self.p99
        )
    }
}

type Figure = fn(&Measured) -> f64;
const FIGURES: [(&str, Figure); 3] = [
    ("CPU per delivery", |measured| measured.cpu.all()),
    ("p50 from publishing to delivery", |measured| measured.p50),
    ("p99", |measured| measured.p99),
];

async fn measure(program: &Program, load: Load) -> Measured {
    let server = Server::run(program).await;
    let count = Arc::new(Count::default());
    subscribe(&server, load, &count).await;
    deliver(&server, load, &count).await
}

/// What a delivery costs to the readers that are there.
pub async fn deliver(server: &Server, load: Load, count: &Count) -> Measured {
    let mut publisher = socket::publisher(server.address, &token()).await;
    publish(&mut publisher, load, load.rate * WARM_SECONDS, count).await;
    let (before, bytes_before) = (server.cpu(), count.bytes.load(Ordering::Relaxed));
    count.latencies.clear();
    publish(&mut publisher, load, load.rate * load.seconds, count).await;
    let deliveries = (load.rate * load.seconds * load.per_publication()) as u64;
    Measured {
        cpu: server.cpu().since(before, deliveries),
        bytes: (count.bytes.load(Ordering::Relaxed) - bytes_before) / deliveries,
        p50: count.latencies.quantile(0.50),
        p99: count.latencies.quantile(0.99),
    }
}

/// Puts the readers on the program.
pub async fn subscribe(server: &Server, load: Load, count: &Arc<Count>) {
    let token = token();
    for number in 0..load.readers {
        listen(server, &token, number % load.channels, count).await;
    }
}

/// Puts one reader on it.
pub async fn listen(server: &Server, token: &str, channel: usize, count: &Arc<Count>) {
    let hello = socket::hello(token, &[&format!("c{channel}")]);
    let stream = socket::open(server.address, &hello, r#""t":"live""#).await;
    tokio::spawn(readers::count(stream, Arc::clone(count)));
}

/// Publishes in steps of at least a millisecond, each begun when it is due and what was published
/// before has been delivered. On a busy machine the rate falls then, but nothing ever piles up: a
/// program that writes what piled up at once would look better than it is.
pub async fn publish(publisher: &mut TcpStream, load: Load, publications: usize, count: &Count) {
    let per_step = load.rate.div_ceil(STEPS_PER_SECOND_MAX);
    let step = Duration::from_secs_f64(per_step as f64 / load.rate as f64);
    let mut wanted = count.delivered.load(Ordering::SeqCst);
    let mut due = tokio::time::Instant::now();
    for begin in (0..publications).step_by(per_step) {
        tokio::time::sleep_until(due).await;
        due = (due + step).max(tokio::time::Instant::now());
        let mut frames = Vec::new();
        for number in begin..publications.min(begin + per_step) {
            frames.extend(publication(number % load.channels));
            wanted += load.per_publication() as u64;
        }
        count.publish();
        publisher.write_all(&frames).await.unwrap();
        count.reach(wanted).await;
    }
}

/// The frame that publishes in a channel.
pub fn publication(channel: usize) -> Vec<u8> {
    let mark = char::from(MARK);
    socket::text(&format!(
        r#"{{"t":"pub","ch":"c{channel}","d":"{mark:x<DATA_BYTES$}"}}"#
    ))
}
