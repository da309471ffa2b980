//! Plays the recordings: where a courier was, and what instruments showed, at the pace of the
//! clock, so that a node that was killed goes on where the recording is.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tidewire_protocol::{ChannelName, Name, Payload};

use crate::{
    broker::{Broker, Publish},
    clock,
    config::Config,
};

/// The channel of the order.
pub const ORDERS: &str = "orders:demo";
/// The channel of the dashboard.
pub const DASH: &str = "dash:demo";
/// The ride is played this much faster than it was driven: nine minutes are long to watch.
const RIDE_SPEED: u64 = 3;
/// Time between two samples of the dashboard: an hour of measurements.
const SAMPLE: Duration = Duration::from_millis(250);
/// How often the ride is looked at; positions are published as they were recorded.
const RIDE_TICK: Duration = Duration::from_millis(200);
/// A courier who stands still says so this often: the recorder wrote nothing down meanwhile.
const STANDING_MS: u64 = 800;
/// Metres of one degree of latitude.
const DEGREE_METRES: f64 = 111_195.0;
/// The order is near its door on the last of the way.
const ARRIVING_FROM: f64 = 0.85;

/// A recorded position: latitude, longitude, seconds since the start, metres above the sea.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Fix(pub f64, pub f64, pub f64, pub f64);

/// A recorded ride.
#[derive(Debug, Deserialize)]
pub struct Courier {
    pub source: String,
    pub licence: String,
    /// First and last position of each stop: loading, the door, home again.
    pub stops: Vec<(usize, usize)>,
    pub points: Vec<Fix>,
}

/// One measured series.
#[derive(Debug, Deserialize)]
pub struct Series {
    pub key: String,
    pub name: String,
    pub unit: String,
    pub values: Vec<f64>,
}

/// Recorded measurements.
#[derive(Debug, Deserialize)]
pub struct Measurements {
    pub source: String,
    pub licence: String,
    pub series: Vec<Series>,
}

/// Everything the demo plays.
#[derive(Debug)]
pub struct Recordings {
    pub courier: Courier,
    pub series: Measurements,
}

impl Recordings {
    /// Reads what ships with the program.
    ///
    /// # Errors
    /// The files are broken.
    pub fn read() -> Result<Self, serde_json::Error> {
        Ok(Self {
            courier: serde_json::from_str(include_str!("data/courier.json"))?,
            series: serde_json::from_str(include_str!("data/series.json"))?,
        })
    }
}

/// Plays the ride, round after round.
pub async fn drive(config: Arc<Config>, broker: Arc<dyn Broker>, courier: Courier) {
    let (Ok(channel), Some(end)) = (ChannelName::new(ORDERS), courier.points.last()) else {
        return;
    };
    let round = Duration::from_secs_f64(end.2);
    let (mut last, mut said_ms) = (None, 0);
    let mut tick = tokio::time::interval(RIDE_TICK);
    loop {
        tick.tick().await;
        let now_ms = clock::now_ms();
        let played = u128::from(now_ms * RIDE_SPEED) % round.as_millis();
        let at_s = played as f64 / 1000.0;
        let index = courier
            .points
            .partition_point(|fix| fix.2 <= at_s)
            .saturating_sub(1);
        let stands = last == Some(index);
        if stands && now_ms < said_ms + STANDING_MS {
            continue;
        }
        (last, said_ms) = (Some(index), now_ms);
        let mut keys = vec![("courier".to_owned(), courier.position(index))];
        if !stands {
            keys.push(("status".to_owned(), courier.status(index)));
            keys.push(("eta".to_owned(), courier.eta(index)));
        }
        publish(&config, &*broker, &channel, keys).await;
    }
}

/// Plays the measurements, all series in step.
pub async fn measure(config: Arc<Config>, broker: Arc<dyn Broker>, recorded: Measurements) {
    let Ok(channel) = ChannelName::new(DASH) else {
        return;
    };
    let count = recorded
        .series
        .iter()
        .map(|series| series.values.len())
        .min()
        .unwrap_or(0)
        .max(1);
    let mut tick = tokio::time::interval(SAMPLE);
    loop {
        tick.tick().await;
        let step = clock::now_ms() / u64::try_from(SAMPLE.as_millis()).unwrap_or(1);
        let index = usize::try_from(step).unwrap_or(0) % count;
        let samples = recorded.series.iter().filter_map(|series| {
            Some((
                series.key.clone(),
                json!({"v": series.values.get(index)?, "i": index}),
            ))
        });
        publish(&config, &*broker, &channel, samples.collect()).await;
    }
}

impl Courier {
    /// Where the parcel is handed over.
    fn door(&self) -> (usize, usize) {
        self.stops
            .get(1)
            .copied()
            .unwrap_or((self.points.len() - 1, self.points.len() - 1))
    }

    fn position(&self, index: usize) -> serde_json::Value {
        let (here, next) = (
            self.points[index],
            self.points[(index + 1).min(self.points.len() - 1)],
        );
        let east = (next.1 - here.1) * here.0.to_radians().cos();
        let north = next.0 - here.0;
        let metres = east.hypot(north) * DEGREE_METRES;
        let speed = if next.2 > here.2 {
            metres / (next.2 - here.2) * 3.6
        } else {
            0.0
        };
        json!({
            "lat": here.0, "lon": here.1,
            "speed": (speed * 10.0).round() / 10.0,
            "progress": (self.progress(index) * 1000.0).round() / 1000.0,
            "heading": (east.atan2(north).to_degrees().rem_euclid(360.0)).round(),
        })
    }

    fn progress(&self, index: usize) -> f64 {
        let last = self.points.len().max(2) - 1;
        index as f64 / last as f64
    }

    fn status(&self, index: usize) -> serde_json::Value {
        let (arrives, leaves) = self.door();
        let loaded = self.stops.first().map_or(0, |stop| stop.1);
        let (status, text) = match index {
            index if index <= loaded => ("preparing", "The parcel is being loaded"),
            index if index < arrives && (index as f64) < arrives as f64 * ARRIVING_FROM => {
                ("on_the_way", "The courier is on the way")
            }
            index if index < arrives => ("arriving", "The courier is around the corner"),
            index if index <= leaves => ("delivered", "Handed over at the door"),
            _ => ("returning", "The courier drives back"),
        };
        json!({"status": status, "text": text})
    }

    fn eta(&self, index: usize) -> serde_json::Value {
        let left_s =
            (self.points[self.door().0].2 - self.points[index].2).max(0.0) / RIDE_SPEED as f64;
        json!({"seconds": left_s.round()})
    }
}

async fn publish(
    config: &Config,
    broker: &dyn Broker,
    channel: &ChannelName,
    keys: Vec<(String, serde_json::Value)>,
) {
    let Some(namespace) = config.namespaces.resolve(channel) else {
        return;
    };
    let retention = namespace.retention(config.session.ttl);
    let batch = keys.into_iter().map(|(key, data)| Publish {
        channel: channel.clone(),
        retention,
        payload: Some(Payload::Json(Bytes::from(data.to_string()))),
        key: Name::new(&key).ok(),
        event: None,
        id: None,
        publisher: Arc::from("n:demo"),
        by: None,
        delete: false,
        ttl_ms: None,
        guard: None,
        trace: None,
    });
    for error in broker
        .publish(batch.collect())
        .await
        .into_iter()
        .filter_map(Result::err)
    {
        tracing::debug!(%error, "a recorded value was not published");
    }
}
