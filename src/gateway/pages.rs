//! Pages of history and state that a client asks for, outside any subscription.

use std::sync::Arc;

use tidewire_protocol::{
    ChannelName, Epoch, ErrorCode, Frame, Position,
    command::{History, Range, RequestId},
};

use super::{
    answer::{limit, refuse},
    connection::Connection,
    read::Budgets,
};
use crate::{
    auth::Right,
    broker::{BrokerError, Head, PageLimit, StateQuery, lineage::Standing},
    clock,
};

/// Most bytes of payload in a page a client asked for; its frame stays under the message limit.
const PAGE_BYTES: usize = 96 * 1024;

/// Answers a page of history.
pub async fn history(connection: &Arc<Connection>, request: History, budgets: &mut Budgets) {
    let Some(i) = request.i else { return };
    if let Err((code, text)) = connection.permit(&request.channel, Right::History) {
        return refuse(connection, Some(i), code, text);
    }
    if let Err(retry_ms) = budgets.reads.take(clock::now_ms()) {
        return limit(
            connection,
            Some(i),
            retry_ms,
            "too many pages read in a short time",
        );
    }
    let page_max = connection.gateway.config.limits.page.get();
    let limit = PageLimit {
        items: usize::try_from(request.limit.min(page_max)).unwrap_or(1),
        bytes: PAGE_BYTES,
    };
    let frame = match connection
        .gateway
        .feed
        .broker()
        .history(&request.channel, request.range, limit)
        .await
    {
        Ok(page) => {
            let is_on_log = is_on_log(request.epoch, request.range, &page.head);
            let head = page.head.position;
            if !is_on_log {
                connection.broker_error(Some(i), BrokerError::Gone)
            } else {
                Frame::HistoryPage {
                    i,
                    position: head,
                    items: page.items,
                    more: page.more,
                }
            }
        }
        Err(error) => connection.broker_error(Some(i), error),
    };
    connection.send(&[frame]);
}

/// Whether what was asked for is on the surviving log: all up to the offset, in the epoch.
pub(super) fn is_on_log(epoch: Option<Epoch>, range: Range, head: &Head) -> bool {
    let end = head.position.offset;
    // What lies before an offset past the head is the newest page; after it lies nothing.
    let offset = match range {
        Range::After(offset) => offset,
        Range::Before(Some(offset)) => offset.saturating_sub(1).min(end),
        Range::Before(None) => end,
    };
    let Some(epoch) = epoch else {
        return offset <= end;
    };
    let position = Position { epoch, offset };
    match head.lineage.stand(&position, end) {
        Standing::OnLog { .. } => true,
        Standing::Forked { .. } | Standing::Elsewhere => false,
    }
}

/// Answers a page of keyed state.
pub async fn state(
    connection: &Arc<Connection>,
    i: RequestId,
    channel: &ChannelName,
    from: u64,
    budgets: &mut Budgets,
) {
    let Some(i) = i else { return };
    let permitted = connection
        .permit(channel, Right::Sub)
        .or_else(|_| connection.permit(channel, Right::History));
    match permitted {
        Err((code, text)) => return refuse(connection, Some(i), code, text),
        Ok(namespace) if !namespace.state => {
            return refuse(
                connection,
                Some(i),
                ErrorCode::BadRequest,
                "the channel keeps no state",
            );
        }
        Ok(_) => {}
    }
    if let Err(retry_ms) = budgets.reads.take(clock::now_ms()) {
        return limit(
            connection,
            Some(i),
            retry_ms,
            "too many pages read in a short time",
        );
    }
    let items = usize::try_from(connection.gateway.config.limits.page.get()).unwrap_or(1);
    let query = StateQuery {
        from,
        catch_up: false,
        limit: PageLimit {
            items,
            bytes: PAGE_BYTES,
        },
    };
    let frame = match connection.gateway.feed.broker().state(channel, query).await {
        Ok(page) => Frame::StatePage {
            i,
            position: page.head.position,
            items: page.items,
            more: page.more,
        },
        Err(error) => connection.broker_error(Some(i), error),
    };
    connection.send(&[frame]);
}
