//! `slow`: a share of the readers stops reading; what it costs the others and the node.
//!
//! They stop reading their sockets; it closes none.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use tidewire_client::ChannelName;

use super::{audience, steady};
use crate::{
    hub::Settings,
    judge::Rule,
    light::{Light, Place, Wanted},
    limits::Needs,
    publish,
    run::Scenario,
    sampler::{float, seconds},
    stage::{Seat, Stage},
};

/// A share of the readers stops reading for a while; then they too must get everything.
#[derive(Debug, Clone, clap::Args)]
pub struct Slow {
    /// Readers in all.
    #[arg(long, default_value_t = 100)]
    readers: usize,
    /// Of those, how many in a hundred stop.
    #[arg(long, default_value_t = 20)]
    percent: usize,
    /// Messages a second, in one channel.
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    /// How long messages are sent; the slow ones stop after a fourth of it, for half of it.
    #[arg(long, default_value_t = 24)]
    seconds: u64,
    /// Bytes of data in a message.
    #[arg(long, default_value_t = 16_384)]
    payload: usize,
}

/// What the kernel keeps for one that does not read: little, so that the node notices soon.
const BUFFER_BYTES: u32 = 8 * 1024;
/// A reader that is less behind was kept up by the kernel's buffers: the run shows nothing then.
const BEHIND_MIN: u64 = 20;
const POLL: Duration = Duration::from_millis(20);

impl Scenario for Slow {
    const NAME: &'static str = "slow";

    fn needs(&self) -> Needs {
        audience::needs(self.readers)
    }

    fn settings(&self) -> Settings {
        Settings {
            history: 100_000,
            ..Settings::ONE
        }
    }

    fn streams(&self) -> usize {
        1
    }

    async fn play(&self, stage: &Arc<Stage>) -> Result<()> {
        let slow = self.readers * self.percent / 100;
        audience::gather_numbers(stage, "load", slow..self.readers, 1).await?;
        let (mut dawdling, mut seats) = (Vec::new(), Vec::new());
        let place = Place::of(stage)?;
        for number in 0..slow {
            let wanted = Wanted {
                channel: ChannelName::new(&stage.channel("load", 0))?,
                stream: 0,
                state: false,
            };
            let seat = stage.seat(number, Rule::Every).untimed();
            seats.push(seat.clone());
            let mut reader = Light::new(seat, &place, number, vec![wanted]).buffer(BUFFER_BYTES);
            let line = audience::connect(&mut reader, audience::TRIES).await?;
            dawdling.push((reader, line));
        }
        let lasting = Duration::from_secs(self.seconds);
        let schedule = steady(stage, 1, self.rate, lasting, self.payload);
        let (stops, goes_on) = (schedule.from + lasting / 4, schedule.from + lasting * 3 / 4);
        for (mut reader, mut line) in dawdling {
            let clock = stage.clock;
            stage.spawn(async move {
                // Where the connection is lost meanwhile, `run` comes back.
                let _lost = reader.run_until(&mut line, clock.at(stops)).await;
                tokio::time::sleep_until(clock.at(goes_on)).await;
                reader.run(line).await;
            });
        }
        let watch = watch(stage, stops, goes_on, &seats);
        let (played, ()) = tokio::join!(publish::play(stage, &schedule), watch);
        played
    }
}

/// Looks at the slow ones and at the node while they stand still and catch up.
async fn watch(stage: &Stage, stops: Duration, goes_on: Duration, slow: &[Seat]) {
    let behind = || slow.iter().map(Seat::missing).sum::<u64>();
    tokio::time::sleep_until(stage.clock.at(stops)).await;
    stage.mark(format!("{} stop reading", slow.len()));
    let before = stage.hub.usage().resident;
    tokio::time::sleep_until(stage.clock.at(goes_on)).await;
    let grown = stage.hub.usage().resident.saturating_sub(before);
    stage.mark("they read again");
    let count = slow.len() as u64;
    let each = behind() / count.max(1);
    if each < BEHIND_MIN {
        stage.fail(format!(
            "nobody was slow: {each} messages behind; raise --payload, --rate or --seconds"
        ));
    }
    stage.find("messages that each slow reader was behind", float(each), "");
    stage.find(
        "the node grew while they stood still",
        float(grown),
        "bytes",
    );
    // One message on its way is not behind.
    while behind() > count && stage.clock.elapsed() < goes_on * 3 {
        tokio::time::sleep(POLL).await;
    }
    let took = stage.clock.elapsed().saturating_sub(goes_on);
    stage.find("until the slow ones had caught up", seconds(took), "s");
}
