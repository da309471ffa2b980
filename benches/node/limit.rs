//! The highest rate without loss and with a p99 below 100 ms: node and peer take turns, step by
//! step upwards, in one run. The rate grows by half until a step fails twice, then from the highest
//! that passed by a tenth until one fails twice again.
//!
//! Readers and publisher share the machine with what they measure, so a program may end where the
//! machine does: the cores each side used are told.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{
    fanout::Load,
    pace::{self, Plan, Tally},
    readers::Reader,
    server::{Program, Server, own_cpu, token},
    socket,
};

/// Deliveries a second a search begins with.
const BEGIN: u64 = 20_000;
const STEP: Duration = Duration::from_secs(3);
const P99_MAX_MICROS: f64 = 100_000.0;
/// Without any delivery for so long, what is missing is lost.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// Rest between two steps.
const REST: Duration = Duration::from_millis(300);
/// Connections that publish, where there are channels for them.
const PUBLISHERS: usize = 4;

pub async fn run(channels: usize, readers: usize, peer: Option<Program>) {
    let load = Load {
        channels,
        readers,
        rate: 0,
        seconds: 0,
    };
    let mut searches = Vec::new();
    for program in [Some(Program::Node), peer].into_iter().flatten() {
        searches.push(Search::begin(program, load).await);
    }
    while searches.iter().any(|search| !search.done) {
        for search in searches.iter_mut().filter(|search| !search.done) {
            search.step().await;
        }
    }
    let highest: Vec<_> = searches.iter().map(Search::tell).collect();
    if let [node, peer] = highest[..] {
        println!("limit: node / peer: {:.2}", node / peer);
    }
}

/// A program and how far it has come.
struct Search {
    program: Program,
    load: Load,
    server: Server,
    publishers: Vec<std::net::TcpStream>,
    tally: Arc<Tally>,
    steps: u64,
    /// Publications a second of the next step.
    rate: u64,
    /// The highest that passed.
    reached: u64,
    /// Steps are small.
    fine: bool,
    passed: Option<Outcome>,
    failed: Option<Outcome>,
    /// The last step failed: the next one is at the same rate.
    doubted: bool,
    done: bool,
}

impl Search {
    async fn begin(program: Program, load: Load) -> Self {
        let server = Server::run(&program).await;
        let rate = BEGIN / load.per_publication() as u64;
        let tally = Arc::new(Tally::new(Plan::new(0, load.channels, rate)));
        let token = token();
        for number in 0..load.readers {
            let channel = number % load.channels;
            let hello = socket::hello(&token, &[&format!("c{channel}")]);
            let stream = socket::open(server.address, &hello, r#""t":"live""#).await;
            let reader = Reader::new(stream);
            tokio::spawn(pace::read(reader, channel as u64, Arc::clone(&tally)));
        }
        let mut publishers = Vec::new();
        for _ in 0..PUBLISHERS.min(load.channels) {
            let stream = socket::publisher(server.address, &token)
                .await
                .into_std()
                .unwrap();
            stream.set_nonblocking(false).unwrap();
            publishers.push(stream);
        }
        Self {
            program,
            load,
            server,
            publishers,
            tally,
            steps: 0,
            rate,
            reached: 0,
            fine: false,
            passed: None,
            failed: None,
            doubted: false,
            done: false,
        }
    }

    async fn step(&mut self) {
        let outcome = self.measure().await;
        let passes = outcome.passes();
        println!(
            "{:?}: {outcome}{}",
            self.program,
            if passes { "" } else { ": fails" }
        );
        if passes {
            self.passed = Some(outcome);
            self.reached = self.rate;
            self.doubted = false;
        } else if self.doubted {
            self.failed = Some(outcome);
            self.doubted = false;
            self.done = self.fine || self.passed.is_none();
            self.fine = true;
        } else {
            self.failed = Some(outcome);
            self.doubted = true;
        }
        if !self.doubted {
            let tenths = if self.fine { 11 } else { 15 };
            self.rate = self.reached * tenths / 10;
        }
        if let Some(status) = self.server.ended() {
            println!("{:?} is gone: {status}", self.program);
        }
        // Without all of its readers it cannot pass again.
        self.done |= self.tally.ended.load(Ordering::SeqCst) > 0;
    }

    async fn measure(&mut self) -> Outcome {
        self.steps += 1;
        let plan = Plan::new(self.steps, self.load.channels, self.rate);
        self.tally.begin(plan);
        let (server, clients, begin) = (self.server.cpu(), own_cpu(), Instant::now());
        let mut publishers = std::mem::take(&mut self.publishers);
        let publishing = tokio::task::spawn_blocking(move || {
            let sent = pace::publish(&mut publishers, plan, STEP);
            (publishers, sent)
        });
        let sent;
        (self.publishers, sent) = publishing.await.unwrap();
        let wanted = sent * self.load.per_publication() as u64;
        let last = self.settle(wanted).await;
        let took = last.duration_since(begin);
        let cores = |now: f64, before: f64| (now - before) / took.as_secs_f64();
        let delivered = self.tally.delivered.load(Ordering::SeqCst);
        let outcome = Outcome {
            rate: wanted as f64 / took.as_secs_f64(),
            p50: self.tally.latencies.quantile(0.50),
            p99: self.tally.latencies.quantile(0.99),
            bytes: self.tally.bytes.load(Ordering::SeqCst) as f64 / delivered as f64,
            lost: wanted - delivered,
            ended: self.tally.ended.load(Ordering::SeqCst),
            server_cores: cores(self.server.cpu().all(), server.all()),
            client_cores: cores(own_cpu().all(), clients.all()),
        };
        tokio::time::sleep(REST).await;
        outcome
    }

    /// Waits until everything was delivered or nothing more comes; answers when the last one did.
    async fn settle(&self, wanted: u64) -> Instant {
        let (mut before, mut last) = (0, Instant::now());
        loop {
            let delivered = self.tally.delivered.load(Ordering::SeqCst);
            assert!(delivered <= wanted, "{delivered} of {wanted} delivered");
            if delivered > before {
                (before, last) = (delivered, Instant::now());
            }
            if delivered == wanted || last.elapsed() > SILENCE_MAX {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Says how far it came; answers the highest rate in deliveries a second.
    fn tell(&self) -> f64 {
        let (load, program) = (self.load, &self.program);
        let [passed, failed] = [&self.passed, &self.failed].map(|outcome| {
            let text = outcome.as_ref().map(Outcome::to_string);
            text.unwrap_or_else(|| "nothing".to_owned())
        });
        println!(
            "limit: {} channels, {} readers: {program:?}: passed {passed}; ended by {}: {failed}",
            load.channels,
            load.readers,
            self.failed.as_ref().map_or("nothing", Outcome::reason)
        );
        self.passed.as_ref().map_or(0.0, |outcome| outcome.rate)
    }
}

/// What a step came to.
struct Outcome {
    /// Deliveries a second.
    rate: f64,
    /// In µs.
    p50: f64,
    p99: f64,
    /// On the wire, of a delivery.
    bytes: f64,
    lost: u64,
    /// Connections of readers.
    ended: u64,
    server_cores: f64,
    client_cores: f64,
}

impl Outcome {
    fn passes(&self) -> bool {
        self.lost == 0 && self.p99 < P99_MAX_MICROS
    }

    fn reason(&self) -> &'static str {
        match (self.ended, self.lost) {
            (1.., _) => "connections that ended",
            (0, 1..) => "loss",
            (0, 0) => "p99",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            to,
            "{:.0} deliveries/s of {:.0} bytes, p50 {:.1} ms, p99 {:.1} ms, {} lost, {} connections ended, cores: server {:.2}, clients {:.2}",
            self.rate,
            self.bytes,
            self.p50 / 1e3,
            self.p99 / 1e3,
            self.lost,
            self.ended,
            self.server_cores,
            self.client_cores
        )
    }
}
