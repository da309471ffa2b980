//! `spike`: ten times the connections and ten times the rate within seconds.
//!
//! Who joins late is owed what follows its `ok`. The rate falls again, the connections stay.

use std::{sync::Arc, time::Duration};

use anyhow::Result;

use super::{audience, outlets};
use crate::{
    hub::Settings,
    limits::Needs,
    publish::{self, Pace, Schedule},
    run::Scenario,
    sampler::{float, seconds},
    stage::Stage,
};

/// Connections and rate grow tenfold within seconds, and the rate falls again.
#[derive(Debug, Clone, clap::Args)]
pub struct Spike {
    /// Connections before the spike; ten times as many in it.
    #[arg(long, default_value_t = 300)]
    connections: usize,
    /// Channels they are divided among.
    #[arg(long, default_value_t = 30)]
    channels: usize,
    /// Messages a second before the spike, over all channels; ten times as many in it.
    #[arg(long, default_value_t = 30.0)]
    rate: f64,
    /// How long each third lasts: before, in, and after the spike.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Bytes of data in a message.
    #[arg(long, default_value_t = 128)]
    payload: usize,
}

const TIMES: usize = 10;

impl Scenario for Spike {
    const NAME: &'static str = "spike";

    fn needs(&self) -> Needs {
        audience::needs(self.connections * TIMES)
    }

    fn settings(&self) -> Settings {
        Settings {
            history: 1_000,
            ..Settings::ONE
        }
    }

    fn streams(&self) -> usize {
        self.channels
    }

    async fn play(&self, stage: &Arc<Stage>) -> Result<()> {
        audience::gather(stage, "load", self.connections, self.channels).await?;
        let lasting = Duration::from_secs(self.seconds);
        let pace = |times| Pace {
            rate: self.rate * times,
            lasting,
        };
        let schedule = Schedule {
            outlets: outlets(stage, "load", self.channels),
            from: stage.begin(),
            paces: vec![pace(1.0), pace(float(TIMES as u64)), pace(1.0)],
            payload: self.payload,
        };
        let crowd = async {
            tokio::time::sleep_until(stage.clock.at(schedule.from + lasting)).await;
            stage.mark("spike begins");
            let begun = stage.clock.elapsed();
            let more = self.connections..self.connections * TIMES;
            let count = more.len();
            audience::gather_numbers(stage, "load", more, self.channels).await?;
            let what = format!("until {count} more had caught up");
            stage.find(&what, seconds(stage.clock.elapsed() - begun), "s");
            tokio::time::sleep_until(stage.clock.at(schedule.from + 2 * lasting)).await;
            stage.mark("rate falls");
            anyhow::Ok(())
        };
        let (played, crowd) = tokio::join!(publish::play(stage, &schedule), crowd);
        played.and(crowd)
    }
}
