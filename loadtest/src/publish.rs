//! Publishers: an open loop with the client library.
//!
//! Called by scenarios. A schedule says when each message is due; whatever delays it, here or in
//! the hub, is counted from that moment. It never waits for an answer before the next is sent.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use tidewire_client::{Client, Enqueued, Publish};
use tokio::{sync::mpsc, time::sleep_until};

use crate::{
    full,
    message::Stamp,
    meter::{count, micros},
    stage::Stage,
};

/// Acknowledgements one publisher waits for; the client's outbox holds as many.
const UNANSWERED_MAX: usize = 1_024;
/// Publications a second that one publisher is given at most, so that its outbox holds a second.
pub const RATE_MAX: f64 = 500.0;
/// The first user number of publishers, away from those of readers.
pub const USERS_FROM: usize = 1_000_000;

/// Where one stream is published.
#[derive(Debug, Clone)]
pub struct Outlet {
    /// Its number.
    pub stream: u32,
    /// Where.
    pub channel: String,
    /// Which keys of the channel's state it sets.
    pub keys: Keys,
}

/// Which key a message sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keys {
    /// None.
    None,
    /// Always this one.
    One(String),
    /// `k0`, `k1` … up to so many, by the number of the message.
    Turn(u64),
}

impl Keys {
    fn of(&self, number: u64) -> Option<String> {
        match self {
            Self::None => None,
            Self::One(key) => Some(key.clone()),
            Self::Turn(count) => Some(format!("k{}", number % count)),
        }
    }
}

/// So many messages a second, for so long.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Messages a second, over all outlets.
    pub rate: f64,
    /// For how long.
    pub lasting: Duration,
}

/// What is due when.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// Where, in turn.
    pub outlets: Vec<Outlet>,
    /// When the first is due, since the run began.
    pub from: Duration,
    /// How fast, one pace after the other.
    pub paces: Vec<Pace>,
    /// Bytes of data in each.
    pub payload: usize,
}

impl Schedule {
    /// One pace from the beginning to the end.
    pub fn steady(outlets: Vec<Outlet>, from: Duration, rate: f64, lasting: Duration) -> Self {
        Self {
            outlets,
            from,
            paces: vec![Pace { rate, lasting }],
            payload: 128,
        }
    }

    /// With so many bytes of data in each message, instead of 128.
    pub fn payload(mut self, bytes: usize) -> Self {
        self.payload = bytes;
        self
    }

    /// How long it takes.
    pub fn lasting(&self) -> Duration {
        self.paces.iter().map(|pace| pace.lasting).sum()
    }

    /// The messages, each with its moment.
    fn due(&self) -> impl Iterator<Item = (Duration, &Outlet)> {
        let mut begins = self.from;
        let paces = self.paces.iter().map(move |pace| {
            let from = begins;
            begins += pace.lasting;
            (from, *pace)
        });
        let moments = paces.flat_map(|(from, pace)| {
            let messages = (0_u32..).map(f64::from);
            let after = messages.map(move |number| Duration::from_secs_f64(number / pace.rate));
            let after = after.take_while(move |after| *after < pace.lasting);
            after.map(move |after| from + after)
        });
        moments.zip(self.outlets.iter().cycle())
    }

    /// Divides the streams among so many publishers that none has more than [`RATE_MAX`]. A stream
    /// has one publisher: two could overtake each other.
    fn shares(&self) -> Vec<Self> {
        let rates = self.paces.iter().map(|pace| pace.rate);
        let highest = rates.fold(1.0, f64::max);
        let wanted = (1_u32..).find(|count| highest / f64::from(*count) <= RATE_MAX);
        let count = wanted
            .unwrap_or(1)
            .min(u32::try_from(self.outlets.len()).unwrap_or(1))
            .max(1);
        let share = |publisher: u32| {
            let (first, step) = (as_index(publisher), as_index(count));
            let outlets = self.outlets.iter().skip(first).step_by(step).cloned();
            let outlets: Vec<Outlet> = outlets.collect();
            // By the number of its outlets: every one is served at the same pace.
            let part = share_of(outlets.len(), self.outlets.len());
            let paces = self.paces.iter().map(|pace| Pace {
                rate: pace.rate * part,
                ..*pace
            });
            let first_rate = self.paces.first().map_or(1.0, |pace| pace.rate);
            Self {
                outlets,
                paces: paces.collect(),
                // Publishers in turn, not all at the same moment.
                from: self.from + Duration::from_secs_f64(f64::from(publisher) / first_rate),
                payload: self.payload,
            }
        };
        (0..count).map(share).collect()
    }
}

fn as_index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn share_of(part: usize, whole: usize) -> f64 {
    let count = |value: usize| u32::try_from(value).map_or(f64::MAX, f64::from);
    count(part) / count(whole.max(1))
}

/// Publishes a whole schedule and returns when every message was handed over.
pub async fn play(stage: &Arc<Stage>, schedule: &Schedule) -> Result<()> {
    let mut playing = Vec::new();
    for (number, share) in schedule.shares().into_iter().enumerate() {
        let client = full::plain(stage, USERS_FROM + number)?;
        let stage = Arc::clone(stage);
        playing.push(async move { play_with(&stage, &client, &share).await });
    }
    let mut set = tokio::task::JoinSet::new();
    playing.into_iter().for_each(|playing| {
        set.spawn(playing);
    });
    while let Some(done) = set.join_next().await {
        done.context("a publisher ended")??;
    }
    Ok(())
}

/// Publishes a schedule with one client.
pub async fn play_with(stage: &Arc<Stage>, client: &Client, schedule: &Schedule) -> Result<()> {
    let (answers, unanswered) = mpsc::channel(UNANSWERED_MAX);
    stage.spawn(hear(Arc::clone(stage), unanswered));
    for (moment, outlet) in schedule.due() {
        sleep_until(stage.clock.at(moment)).await;
        if stage.is_enough() {
            break;
        }
        let at_us = micros(moment);
        let stamp = Stamp {
            stream: outlet.stream,
            number: stage.ledger.next(outlet.stream),
            at_us,
        };
        let mut publish = Publish::json_text(&stamp.data(schedule.payload));
        if let Some(key) = outlet.keys.of(stamp.number) {
            publish = publish.key(key);
        }
        let enqueued = client.enqueue(&outlet.channel, publish).await?;
        let late = stage.clock.now_us().saturating_sub(at_us);
        stage.meter.lag.lock().saturating_record(late);
        answers
            .send((stamp, enqueued))
            .await
            .context("nobody hears the answers")?;
    }
    Ok(())
}

/// Takes the answers in the order of sending.
async fn hear(stage: Arc<Stage>, mut unanswered: mpsc::Receiver<(Stamp, Enqueued)>) {
    while let Some((stamp, enqueued)) = unanswered.recv().await {
        match enqueued.acknowledged().await {
            Ok(published) => {
                let took = stage.clock.now_us().saturating_sub(stamp.at_us);
                stage.meter.acknowledged.lock().saturating_record(took);
                stage.ledger.acknowledge(stamp.stream);
                if published.duplicate {
                    count(&stage.meter.duplicates);
                }
            }
            Err(error) => stage.fail(format!(
                "publication {} of stream {} was not acknowledged: {error}",
                stamp.number, stamp.stream
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_shared_by_streams_and_keeps_its_rate() {
        let outlet = |stream| Outlet {
            stream,
            channel: format!("load:{stream}"),
            keys: Keys::Turn(3),
        };
        let outlets = (0..10).map(outlet).collect();
        let lasting = Duration::from_secs(2);
        let schedule = Schedule::steady(outlets, Duration::from_secs(1), 1_200.0, lasting);
        let shares = schedule.shares();
        assert_eq!(shares.len(), 3);
        let due: usize = shares.iter().map(|share| share.due().count()).sum();
        assert!((2_398..=2_402).contains(&due), "{due}");
        let first = shares
            .iter()
            .flat_map(Schedule::due)
            .map(|(moment, _)| moment)
            .min();
        assert_eq!(first, Some(Duration::from_secs(1)));
        assert_eq!(
            schedule
                .due()
                .map(|(_, outlet)| outlet.stream)
                .take(11)
                .last(),
            Some(0)
        );
    }
}
