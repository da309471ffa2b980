//! Server CPU per connection that is opened, says hello and subscribes: all as fast as they can.

use tokio::task::JoinSet;

use super::{
    server::{Cpu, Program, Server, median, token},
    socket,
};

/// Times every program is measured.
const ROUNDS: usize = 3;
/// Connections that are being opened at any time.
const AT_ONCE: usize = 256;
/// Connections that warm the program up.
const WARM: usize = 500;
const CHANNELS: usize = 1000;

pub async fn run(connections: usize, peer: Option<Program>) {
    let programs: Vec<_> = [Some(Program::Node), peer].into_iter().flatten().collect();
    for program in &programs {
        let mut figures = Vec::new();
        for round in 0..ROUNDS {
            let cpu = measure(program, connections).await;
            println!(
                "round {round}: {program:?}: {:.1} us of CPU per connect, of it {:.1} user",
                cpu.all(),
                cpu.user
            );
            figures.push(cpu.all());
        }
        println!(
            "connect: {connections} connect and subscribe, {AT_ONCE} at once: {program:?}: {:.1} us of CPU each (median of {ROUNDS})",
            median(&mut figures)
        );
    }
}

async fn measure(program: &Program, connections: usize) -> Cpu {
    let server = Server::run(program).await;
    let warm = open(&server, 0..WARM).await;
    let before = server.cpu();
    let held = open(&server, WARM..WARM + connections).await;
    let cpu = server.cpu().since(before, connections as u64);
    drop((warm, held));
    cpu
}

/// Opens connections, `AT_ONCE` at a time.
pub async fn open(server: &Server, numbers: std::ops::Range<usize>) -> Vec<tokio::net::TcpStream> {
    let (address, token) = (server.address, token());
    let mut opening = JoinSet::new();
    let mut held = Vec::with_capacity(numbers.len());
    for number in numbers {
        if opening.len() >= AT_ONCE {
            held.push(opening.join_next().await.unwrap().unwrap());
        }
        let hello = socket::hello(&token, &[&format!("c{}", number % CHANNELS)]);
        opening.spawn(async move { socket::open(address, &hello, r#""t":"live""#).await });
    }
    held.extend(opening.join_all().await);
    held
}
