//! `dashboard`: thousands of keys, viewers who take the newest at their own pace.
//!
//! What is left out on the way is the mode's right; the newest of every key in the end is not.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use tidewire_client::{Mode, Options, Start};
use tokio::{sync::Semaphore, task::JoinSet};

use super::audience;
use crate::{
    full::Full,
    hub::Settings,
    judge::Rule,
    limits::Needs,
    publish::{self, Keys, Outlet, Schedule},
    run::Scenario,
    stage::Stage,
};

/// Thousands of keys, viewers at 1, 2, 5 and 10 hz; each must end on the newest of every key.
#[derive(Debug, Clone, clap::Args)]
pub struct Dashboard {
    /// Viewers in all.
    #[arg(long, default_value_t = 200)]
    viewers: usize,
    /// Boards, each a channel.
    #[arg(long, default_value_t = 10)]
    boards: usize,
    /// Keys of each board.
    #[arg(long, default_value_t = 500)]
    keys: usize,
    /// Messages a second, over all boards; each sets the next key.
    #[arg(long, default_value_t = 1_000.0)]
    rate: f64,
    /// How long messages are sent.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Bytes of data in a message.
    #[arg(long, default_value_t = 64)]
    payload: usize,
}

/// At most so many deliveries a second, by the number of the viewer.
const HZ: [u32; 4] = [1, 2, 5, 10];
const CONNECTING_MAX: usize = 64;

impl Scenario for Dashboard {
    const NAME: &'static str = "dashboard";

    fn needs(&self) -> Needs {
        audience::needs_full(self.viewers)
    }

    fn settings(&self) -> Settings {
        Settings::ONE
    }

    fn streams(&self) -> usize {
        self.boards * self.keys
    }

    async fn play(&self, stage: &Arc<Stage>) -> Result<()> {
        let gate = Arc::new(Semaphore::new(CONNECTING_MAX));
        let mut opening = JoinSet::new();
        for viewer in 0..self.viewers {
            let turn = Arc::clone(&gate).acquire_owned().await?;
            let viewing = self.clone().view(Arc::clone(stage), viewer);
            opening.spawn(async move {
                let viewing = viewing.await;
                drop(turn);
                viewing
            });
        }
        while let Some(opened) = opening.join_next().await {
            opened??;
        }
        let lasting = Duration::from_secs(self.seconds);
        let outlets = self.outlets(stage);
        let schedule = Schedule::steady(outlets, stage.begin(), self.rate, lasting);
        publish::play(stage, &schedule.payload(self.payload)).await
    }
}

impl Dashboard {
    async fn view(self, stage: Arc<Stage>, viewer: usize) -> Result<()> {
        let board = viewer % self.boards;
        let full = Full::connect(&stage, viewer)?;
        let seat = stage.seat(viewer, Rule::Latest);
        for key in board * self.keys..(board + 1) * self.keys {
            seat.owe(u32::try_from(key)?, 1);
        }
        let options = Options {
            start: Start::State,
            mode: Mode::Latest,
            hz: Some(HZ[(viewer / self.boards) % HZ.len()]),
            me: None,
        };
        let channel = stage.channel("board", board);
        full.read(seat, &channel, options, None).await
    }

    /// Board after board gets its next key.
    fn outlets(&self, stage: &Stage) -> Vec<Outlet> {
        let all = (0..self.keys).flat_map(|key| (0..self.boards).map(move |board| (board, key)));
        let outlet = |(board, key)| Outlet {
            stream: u32::try_from(board * self.keys + key).unwrap_or(u32::MAX),
            channel: stage.channel("board", board),
            keys: Keys::One(format!("k{key}")),
        };
        all.map(outlet).collect()
    }
}
