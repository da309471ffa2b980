//! Pages of history and state that a client asks for, outside any subscription.

use std::sync::Arc;

use tidewire_protocol::{
    ChannelName, ErrorCode, Frame,
    command::{History, Range, RequestId},
};

use super::{
    answer::{limit, refuse},
    connection::Connection,
    read::Budgets,
};
use crate::{
    auth::Right,
    broker::{BrokerError, PageLimit, StateQuery},
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
            let head = page.head.position;
            // What lies before an offset past the head is the newest page; after it lies nothing.
            let past_head = matches!(request.range, Range::After(offset) if offset > head.offset);
            if request.epoch.is_some_and(|epoch| epoch != head.epoch) || past_head {
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
