//! The steps that change a log: publish, blank, delete. Makes their calls and reads the answers;
//! what they do is in `scripts`. Called by the broker.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use tidewire_protocol::{ChannelName, command::Guard, frame::Acknowledge};

use super::{
    RedisBroker,
    decode::{self, Damaged, Fields},
    encoding,
    keys::{self, Keys, Kind, hex},
    scripts,
};
use crate::{
    broker::{
        BrokerError, Head, Publish, Published, Retention, fingerprint::Fingerprint, lineage::Parts,
    },
    redis::{Call, Partition},
};

/// The least life of a channel without anything in it: longer than the hour that names the life
/// of a channel Redis does not know, so that no life comes twice.
const IDLE_MIN_MS: u64 = 2 * 3_600_000;
/// No lifetime in Redis is longer: about 300 years, and instants stay exact in Lua.
const LIFETIME_MAX_MS: u64 = 10_000_000_000_000;

/// The kinds of keys of one channel, in the order of `blank.lua` and `delete.lua`.
const CHANGED: [Kind; 7] = [
    Kind::Meta,
    Kind::Log,
    Kind::State,
    Kind::Live,
    Kind::Tombstones,
    Kind::Due,
    Kind::Blanks,
];

/// What the channel keeps, as `keep` in `channel.lua` reads it.
pub(super) fn keeps(retention: &Retention) -> String {
    let state_ttl = if retention.state {
        retention.state_ttl_ms
    } else {
        0
    };
    let idle = retention
        .history_ttl_ms
        .max(state_ttl)
        .max(retention.dedup_ttl_ms)
        .max(retention.tombstone_ttl_ms.saturating_mul(2))
        .max(IDLE_MIN_MS);
    let [history, tombstones, idle] = [retention.history_ttl_ms, retention.tombstone_ttl_ms, idle]
        .map(|lifetime| lifetime.min(LIFETIME_MAX_MS));
    let (size, state) = (retention.history_size, u8::from(retention.state));
    format!("{size} {history} {tombstones} {idle} {state}")
}

/// How long the publication is valid, ms; none: for ever.
pub(super) fn lifetime(item: &Publish) -> Option<u64> {
    let is_kept = item.retention.state && item.key.is_some() && !item.delete;
    let state = is_kept.then_some(item.retention.state_ttl_ms);
    let lifetime = item.ttl_ms.or(state)?;
    Some(lifetime.min(LIFETIME_MAX_MS))
}

/// The arguments of `publish.lua` after the data.
fn arguments(
    item: &Publish,
    fingerprint: Option<Fingerprint>,
    lifetime: Option<u64>,
) -> [String; 10] {
    let retention = &item.retention;
    let (digest, id_ttl) = fingerprint.map_or_else(Default::default, |print| {
        let ttl = retention.dedup_ttl_ms.clamp(1, LIFETIME_MAX_MS);
        (hex(&print.body), ttl.to_string())
    });
    let (field, keys_max, lifetime) = if retention.state {
        let key = item.key.as_ref();
        (
            key.map_or_else(|| "-".to_owned(), |key| format!("={key}")),
            retention.state_keys.to_string(),
            lifetime.map_or_else(String::new, |ms| ms.to_string()),
        )
    } else {
        Default::default()
    };
    let is_removal = retention.state && item.delete && item.key.is_some();
    let (guard, offset) = match &item.guard {
        None => Default::default(),
        Some(Guard::Absent) => ("absent".to_owned(), String::new()),
        Some(Guard::At(at)) => (at.epoch.to_string(), at.offset.to_string()),
    };
    [
        keeps(retention),
        retention.history_size.to_string(),
        digest,
        id_ttl,
        field,
        keys_max,
        lifetime,
        if is_removal {
            "1".to_owned()
        } else {
            String::new()
        },
        guard,
        offset,
    ]
}

impl RedisBroker {
    /// Publishes; where the channel wants it, waits until a replica has it.
    pub(super) async fn publish_batch(
        &self,
        batch: Vec<Publish>,
    ) -> Vec<Result<Published, BrokerError>> {
        let made = self.publish_each(&batch).await;
        let confirmed = self.confirmed(&batch, &made).await;
        let told = batch.iter().zip(made).map(|(item, made)| {
            let mut made: Made = made?;
            if item.retention.acknowledge == Acknowledge::Replicated {
                let at = (self.partition_of(&item.channel), made.generation);
                if !confirmed.contains(&at) {
                    // It stays in the log for now; the same id again is safe.
                    return Err(BrokerError::Unavailable);
                }
                made.published.acknowledged = Acknowledge::Replicated;
            }
            Ok(made.published)
        });
        told.collect()
    }

    /// The partitions, and their generations, whose replicas have all of the batch that must wait
    /// for them: each is waited for once.
    async fn confirmed(
        &self,
        batch: &[Publish],
        made: &[Result<Made, BrokerError>],
    ) -> BTreeSet<(Partition, String)> {
        let waits = |(item, made): (&Publish, &Result<Made, _>)| {
            let made = made.as_ref().ok()?;
            (item.retention.acknowledge == Acknowledge::Replicated)
                .then(|| (self.partition_of(&item.channel), made.generation.clone()))
        };
        let waiting: BTreeSet<_> = batch.iter().zip(made).filter_map(waits).collect();
        let answers = waiting.into_iter().map(async |at| {
            let answer = self.redis.replicated(at.0, &at.1).await;
            answer
                .map_err(|error| self.failed(&error))
                .ok()
                .map(|()| at)
        });
        join_all(answers).await.into_iter().flatten().collect()
    }

    pub(super) fn publish_call(&self, item: &Publish) -> Call {
        let partition = self.partition_of(&item.channel);
        let tag = self.redis.tag(partition);
        let of = Keys::new(tag, item.channel.as_str());
        let lifetime = lifetime(item);
        let fingerprint = Fingerprint::of(item);
        let state = [Kind::State, Kind::Live, Kind::Tombstones, Kind::Due];
        let mut keys = vec![of.of(Kind::Meta), of.of(Kind::Log)];
        keys.push(of.of_id(&fingerprint.map_or([0; 16], |print| print.id)));
        keys.extend(state.map(|kind| of.of(kind)));
        keys.extend([of.of(Kind::Blanks), keys::names(tag), keys::ends(tag)]);
        let mut args = self.announced(&of);
        args.extend([
            item.channel.as_str().into(),
            encoding::encode(item, lifetime),
        ]);
        let texts = arguments(item, fingerprint, lifetime);
        args.extend(texts.map(String::into_bytes));
        // Missing is as empty, and cheaper for the server.
        while args.last().is_some_and(Vec::is_empty) {
            args.pop();
        }
        Call {
            partition,
            script: &scripts::PUBLISH,
            keys,
            args,
            is_write: true,
        }
    }

    /// The command that announces.
    pub(super) fn announces(&self) -> &'static [u8] {
        if self.redis.is_sharded() {
            b"SPUBLISH"
        } else {
            b"PUBLISH"
        }
    }

    /// How and where a change is announced.
    fn announced(&self, keys: &Keys<'_>) -> Vec<Vec<u8>> {
        vec![self.announces().to_vec(), keys.of(Kind::Log)]
    }

    /// A call on the keys of one channel.
    fn change(
        &self,
        channel: &ChannelName,
        script: &'static crate::redis::Script,
        args: impl IntoIterator<Item = String>,
    ) -> Call {
        let partition = self.partition_of(channel);
        let of = Keys::new(self.redis.tag(partition), channel.as_str());
        let mut all = self.announced(&of);
        all.extend(args.into_iter().map(String::into_bytes));
        Call {
            partition,
            script,
            keys: CHANGED.iter().map(|kind| of.of(*kind)).collect(),
            args: all,
            is_write: true,
        }
    }

    pub(super) async fn blank_entry(
        &self,
        channel: &ChannelName,
        offset: u64,
    ) -> Result<(), BrokerError> {
        let call = self.change(channel, &scripts::BLANK, [offset.to_string()]);
        let answer = self
            .redis
            .call(call)
            .await
            .map_err(|error| self.failed(&error))?;
        let mut fields = Fields::of(answer)?;
        match &*fields.text()? {
            "OK" => Ok(()),
            "GONE" => Err(BrokerError::Gone),
            _ => Err(Damaged("an answer").into()),
        }
    }

    pub(super) async fn delete_log(&self, channel: &ChannelName) -> Result<Head, BrokerError> {
        let args = [channel.to_string()];
        let call = self.change(channel, &scripts::DELETE, args);
        let answer = self
            .redis
            .call(call)
            .await
            .map_err(|error| self.failed(&error))?;
        let mut fields = Fields::of(answer)?;
        let (_ok, generation) = (fields.text()?, fields.text()?);
        Ok(decode::head(fields.list()?, &generation)?.0)
    }
}

/// A publication that was made, or had been.
#[derive(Debug)]
pub(super) struct Made {
    pub published: Published,
    /// The generation of the server that answered.
    pub generation: String,
}

/// Reads the answer of `publish.lua`.
pub(super) fn made(answer: ::redis::Value) -> Result<Made, BrokerError> {
    let mut fields = Fields::of(answer)?;
    let published = |position, duplicate| Published {
        position,
        duplicate,
        acknowledged: Acknowledge::Log,
    };
    match &*fields.text()? {
        "OK" => {
            let position = decode::position(&mut fields)?;
            let generation = Parts::of(&position.epoch).generation.to_owned();
            Ok(Made {
                published: published(position, false),
                generation,
            })
        }
        "DUPLICATE" => Ok(Made {
            published: published(decode::position(&mut fields)?, true),
            generation: fields.text()?,
        }),
        "CONFLICT" => Err(BrokerError::IdConflict),
        "FULL" => Err(BrokerError::StateFull),
        "REFUSED" => Err(BrokerError::PreconditionFailed(decode::position(
            &mut fields,
        )?)),
        _ => Err(Damaged("an answer").into()),
    }
}
