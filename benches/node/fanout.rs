//! Server CPU per delivery at a steady rate, beside the floor: the programs take turns, each round
//! with fresh processes, the same readers and the same bytes.

use std::{
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
    const fn per_publication(self) -> usize {
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
            let Measured { cpu, bytes } = measure(program, load).await;
            println!(
                "round {round}: {program:?}: {:.2} us of CPU per delivery of {bytes} bytes, of it {:.2} user",
                cpu.all(),
                cpu.user
            );
            figures.push(cpu.all());
        }
    }
    let floors = figures[0].clone();
    for (program, figures) in programs.iter().zip(&mut figures).skip(1) {
        let each = figures.iter().zip(&floors);
        let mut ratios: Vec<_> = each.map(|(figure, floor)| figure / floor).collect();
        println!(
            "fanout: {load:?}: {program:?}: {:.2} us of CPU per delivery, {:.2} x the floor (medians of {ROUNDS} rounds)",
            median(figures),
            median(&mut ratios),
        );
    }
}

/// Of one delivery.
struct Measured {
    /// CPU in µs.
    cpu: Cpu,
    /// Bytes on the wire: the programs are to write the same.
    bytes: u64,
}

async fn measure(program: &Program, load: Load) -> Measured {
    let server = Server::run(program).await;
    let count = Arc::new(Count::default());
    subscribe(&server, load, &count).await;
    let mut publisher = publisher(&server).await;
    publish(&mut publisher, load, load.rate * WARM_SECONDS, &count).await;
    let (before, bytes_before) = (server.cpu(), count.bytes.load(Ordering::Relaxed));
    publish(&mut publisher, load, load.rate * load.seconds, &count).await;
    let deliveries = (load.rate * load.seconds * load.per_publication()) as u64;
    Measured {
        cpu: server.cpu().since(before, deliveries),
        bytes: (count.bytes.load(Ordering::Relaxed) - bytes_before) / deliveries,
    }
}

/// Puts the readers on the program.
pub async fn subscribe(server: &Server, load: Load, count: &Arc<Count>) {
    let token = token();
    for number in 0..load.readers {
        let hello = socket::hello(&token, &format!("c{}", number % load.channels));
        let stream = socket::open(server.address, &hello, r#""t":"live""#).await;
        tokio::spawn(readers::count(stream, Arc::clone(count)));
    }
}

/// A connection that may publish.
pub async fn publisher(server: &Server) -> TcpStream {
    let hello = format!(r#"{{"t":"hello","token":"{}"}}"#, token());
    socket::open(server.address, &hello, "welcome").await
}

/// Publishes in steps of at least a millisecond, each begun when it is due and what was published
/// before has been delivered. On a busy machine the rate falls then, but nothing ever piles up: a
/// program that writes what piled up at once would look better than it is.
pub async fn publish(publisher: &mut TcpStream, load: Load, publications: usize, count: &Count) {
    let data = "x".repeat(DATA_BYTES - 1);
    let per_step = load.rate.div_ceil(STEPS_PER_SECOND_MAX);
    let step = Duration::from_secs_f64(per_step as f64 / load.rate as f64);
    let mut wanted = count.delivered.load(Ordering::SeqCst);
    let mut due = tokio::time::Instant::now();
    for begin in (0..publications).step_by(per_step) {
        tokio::time::sleep_until(due).await;
        due = (due + step).max(tokio::time::Instant::now());
        let mut frames = Vec::new();
        for number in begin..publications.min(begin + per_step) {
            frames.extend(socket::text(&format!(
                r#"{{"t":"pub","ch":"c{}","d":"{}{data}"}}"#,
                number % load.channels,
                char::from(MARK)
            )));
            wanted += load.per_publication() as u64;
        }
        publisher.write_all(&frames).await.unwrap();
        count.reach(wanted).await;
    }
}
