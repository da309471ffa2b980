//! Resident bytes per idle connection: a session with one subscription, and nothing to do.

use super::{
    server::{Server, token},
    socket,
};

/// Connections that warm the node up before the first measurement.
const WARM: usize = 64;

pub async fn run(connections: usize) {
    let server = Server::start().await;
    let token = token();
    let mut held = Vec::with_capacity(connections + WARM);
    for _ in 0..WARM {
        held.push(
            socket::open(
                server.address,
                &socket::hello(&token, &["common"]),
                r#""t":"live""#,
            )
            .await,
        );
    }
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let (before, cpu_before) = (server.resident(), server.cpu().all());
    for number in 0..connections {
        let hello = socket::hello(&token, &[&format!("c{}", number % 1000)]);
        held.push(socket::open(server.address, &hello, r#""t":"live""#).await);
    }
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let (after, cpu_after) = (server.resident(), server.cpu().all());
    println!(
        "idle: {connections} connections with session and 1 subscription in 1,000 channels: {:.0} resident bytes each (aim: under 3,072), {:.0} us of server CPU per connect",
        after.saturating_sub(before) as f64 / connections as f64,
        (cpu_after - cpu_before) * 1e6 / connections as f64,
    );
}
