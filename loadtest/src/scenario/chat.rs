//! `chat`: rooms whose members write, read each other and see who is there.
//!
//! Every member is a whole client with a user of its own. It breaks nothing.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use serde_json::json;
use tidewire_client::{Client, Options, View};
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};

use super::audience;
use crate::{
    full::{self, Full},
    hub::Settings,
    judge::Rule,
    limits::Needs,
    publish::{self, Keys, Outlet, Schedule},
    run::Scenario,
    sampler::{float, seconds},
    stage::Stage,
};

/// Rooms whose members write, read each other and see who is there.
#[derive(Debug, Clone, clap::Args)]
pub struct Chat {
    /// Rooms.
    #[arg(long, default_value_t = 40)]
    rooms: usize,
    /// Members of each room.
    #[arg(long, default_value_t = 20)]
    members: usize,
    /// Messages a second that each member writes.
    #[arg(long, default_value_t = 0.1)]
    rate: f64,
    /// How long they write.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Bytes of data in a message.
    #[arg(long, default_value_t = 128)]
    payload: usize,
}

const CONNECTING_MAX: usize = 64;
/// A member who left says so at once; the rest is the node's work.
const PRESENCE_WITHIN: Duration = Duration::from_secs(30);

impl Scenario for Chat {
    const NAME: &'static str = "chat";

    fn needs(&self) -> Needs {
        // One more for each room: who watches its presence.
        audience::needs_full(self.rooms * (self.members + 1))
    }

    fn settings(&self) -> Settings {
        Settings {
            history: 1_000,
            ..Settings::ONE
        }
    }

    fn streams(&self) -> usize {
        self.rooms * self.members
    }

    async fn play(&self, stage: &Arc<Stage>) -> Result<()> {
        let gate = Arc::new(Semaphore::new(CONNECTING_MAX));
        let mut joining = JoinSet::new();
        for number in 0..self.streams() {
            let turn = Arc::clone(&gate).acquire_owned().await?;
            let join = self.clone().join(Arc::clone(stage), number);
            joining.spawn(async move {
                let joined = join.await;
                drop(turn);
                joined
            });
        }
        let mut members = Vec::new();
        while let Some(joined) = joining.join_next().await {
            members.push(joined??);
        }
        let mut presence = self.watch(stage).await?;
        self.present(
            stage,
            &mut presence,
            self.members,
            "until presence listed all",
        )
        .await;
        let from = stage.begin();
        let mut writing = JoinSet::new();
        for (number, full) in &members {
            let (stage, client) = (Arc::clone(stage), full.client.clone());
            let schedule = self.writes(&stage, *number, from);
            writing.spawn(async move { publish::play_with(&stage, &client, &schedule).await });
        }
        while let Some(wrote) = writing.join_next().await {
            wrote??;
        }
        stage.settle(PRESENCE_WITHIN).await;
        let leaving = members
            .into_iter()
            .filter(|(number, _)| self.leaves(*number));
        let mut left = JoinSet::new();
        leaving.for_each(|(_, full)| {
            left.spawn(full.client.leave());
        });
        while left.join_next().await.is_some() {}
        let rest = self.members - self.members / 2;
        self.present(
            stage,
            &mut presence,
            rest,
            "until presence had forgotten who left",
        )
        .await;
        Ok(())
    }
}

impl Chat {
    /// Half of each room goes in the end.
    const fn leaves(&self, number: usize) -> bool {
        number / self.rooms < self.members / 2
    }

    async fn join(self, stage: Arc<Stage>, number: usize) -> Result<(usize, Full)> {
        let room = number % self.rooms;
        let full = Full::connect(&stage, number)?;
        let seat = stage.seat(number, Rule::Every);
        for member in 0..self.members {
            seat.owe(u32::try_from(member * self.rooms + room)?, 1);
        }
        let options = Options {
            me: Some(json!({ "name": format!("user-{number}") })),
            ..Options::default()
        };
        full.read(seat, &stage.channel("room", room), options, None)
            .await?;
        Ok((number, full))
    }

    /// What one member writes: at the pace of all, at moments of their own.
    fn writes(&self, stage: &Stage, number: usize, from: Duration) -> Schedule {
        let outlet = Outlet {
            stream: u32::try_from(number).unwrap_or(u32::MAX),
            channel: stage.channel("room", number % self.rooms),
            keys: Keys::None,
        };
        let share = float(number as u64) / float(self.streams().max(1) as u64);
        let from = from + Duration::from_secs_f64(share / self.rate);
        let lasting = Duration::from_secs(self.seconds);
        Schedule::steady(vec![outlet], from, self.rate, lasting).payload(self.payload)
    }

    /// A view of who is in each room.
    async fn watch(&self, stage: &Arc<Stage>) -> Result<Vec<(Client, View)>> {
        let mut views = Vec::new();
        for room in 0..self.rooms {
            let client = full::plain(stage, publish::USERS_FROM + room)?;
            let view = client.members(&stage.channel("room", room)).await;
            views.push((client, view.context("presence")?));
        }
        Ok(views)
    }

    async fn present(
        &self,
        stage: &Stage,
        views: &mut [(Client, View)],
        wanted: usize,
        what: &str,
    ) {
        let begun = stage.clock.elapsed();
        let all = async {
            for (_client, view) in views.iter_mut() {
                while view.entries().count() != wanted && view.changed().await.is_some() {}
            }
        };
        let in_time = timeout(PRESENCE_WITHIN, all).await.is_ok();
        let took = stage.clock.elapsed() - begun;
        if in_time {
            stage.find(what, seconds(took), "s");
        } else {
            let counts = views.iter().map(|(_, view)| view.entries().count());
            let counts: Vec<usize> = counts.filter(|count| *count != wanted).take(5).collect();
            stage.fail(format!(
                "presence: {what}: {counts:?} instead of {wanted} after {took:.0?}"
            ));
        }
    }
}
