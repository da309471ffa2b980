//! What every broker owes, as tests that run against each implementation. `broker_contract!`
//! makes the tests for one; needs nothing but the seam and a way to open the same log again.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tidewire_protocol::{
    ChannelName, Epoch, Name, Payload, Position, Publication, TraceParent,
    command::{Guard, Range},
    frame::Acknowledge,
};

use super::{
    Announce, Broker, BrokerError, Head, HistoryPage, PageLimit, Publish, Published, Retention,
    StatePage, StateQuery,
};

mod ids;
mod keyed;
mod log;
pub(crate) mod random;
pub(crate) mod rules;
mod trace;

/// Opens the log under test; a second call closes it and opens it again.
pub(crate) trait Lab {
    fn open(&self, announce: Arc<Heard>) -> impl Future<Output = Arc<dyn Broker>>;
}

/// One announcement.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Told {
    Append(ChannelName, Epoch, Arc<Publication>),
    Traced(ChannelName, u64, TraceParent),
    Reset(ChannelName, Head),
    Blank(ChannelName, u64),
    Flush,
}

/// Keeps what was announced.
#[derive(Debug, Default)]
pub(crate) struct Heard(Mutex<Vec<Told>>);

impl Heard {
    pub(crate) fn all(&self) -> Vec<Told> {
        self.0.lock().unwrap().clone()
    }

    fn push(&self, told: Told) {
        self.0.lock().unwrap().push(told);
    }

    /// The offsets announced of a channel, in order.
    pub(crate) fn offsets(&self, channel: &ChannelName) -> Vec<u64> {
        self.all()
            .iter()
            .filter_map(|told| match told {
                Told::Append(name, _, publication) if name == channel => Some(publication.offset),
                Told::Append(..)
                | Told::Traced(..)
                | Told::Reset(..)
                | Told::Blank(..)
                | Told::Flush => None,
            })
            .collect()
    }
}

impl Announce for Heard {
    fn append(&self, channel: &ChannelName, epoch: &Epoch, publication: &Arc<Publication>) {
        self.push(Told::Append(
            channel.clone(),
            epoch.clone(),
            publication.clone(),
        ));
    }
    fn traced(&self, channel: &ChannelName, offset: u64, trace: TraceParent) {
        self.push(Told::Traced(channel.clone(), offset, trace));
    }
    fn reset(&self, channel: &ChannelName, head: &Head) {
        self.push(Told::Reset(channel.clone(), head.clone()));
    }
    fn blank(&self, channel: &ChannelName, offset: u64) {
        self.push(Told::Blank(channel.clone(), offset));
    }
    fn flush(&self) {
        self.push(Told::Flush);
    }
    fn doubt(&self, _: &dyn Fn(&ChannelName) -> bool) {}
    fn reach(&self, _: Option<u64>) {}
}

/// Keeps 100 publications and 10 keys for an hour.
pub(crate) const KEEPS: Retention = Retention {
    history_size: 100,
    history_ttl_ms: 3_600_000,
    state: true,
    state_keys: 10,
    state_ttl_ms: 3_600_000,
    tombstone_ttl_ms: 3_600_000,
    dedup_ttl_ms: 120_000,
    acknowledge: Acknowledge::Log,
};

pub(crate) const PAGE: PageLimit = PageLimit {
    items: 256,
    bytes: 256 * 1024,
};

pub(crate) fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(crate) fn text(publication: &Publication) -> String {
    match &publication.payload {
        Some(Payload::Json(data) | Payload::Bytes(data)) => {
            String::from_utf8(data.to_vec()).unwrap()
        }
        None => String::new(),
    }
}

/// A publication to make, in the shortest way to say it.
pub(crate) fn publish(channel: &ChannelName, data: &str) -> Publish {
    Publish {
        channel: channel.clone(),
        retention: KEEPS,
        payload: Some(Payload::Json(data.to_owned().into())),
        key: None,
        event: None,
        id: None,
        publisher: Arc::from("u:ann"),
        by: None,
        delete: false,
        ttl_ms: None,
        guard: None,
        trace: None,
    }
}

pub(crate) fn keyed(channel: &ChannelName, key: &str, data: &str) -> Publish {
    Publish {
        key: Some(name(key)),
        ..publish(channel, data)
    }
}

pub(crate) fn removal(channel: &ChannelName, key: &str) -> Publish {
    Publish {
        payload: None,
        delete: true,
        ..keyed(channel, key, "")
    }
}

pub(crate) async fn one(broker: &dyn Broker, item: Publish) -> Result<Published, BrokerError> {
    let mut answers = broker.publish(vec![item]).await;
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

/// Publishes and answers the position.
pub(crate) async fn put(broker: &dyn Broker, item: Publish) -> Position {
    one(broker, item).await.unwrap().position
}

pub(crate) async fn head(broker: &dyn Broker, channel: &ChannelName) -> Head {
    history(broker, channel, Range::Before(None)).await.head
}

pub(crate) async fn history(
    broker: &dyn Broker,
    channel: &ChannelName,
    range: Range,
) -> HistoryPage {
    broker.history(channel, range, PAGE).await.unwrap()
}

pub(crate) async fn state(broker: &dyn Broker, channel: &ChannelName, from: u64) -> StatePage {
    let query = StateQuery {
        from,
        catch_up: false,
        limit: PAGE,
    };
    broker.state(channel, query).await.unwrap()
}

pub(crate) async fn catch_up(broker: &dyn Broker, channel: &ChannelName, from: u64) -> StatePage {
    let query = StateQuery {
        from,
        catch_up: true,
        limit: PAGE,
    };
    broker.state(channel, query).await.unwrap()
}

pub(crate) fn offsets(page: &HistoryPage) -> Vec<u64> {
    page.items.iter().map(|item| item.offset).collect()
}

/// What a state page says: offset, key, text, removed.
pub(crate) fn entries(page: &StatePage) -> Vec<(u64, String, String, bool)> {
    page.items
        .iter()
        .map(|item| {
            let entry = &item.publication;
            let key = entry.key.as_ref().map_or("", |key| key.as_str());
            (entry.offset, key.to_owned(), text(entry), entry.deleted)
        })
        .collect()
}

/// Asks until it holds; the time of a broker cannot be set.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, ask: impl Fn() -> F) {
    let begun = Instant::now();
    while !ask().await {
        assert!(begun.elapsed() < Duration::from_secs(10), "in vain: {what}");
        tokio::task::yield_now().await;
    }
}

pub(crate) use ids::*;
pub(crate) use keyed::*;
pub(crate) use log::*;
pub(crate) use trace::*;

async fn open(lab: &impl Lab) -> (Arc<dyn Broker>, Arc<Heard>) {
    let heard = Arc::new(Heard::default());
    (lab.open(heard.clone()).await, heard)
}

fn with_id(item: Publish, id: &str) -> Publish {
    Publish {
        id: Some(name(id)),
        ..item
    }
}

fn guarded(item: Publish, guard: Guard) -> Publish {
    Publish {
        guard: Some(guard),
        ..item
    }
}

/// Makes one test of each duty for the lab that the expression makes.
macro_rules! broker_contract {
    ($lab:expr) => {
        broker_contract!($lab;
            offsets_are_dense_and_times_never_fall,
            a_batch_answers_each_item_on_its_own,
            what_was_acknowledged_is_there_after_reopening,
            follow_is_the_exact_cut_between_read_and_announced,
            an_unknown_channel_keeps_its_epoch_from_follow_to_first_publication,
            unfollowed_channels_are_not_announced,
            history_pages_both_ways,
            history_keeps_its_size_and_only_its_time,
            a_channel_without_history_counts_on,
            an_id_is_applied_once_per_channel_and_publisher,
            an_id_is_checked_before_the_guard_and_after_reopening,
            an_id_is_forgotten_after_its_window,
            guards_of_a_channel_hold_or_name_the_last,
            delete_begins_another_life,
            blank_keeps_the_offset_and_nothing_else,
            channels_are_listed_by_prefix_in_name_order,
            everything_of_a_publication_comes_back,
            a_trace_is_told_with_its_publication_and_is_no_part_of_it,
            state_holds_the_newest_of_each_key,
            state_pages_in_rising_offset_order,
            a_removed_key_leaves_a_tombstone_for_those_who_catch_up,
            a_dropped_tombstone_raises_the_floor,
            a_catch_up_sees_the_newest_without_a_key,
            guards_of_a_key_hold_or_name_its_last,
            a_full_state_refuses_one_more_key,
            an_expired_key_is_hidden_absent_and_no_burden,
            a_key_without_state_is_only_history,
            blank_of_a_keys_newest_leaves_a_tombstone,
        );
    };
    ($lab:expr; $($test:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $test() {
                $crate::broker::contract::$test(&$lab).await;
            }
        )*
    };
}
pub(crate) use broker_contract;
