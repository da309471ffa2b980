//! What stands in Redis, seen by another client that shares no code with ours: what is published
//! is heard and stored in the form that `keys.rs`, `encoding.rs` and the scripts describe.

use std::{collections::HashMap, sync::Arc};

use fred::prelude::*;

use super::Node;
use crate::{
    broker::contract::{Heard, channel, keyed, publish, put},
    redis::tests::server::RedisServer,
};

async fn client(server: &RedisServer) -> Client {
    let config = Config::from_url(&server.url()).unwrap();
    let client = Builder::from_config(config).build().unwrap();
    client.init().await.unwrap();
    client
}

#[tokio::test]
async fn another_client_hears_and_reads_what_we_publish() {
    let server = RedisServer::start(&[]);
    let node = Node::on(&server, Arc::new(Heard::default())).await;
    let (observer, listener) = (client(&server).await, client(&server).await);
    let mut heard = listener.message_rx();
    listener.subscribe("{tw:p000}:log:chat:1").await.unwrap();
    let chat = channel("chat:1");
    let first = put(&*node.broker, publish(&chat, "\"one\"")).await;
    let second = put(&*node.broker, keyed(&chat, "x", "\"two\"")).await;

    // The stream: ids are offsets; data is version, flags, what the flags say, payload.
    let entries: Vec<(String, HashMap<String, bytes::Bytes>)> = observer
        .xrange_values("{tw:p000}:log:chat:1", "-", "+", None)
        .await
        .unwrap();
    assert_eq!(entries[0].0, "1-0");
    assert_eq!(entries[1].0, "2-0");
    assert_eq!(&entries[0].1["d"][..], b"\x01\x01\"one\"");
    let mut second_data = b"\x01\x19".to_vec();
    second_data.extend(3_600_000_u64.to_le_bytes());
    second_data.extend(b"\x01x\"two\"");
    assert_eq!(&entries[1].1["d"][..], second_data);

    // The announcements: one line, then the same data.
    for (position, entry) in [(&first, &entries[0].1), (&second, &entries[1].1)] {
        let said = heard.recv().await.unwrap().value.into_bytes().unwrap();
        let time = std::str::from_utf8(&entry["t"]).unwrap();
        let mut expected =
            format!("append {} {time} {}\n", position.offset, position.epoch).into_bytes();
        expected.extend_from_slice(&entry["d"]);
        assert_eq!(&said[..], expected);
    }

    // The meta: the counter and the epoch an answer names.
    let meta: HashMap<String, String> = observer.hgetall("{tw:p000}:meta:chat:1").await.unwrap();
    assert_eq!(meta["last"], "2");
    assert_eq!(meta["epoch"], second.epoch.as_str());
    assert_eq!(
        meta["generations"],
        second.epoch.as_str()[meta["life"].len() + 1..]
    );
    let generation: String = observer.hget("{tw:p000}:generation", "g").await.unwrap();
    assert_eq!(second.epoch.as_str().split('.').nth(1), Some(&*generation));

    // The state: the key's newest, ranked by offset and by its end.
    let entry: bytes::Bytes = observer.hget("{tw:p000}:state:chat:1", "=x").await.unwrap();
    let line_end = entry.iter().position(|byte| *byte == b'\n').unwrap();
    let line = std::str::from_utf8(&entry[..line_end]).unwrap();
    let words: Vec<_> = line.split(' ').collect();
    assert_eq!((words[0], words[3]), ("2", second.epoch.as_str()));
    assert_eq!(&entry[line_end + 1..], second_data);
    let rank: f64 = observer
        .zscore("{tw:p000}:live:chat:1", "=x")
        .await
        .unwrap();
    let due: f64 = observer.zscore("{tw:p000}:due:chat:1", "=x").await.unwrap();
    assert_eq!((rank, due.to_string()), (2.0, words[2].to_owned()));
    let listed: Vec<String> = observer
        .zrange("{tw:p000}:names", 0, -1, None, false, None, false)
        .await
        .unwrap();
    assert_eq!(listed, ["chat:1"]);
    for key in ["meta", "log", "state", "live", "due"] {
        let left: i64 = observer
            .pttl(format!("{{tw:p000}}:{key}:chat:1"))
            .await
            .unwrap();
        assert!(left > 0, "{key} has a lifetime");
    }
    listener.quit().await.unwrap();
    observer.quit().await.unwrap();
}
