//! The steps that change a log: publish, blank, delete. Makes their calls and reads the answers;
//! what they do is in `scripts`. Called by the broker.

use tidewire_protocol::{ChannelName, Position, command::Guard};

use super::{
    RedisBroker,
    decode::{self, Damaged, Fields},
    encoding,
    keys::{self, Keys, Kind, hex},
    scripts,
};
use crate::{
    broker::{BrokerError, Head, Publish, Published, Retention, fingerprint::Fingerprint},
    redis::Call,
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
fn keeps(retention: &Retention) -> String {
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
fn lifetime(item: &Publish) -> Option<u64> {
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

    /// How and where a change is announced.
    fn announced(&self, keys: &Keys<'_>) -> Vec<Vec<u8>> {
        let command: &[u8] = if self.redis.is_sharded() {
            b"SPUBLISH"
        } else {
            b"PUBLISH"
        };
        vec![command.to_vec(), keys.of(Kind::Announcements)]
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

/// Reads the answer of `publish.lua`.
pub(super) fn published(answer: ::redis::Value) -> Result<Published, BrokerError> {
    let mut fields = Fields::of(answer)?;
    let done = |position: Position, duplicate| Published {
        position,
        duplicate,
    };
    match &*fields.text()? {
        "OK" => Ok(done(decode::position(&mut fields)?, false)),
        "DUPLICATE" => Ok(done(decode::position(&mut fields)?, true)),
        "CONFLICT" => Err(BrokerError::IdConflict),
        "FULL" => Err(BrokerError::StateFull),
        "REFUSED" => Err(BrokerError::PreconditionFailed(decode::position(
            &mut fields,
        )?)),
        _ => Err(Damaged("an answer").into()),
    }
}
