//! The steps that read: heads, pages of history and state, names. Makes their calls and reads
//! the answers. Called by the broker; changes nothing in Redis.

use std::{collections::BTreeMap, sync::Arc};

use tidewire_protocol::{
    ChannelName, Publication, command::Range, frame::StateItem, limits::INTEGER_MAX,
};

use super::{
    RedisBroker,
    decode::{self, Damaged, Fields, epoch, number},
    encoding,
    keys::{self, Keys, Kind},
    scripts,
};
use crate::{
    broker::{BrokerError, Head, HistoryPage, PageLimit, StatePage, StateQuery},
    redis::{Call, Partition},
};

/// Most heads one step reads, so that no step holds Redis up.
const HEADS_PER_STEP: usize = 64;
/// Most rounds of names and heads for one listing: names may outlive their channels.
const LISTING_ROUNDS_MAX: usize = 16;

impl RedisBroker {
    /// The step that reads the heads of channels of one partition.
    pub(super) fn heads_call<'a>(
        &self,
        partition: Partition,
        channels: impl IntoIterator<Item = &'a ChannelName>,
    ) -> Call {
        let tag = self.redis.tag(partition);
        let (mut keys, mut args) = (Vec::new(), Vec::new());
        for channel in channels {
            let of = Keys::new(tag, channel.as_str());
            keys.extend([Kind::Meta, Kind::Log, Kind::Blanks].map(|kind| of.of(kind)));
            args.push(channel.as_str().into());
        }
        Call {
            partition,
            script: &scripts::HEADS,
            keys,
            args,
            is_write: false,
        }
    }

    /// The heads of channels in their order, and whether each has a log.
    pub(super) async fn read_heads(
        &self,
        channels: &[ChannelName],
    ) -> Result<Vec<(Head, bool)>, BrokerError> {
        let mut groups: BTreeMap<Partition, Vec<usize>> = BTreeMap::new();
        for (at, channel) in channels.iter().enumerate() {
            groups
                .entry(self.partition_of(channel))
                .or_default()
                .push(at);
        }
        let mut places: Vec<usize> = Vec::with_capacity(channels.len());
        let mut calls = Vec::new();
        for (partition, group) in groups {
            for step in group.chunks(HEADS_PER_STEP) {
                let step_channels = step.iter().filter_map(|at| channels.get(*at));
                calls.push(self.heads_call(partition, step_channels));
                places.extend(step);
            }
        }
        let mut heads = Vec::with_capacity(places.len());
        for answer in self.redis.call_all(calls).await {
            let answer = answer.map_err(|error| self.failed(&error))?;
            read_heads(answer, &mut heads)?;
        }
        if heads.len() != places.len() {
            return Err(Damaged("heads").into());
        }
        let mut placed: Vec<_> = places.into_iter().zip(heads).collect();
        placed.sort_by_key(|(at, _)| *at);
        Ok(placed.into_iter().map(|(_, head)| head).collect())
    }

    pub(super) async fn read_history(
        &self,
        channel: &ChannelName,
        range: Range,
        limit: PageLimit,
    ) -> Result<HistoryPage, BrokerError> {
        let (low, high, step) = match range {
            Range::After(after) => (after.saturating_add(1), None, "1"),
            Range::Before(before) => (0, before, "-1"),
        };
        // Lua numbers are doubles: no offset is above the greatest integer they hold.
        let high = high.map_or(INTEGER_MAX, |before| before.saturating_sub(1));
        let args = [
            low.min(INTEGER_MAX).to_string(),
            high.min(INTEGER_MAX).to_string(),
            step.to_owned(),
            limit.items.to_string(),
            limit.bytes.to_string(),
        ];
        let kinds = [Kind::Meta, Kind::Log, Kind::Blanks];
        let call = self.page_call(channel, &scripts::HISTORY, &kinds, args);
        let answer = self
            .redis
            .call(call)
            .await
            .map_err(|error| self.failed(&error))?;
        let (head, more, mut fields) = page(answer)?;
        let mut items: Vec<Arc<Publication>> = Vec::new();
        while !fields.is_empty() {
            let (offset, ts) = (fields.number()?, fields.number()?);
            items.push(Arc::new(encoding::decode(offset, ts, fields.bytes()?)?));
        }
        if matches!(range, Range::Before(_)) {
            items.reverse();
        }
        Ok(HistoryPage { head, items, more })
    }

    pub(super) async fn read_state(
        &self,
        channel: &ChannelName,
        query: StateQuery,
    ) -> Result<StatePage, BrokerError> {
        let args = [
            query.from.min(INTEGER_MAX).to_string(),
            u8::from(query.catch_up).to_string(),
            query.limit.items.to_string(),
            query.limit.bytes.to_string(),
        ];
        let kinds = [
            Kind::Meta,
            Kind::Log,
            Kind::Blanks,
            Kind::State,
            Kind::Live,
            Kind::Tombstones,
        ];
        let call = self.page_call(channel, &scripts::STATE, &kinds, args);
        let answer = self
            .redis
            .call(call)
            .await
            .map_err(|error| self.failed(&error))?;
        let (head, more, mut fields) = page(answer)?;
        let mut items = Vec::new();
        while !fields.is_empty() {
            items.push(state_item(fields.bytes()?)?);
        }
        Ok(StatePage { head, items, more })
    }

    fn page_call<const N: usize>(
        &self,
        channel: &ChannelName,
        script: &'static crate::redis::Script,
        kinds: &[Kind],
        args: [String; N],
    ) -> Call {
        let partition = self.partition_of(channel);
        let of = Keys::new(self.redis.tag(partition), channel.as_str());
        let mut all = vec![channel.as_str().into()];
        all.extend(args.map(String::into_bytes));
        Call {
            partition,
            script,
            keys: kinds.iter().map(|kind| of.of(*kind)).collect(),
            args: all,
            is_write: false,
        }
    }

    /// Names of every partition merged, then the heads of those that still have a log.
    pub(super) async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(ChannelName, Head)>, BrokerError> {
        let mut rows = Vec::new();
        let mut after = after.filter(|after| *after >= prefix).map(str::to_owned);
        for _ in 0..LISTING_ROUNDS_MAX {
            let names = self.read_names(prefix, after.as_deref(), limit).await?;
            let Some(last) = names.last() else { break };
            after = Some(last.to_string());
            let heads = self.read_heads(&names).await?;
            let has_more = names.len() == limit;
            let found = names.into_iter().zip(heads);
            rows.extend(found.filter_map(|(name, (head, known))| known.then_some((name, head))));
            if rows.len() >= limit || !has_more {
                break;
            }
        }
        rows.truncate(limit);
        Ok(rows)
    }

    async fn read_names(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ChannelName>, BrokerError> {
        let low = after.map_or_else(|| format!("[{prefix}"), |after| format!("({after}"));
        // No text holds the byte 255: what follows every name with the prefix.
        let high = [b"(", prefix.as_bytes(), &[255]].concat();
        let call = |partition| Call {
            partition,
            script: &scripts::NAMES,
            keys: vec![keys::names(self.redis.tag(partition))],
            args: vec![
                low.clone().into_bytes(),
                high.clone(),
                limit.to_string().into_bytes(),
            ],
            is_write: false,
        };
        let calls = self.redis.partitions().map(call).collect();
        let mut names = Vec::new();
        for answer in self.redis.call_all(calls).await {
            let answer = answer.map_err(|error| self.failed(&error))?;
            let mut fields = Fields::of(answer)?;
            fields.text()?;
            while !fields.is_empty() {
                names.push(channel_name(&fields.text()?)?);
            }
        }
        names.sort_unstable();
        names.truncate(limit);
        Ok(names)
    }
}

fn channel_name(text: &str) -> Result<ChannelName, Damaged> {
    ChannelName::new(text).map_err(|_invalid| Damaged("the name of a channel"))
}

/// Reads an answer of `heads.lua`.
pub(super) fn read_heads(
    answer: ::redis::Value,
    heads: &mut Vec<(Head, bool)>,
) -> Result<(), Damaged> {
    let mut fields = Fields::of(answer)?;
    let (_ok, generation) = (fields.text()?, fields.text()?);
    while !fields.is_empty() {
        heads.push(decode::head(fields.list()?, &generation)?);
    }
    Ok(())
}

/// Reads what both kinds of pages begin with.
fn page(answer: ::redis::Value) -> Result<(Head, bool, Fields), Damaged> {
    let mut fields = Fields::of(answer)?;
    let (_ok, generation) = (fields.text()?, fields.text()?);
    let (head, _) = decode::head(fields.list()?, &generation)?;
    let more = fields.number()? == 1;
    Ok((head, more, fields.list()?))
}

/// Reads `offset ts due epoch\ndata`.
fn state_item(mut entry: bytes::Bytes) -> Result<StateItem, Damaged> {
    let damaged = Damaged("an entry of the state");
    let Some(end) = entry.iter().position(|byte| *byte == b'\n') else {
        return Err(damaged);
    };
    let header = entry.split_to(end);
    let data = entry.split_off(1);
    let header = std::str::from_utf8(&header).map_err(|_bytes| damaged.clone())?;
    let mut words = header.split(' ');
    let (Some(offset), Some(ts), Some(_due), Some(minted)) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(damaged);
    };
    let (offset, ts) = (number(offset.as_bytes())?, number(ts.as_bytes())?);
    Ok(StateItem {
        epoch: epoch(minted)?,
        publication: Arc::new(encoding::decode(offset, ts, data)?),
    })
}
