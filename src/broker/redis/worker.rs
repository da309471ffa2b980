//! One worker per lane: reads what Redis announces and tells the node, a batch at a time.
//!
//! A channel is always on the same lane, so one worker writes it. Started by the broker; never
//! asks Redis anything.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use parking_lot::RwLock;
use tidewire_protocol::ChannelName;
use tokio::sync::watch;

use super::{
    decode::{self, Announcement, Damaged},
    encoding,
};
use crate::{
    broker::Announce,
    redis::{LaneEvent, LaneEvents, Redis},
};

/// Most announcements told before one delivery: enough to share its cost, few enough that the
/// first does not wait for long.
const BATCH: usize = 256;

/// The channels this node follows, by their channel of announcements.
pub(super) type Followed = RwLock<HashMap<Bytes, ChannelName>>;

/// Reads a lane for as long as the node runs.
pub(super) async fn run(
    mut events: LaneEvents,
    followed: Arc<Followed>,
    announce: Arc<dyn Announce>,
    redis: Redis,
) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        events.recv_many(&mut batch, BATCH).await;
        for event in batch.drain(..) {
            match event {
                LaneEvent::Push {
                    announcements,
                    payload,
                } => {
                    let channel = followed.read().get(&announcements).cloned();
                    // One that was let go of may still be heard for a moment.
                    if let Some(channel) = channel
                        && let Err(damaged) = tell(&*announce, &channel, payload)
                    {
                        tracing::warn!(error = %damaged, "an announcement was passed over");
                        announce.doubt(&|name| *name == channel);
                    }
                }
                LaneEvent::Doubt { partitions } => {
                    announce.doubt(&|name| {
                        let partition = redis.partition_of(name.as_str().as_bytes());
                        partitions.binary_search(&partition).is_ok()
                    });
                }
            }
        }
        announce.flush();
    }
}

fn tell(announce: &dyn Announce, channel: &ChannelName, payload: Bytes) -> Result<(), Damaged> {
    match decode::announcement(payload)? {
        Announcement::Append {
            epoch,
            offset,
            ts,
            data,
        } => {
            let trace = encoding::trace_of(&data);
            let publication = encoding::decode(offset, ts, data)?;
            announce.append(channel, &epoch, &Arc::new(publication));
            if let Some(trace) = trace {
                announce.traced(channel, offset, trace);
            }
        }
        Announcement::Reset(epoch) => announce.reset(channel, &decode::head_of_new(epoch)),
        Announcement::Blank(offset) => announce.blank(channel, offset),
    }
    Ok(())
}

/// Tells since when Redis is out of reach, and when it is back.
pub(super) async fn watch_reach(
    mut reach: watch::Receiver<Option<u64>>,
    announce: Arc<dyn Announce>,
) {
    // A node that starts has Redis; only changes are told.
    while reach.changed().await.is_ok() {
        let since = *reach.borrow_and_update();
        announce.reach(since);
    }
}
