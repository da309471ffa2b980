//! Which publications go to which step: plain ones (no id, no guard, no state) together, in
//! channels that this node published in of late; all others one by one.
//!
//! Called by `publish`. Whether a channel is as the plain step needs it is judged in Redis; what
//! that passes over takes a second round trip. Never changes the order within a channel.

use std::{collections::BTreeMap, time::Duration};

use ::redis::Value;
use quick_cache::sync::Cache;
use tidewire_protocol::{ChannelName, Position, frame::Acknowledge};
use tokio::time::Instant;

use super::{
    RedisBroker,
    decode::{Damaged, Fields, epoch, number},
    encoding,
    keys::{Keys, Kind},
    publish::{Made, keeps, lifetime, made},
    scripts,
};
use crate::{
    broker::{BrokerError, Publish, Published, lineage::Parts},
    redis::{Call, CallError, Partition},
};

/// Publications in one step: a third of a millisecond of Redis.
const PER_STEP: usize = 32;
/// Most bytes of data in one step, for the same reason.
const BYTES_PER_STEP: usize = 256 * 1024;
/// Channels remembered: those a node publishes in within seconds, at most some 8 MiB of names.
const SETTLED_MAX: usize = 65_536;
/// A channel published in less often than this is not plain: lifetimes are to be renewed once in a
/// quarter of them, and one round trip too many must be rare.
const SETTLED_FOR: Duration = Duration::from_secs(5);
/// The shortest lifetime of a history whose channel can be plain, for the same reason.
const HISTORY_TTL_MIN_MS: u64 = 20_000;

/// Channels in which this node's last publication was plain, and when. One that is forgotten costs
/// Redis a few microseconds, one that should be a round trip.
#[derive(Debug)]
pub(super) struct Settled(Cache<ChannelName, Instant>);

impl Default for Settled {
    fn default() -> Self {
        Self(Cache::new(SETTLED_MAX))
    }
}

impl Settled {
    fn note(&self, item: &Publish) {
        if is_plain(item) {
            self.0.insert(item.channel.clone(), Instant::now());
        } else {
            self.0.remove(&item.channel);
        }
    }

    fn holds(&self, channel: &ChannelName) -> bool {
        let last = self.0.get(channel);
        last.is_some_and(|last| last.elapsed() < SETTLED_FOR)
    }
}

/// Calls, and which publications each is for.
#[derive(Debug, Default)]
struct Steps {
    calls: Vec<Call>,
    places: Vec<Vec<usize>>,
    /// The plain step of each partition that has room.
    open: BTreeMap<Partition, (usize, usize)>,
}

fn is_plain(item: &Publish) -> bool {
    let retention = &item.retention;
    let lives = retention.history_size == 0 || retention.history_ttl_ms >= HISTORY_TTL_MIN_MS;
    item.id.is_none() && item.guard.is_none() && !retention.state && lives
}

impl RedisBroker {
    /// Publishes each on its own, those of one channel in their order.
    pub(super) async fn publish_each(&self, batch: &[Publish]) -> Vec<Result<Made, BrokerError>> {
        let plain = self.plain_channels(batch);
        let mut steps = Steps::default();
        for (at, item) in batch.iter().enumerate() {
            if plain.get(&item.channel) == Some(&true) {
                self.add(&mut steps, at, item);
            } else {
                steps.calls.push(self.publish_call(item));
                steps.places.push(vec![at]);
            }
        }
        let mut answers: Vec<_> = batch.iter().map(|_| None).collect();
        let took = self.redis.call_all(steps.calls).await;
        for (answer, places) in took.into_iter().zip(steps.places) {
            let is_plain = |at: &usize| plain.get(&batch[*at].channel) == Some(&true);
            if places.iter().all(is_plain) {
                for (at, answer) in places.iter().zip(split(answer, places.len())) {
                    let made = self.plainly_made(answer);
                    if matches!(made, Ok(Some(_))) {
                        self.settled.note(&batch[*at]);
                    }
                    answers[*at] = made.transpose();
                }
            } else if let [at] = places[..] {
                answers[at] = Some(self.made_alone(&batch[at], answer));
            }
        }
        self.publish_rest(batch, answers).await
    }

    /// The channels of a batch, and whether all of it in each can be plain.
    fn plain_channels<'a>(&self, batch: &'a [Publish]) -> BTreeMap<&'a ChannelName, bool> {
        let mut channels = BTreeMap::new();
        for item in batch {
            let settled = || self.settled.holds(&item.channel);
            let plain = channels.entry(&item.channel).or_insert_with(settled);
            *plain &= is_plain(item);
        }
        channels
    }

    fn add(&self, steps: &mut Steps, at: usize, item: &Publish) {
        let partition = self.partition_of(&item.channel);
        let of = Keys::new(self.redis.tag(partition), item.channel.as_str());
        let data = encoding::encode(item, lifetime(item));
        let open = steps.open.get(&partition).copied();
        let fits = open.filter(|(step, bytes)| {
            steps.places[*step].len() < PER_STEP && bytes + data.len() <= BYTES_PER_STEP
        });
        let (step, bytes) = fits.unwrap_or_else(|| {
            steps.places.push(Vec::new());
            steps.calls.push(Call {
                partition,
                script: &scripts::PLAIN,
                keys: Vec::new(),
                args: vec![self.announces().to_vec()],
                is_write: true,
            });
            (steps.calls.len() - 1, 0)
        });
        steps.open.insert(partition, (step, bytes + data.len()));
        steps.places[step].push(at);
        let call = &mut steps.calls[step];
        call.keys.extend([of.of(Kind::Meta), of.of(Kind::Log)]);
        call.args
            .extend([keeps(&item.retention).into_bytes(), data]);
    }

    /// Publishes, in their order, what the plain step passed over.
    async fn publish_rest(
        &self,
        batch: &[Publish],
        mut answers: Vec<Option<Result<Made, BrokerError>>>,
    ) -> Vec<Result<Made, BrokerError>> {
        let rest = batch.iter().zip(&answers).enumerate();
        let rest: Vec<_> = rest
            .filter_map(|(at, (item, answer))| answer.is_none().then_some((at, item)))
            .collect();
        if !rest.is_empty() {
            let calls = rest.iter().map(|(_, item)| self.publish_call(item));
            let took = self.redis.call_all(calls.collect()).await;
            for ((at, item), answer) in rest.into_iter().zip(took) {
                answers[at] = Some(self.made_alone(item, answer));
            }
        }
        let answers = answers.into_iter();
        answers
            .map(|answer| answer.unwrap_or(Err(BrokerError::Unavailable)))
            .collect()
    }

    /// Reads the answer of `publish.lua`; after it the channel is settled.
    fn made_alone(
        &self,
        item: &Publish,
        answer: Result<Value, CallError>,
    ) -> Result<Made, BrokerError> {
        let made = made(answer.map_err(|error| self.failed(&error))?)?;
        self.takes_writes();
        self.settled.note(item);
        Ok(made)
    }

    /// Reads one answer of `plain.lua`; none where it was passed over.
    fn plainly_made(&self, answer: Result<Value, CallError>) -> Result<Option<Made>, BrokerError> {
        let answer = answer.map_err(|error| self.failed(&error))?;
        let text = Fields::of(Value::Array(vec![answer]))?.text()?;
        if text.is_empty() {
            return Ok(None);
        }
        self.takes_writes();
        let damaged = Damaged("an answer");
        let (offset, minted) = text.split_once(' ').ok_or(damaged)?;
        let position = Position {
            epoch: epoch(minted)?,
            offset: number(offset.as_bytes())?,
        };
        let generation = Parts::of(&position.epoch).generation.to_owned();
        let published = Published {
            position,
            duplicate: false,
            acknowledged: Acknowledge::Log,
        };
        Ok(Some(Made {
            published,
            generation,
        }))
    }
}

/// The answers of one plain step apart; an error is everybody's.
fn split(answer: Result<Value, CallError>, count: usize) -> Vec<Result<Value, CallError>> {
    let fields = match answer {
        Ok(Value::Array(fields)) => fields,
        Ok(_other) => Vec::new(),
        Err(error) => return vec![Err(error); count],
    };
    // The first is `OK`. Nil is no answer of ours: whoever reads it says so.
    let each = fields.into_iter().skip(1).map(crate::redis::judged);
    let nil = std::iter::repeat_with(|| Ok(Value::Nil));
    each.chain(nil).take(count).collect()
}
