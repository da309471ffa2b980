//! `orders`: many channels with few readers each, and the state of every order.
//!
//! It reads the state back with the client library; it breaks nothing.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use tidewire_client::{Client, Payload};

use super::{audience, outlets};
use crate::{
    full,
    hub::Settings,
    limits::Needs,
    message::Stamp,
    publish::{self, Keys, Schedule},
    run::Scenario,
    sampler::float,
    stage::Stage,
};

/// Many channels, few readers each, keyed state; in the end the state of orders is read back.
#[derive(Debug, Clone, clap::Args)]
pub struct Orders {
    /// Orders, each a channel.
    #[arg(long, default_value_t = 1_000)]
    orders: usize,
    /// Readers in all.
    #[arg(long, default_value_t = 5_000)]
    readers: usize,
    /// Messages a second, over all orders.
    #[arg(long, default_value_t = 1_000.0)]
    rate: f64,
    /// How long messages are sent.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Keys of an order's state, set in turn.
    #[arg(long, default_value_t = 3)]
    keys: u64,
    /// Bytes of data in a message.
    #[arg(long, default_value_t = 128)]
    payload: usize,
}

/// Orders whose state is read back.
const CHECKED_MAX: usize = 100;

impl Scenario for Orders {
    const NAME: &'static str = "orders";

    fn needs(&self) -> Needs {
        audience::needs(self.readers)
    }

    fn settings(&self) -> Settings {
        Settings::ONE
    }

    fn streams(&self) -> usize {
        self.orders
    }

    async fn play(&self, stage: &Arc<Stage>) -> Result<()> {
        audience::gather(stage, "board", self.readers, self.orders).await?;
        let mut outlets = outlets(stage, "board", self.orders);
        for outlet in &mut outlets {
            outlet.keys = Keys::Turn(self.keys.max(1));
        }
        let lasting = Duration::from_secs(self.seconds);
        let schedule = Schedule::steady(outlets, stage.begin(), self.rate, lasting);
        let schedule = schedule.payload(self.payload);
        publish::play(stage, &schedule).await?;
        stage.settle(Duration::from_secs(10)).await;
        let client = full::plain(stage, publish::USERS_FROM)?;
        let checked = self.orders.min(CHECKED_MAX);
        for outlet in schedule.outlets.iter().take(checked) {
            self.check(stage, &client, &outlet.channel, outlet.stream)
                .await?;
        }
        stage.find(
            "orders whose state was read back",
            float(checked as u64),
            "",
        );
        Ok(())
    }
}

impl Orders {
    /// Every key must hold the last number that set it.
    async fn check(
        &self,
        stage: &Stage,
        client: &Client,
        channel: &str,
        stream: u32,
    ) -> Result<()> {
        let (items, _head) = client
            .state(channel)
            .await
            .context("the state of an order")?;
        let last = stage.ledger.last(stream);
        let keys = self.keys.max(1);
        let mut wanted: Vec<u64> = (last.saturating_sub(keys - 1).max(1)..=last).collect();
        for item in items {
            if let Some(Payload::Json(text)) = &item.publication.payload
                && let Some(stamp) = Stamp::read(text)
            {
                wanted.retain(|number| *number != stamp.number);
            }
        }
        if !wanted.is_empty() {
            stage.fail(format!(
                "state: {channel} lacks the newest of {} keys: {wanted:?}",
                wanted.len()
            ));
        }
        Ok(())
    }
}
