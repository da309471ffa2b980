//! Crowds of readers, for the scenarios: light ones by the ten thousand, or whole clients.
//!
//! It brings everybody to having caught up, and nothing else.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use tidewire_client::{ChannelName, Options};
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    full::Full,
    judge::Rule,
    light::{Light, Line, Place, Wanted},
    limits::Needs,
    stage::Stage,
};

/// Connections made at a time: enough for a node to be busy, below its queue of `accept`.
const CONNECTING_MAX: usize = 256;
/// Tries of a light reader: a busy node may send it away once.
pub const TRIES: usize = 5;
const BETWEEN_TRIES: Duration = Duration::from_millis(500);
/// Nodes and tool together, for a light reader: session, sockets, task.
const LIGHT_BYTES: usize = 12 * 1024;
/// The same for a whole client with its buffers.
const FULL_BYTES: usize = 96 * 1024;

/// What so many light readers need.
pub const fn needs(readers: usize) -> Needs {
    Needs {
        connections: readers,
        files_each: 1,
        bytes_each: LIGHT_BYTES,
        nodes: 1,
    }
}

/// What so many whole clients need.
pub const fn needs_full(clients: usize) -> Needs {
    Needs {
        connections: clients,
        files_each: 2,
        bytes_each: FULL_BYTES,
        nodes: 1,
    }
}

/// Light readers, each of one channel of `namespace`, which hold one stream each: that of their
/// number.
pub async fn gather(
    stage: &Arc<Stage>,
    namespace: &str,
    readers: usize,
    channels: usize,
) -> Result<()> {
    gather_numbers(stage, namespace, 0..readers, channels).await
}

/// Light readers of these numbers; others may be there already.
pub async fn gather_numbers(
    stage: &Arc<Stage>,
    namespace: &str,
    numbers: std::ops::Range<usize>,
    channels: usize,
) -> Result<()> {
    let place = Place::of(stage)?;
    let gate = Arc::new(Semaphore::new(CONNECTING_MAX));
    let mut opening = JoinSet::new();
    for number in numbers {
        let turn = Arc::clone(&gate).acquire_owned().await?;
        let channel = number % channels;
        let wanted = Wanted {
            channel: ChannelName::new(&stage.channel(namespace, channel))?,
            stream: u32::try_from(channel)?,
            state: namespace == "board",
        };
        let seat = stage.seat(number, Rule::Every);
        let reader = Light::new(seat, &place, number, vec![wanted]);
        let stage = Arc::clone(stage);
        opening.spawn(async move {
            let opened = open(&stage, reader).await;
            drop(turn);
            opened
        });
        while let Some(opened) = opening.try_join_next() {
            opened??;
        }
    }
    while let Some(opened) = opening.join_next().await {
        opened??;
    }
    Ok(())
}

async fn open(stage: &Arc<Stage>, mut reader: Light) -> Result<()> {
    let line = connect(&mut reader, TRIES).await?;
    stage.spawn(reader.run(line));
    Ok(())
}

/// Connects one reader, with so many tries.
pub async fn connect(reader: &mut Light, tries_max: usize) -> Result<Line> {
    let mut tries = 1;
    loop {
        match reader.open().await {
            Ok(line) => return Ok(line),
            Err(error) if tries == tries_max => {
                return Err(error).context("a reader cannot connect");
            }
            Err(_again) => tokio::time::sleep(BETWEEN_TRIES).await,
        }
        tries += 1;
    }
}

/// Whole clients, each with one channel of `load`, which hold one stream each.
pub async fn gather_full(stage: &Arc<Stage>, clients: usize, channels: usize) -> Result<Vec<Full>> {
    let gate = Arc::new(Semaphore::new(CONNECTING_MAX));
    let mut opening = JoinSet::new();
    for number in 0..clients {
        let turn = Arc::clone(&gate).acquire_owned().await?;
        let client = Full::connect(stage, number)?;
        let channel = number % channels;
        let name = stage.channel("load", channel);
        let seat = stage.seat(number, Rule::Every);
        let stream = u32::try_from(channel)?;
        opening.spawn(async move {
            client
                .read(seat, &name, Options::default(), Some(stream))
                .await?;
            drop(turn);
            anyhow::Ok((number, client))
        });
    }
    let mut all = Vec::with_capacity(clients);
    while let Some(opened) = opening.join_next().await {
        all.push(opened??);
    }
    all.sort_by_key(|(number, _)| *number);
    Ok(all.into_iter().map(|(_, client)| client).collect())
}
