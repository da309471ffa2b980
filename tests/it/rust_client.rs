//! The Rust client against a real node, its connections cut in between.

use std::sync::Arc;

use rustls_pki_types::{CertificateDer, pem::PemObject};
use tidewire_client::{
    Client, CloseCode, Encoding, Error, ErrorCode, Event, Freshness, History, Loss, Options,
    Payload, Publish, Recovery, Status, Subscription, TokenReason, View, rustls,
};
use tokio::time::timeout;

use crate::{
    proxy::Proxy,
    support::{CONFIG, PATIENCE, TestNode, token},
};

fn client(url: &str, user: &str, encoding: Encoding) -> Client {
    let built = Client::builder(url).token(token(user)).encoding(encoding);
    built.connect().unwrap()
}

async fn next(subscription: &mut Subscription) -> Event {
    let event = timeout(PATIENCE, subscription.next()).await;
    event.expect("an event in time").expect("the client lives")
}

/// The next number published, past what only tells how the delivery goes.
async fn number(subscription: &mut Subscription) -> u64 {
    loop {
        match next(subscription).await {
            Event::Message(message) => return message.json().unwrap(),
            Event::Fresh(_) | Event::Live { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn live(subscription: &mut Subscription) -> (Recovery, u64) {
    loop {
        if let Event::Live {
            recovery, replayed, ..
        } = next(subscription).await
        {
            return (recovery, replayed);
        }
    }
}

#[tokio::test]
async fn a_reader_loses_and_repeats_nothing_across_cut_connections() {
    for encoding in [Encoding::Json, Encoding::MessagePack] {
        let node = TestNode::start().await;
        let mut proxy = Proxy::to(node.address()).await;
        let reader = client(&proxy.url(), "ada", encoding);
        let writer = client(&format!("ws://{}", node.address()), "bo", encoding);
        let mut news = reader.subscribe("news", Options::default()).await.unwrap();
        assert_eq!(live(&mut news).await, (Recovery::Fresh, 0));
        for round in 0..3 {
            for n in 1..=10 {
                let number = round * 10 + n;
                writer
                    .publish("news", Publish::json(&number))
                    .await
                    .unwrap();
            }
            assert_eq!(number(&mut news).await, round * 10 + 1);
            proxy.cut();
            for n in 2..=10 {
                assert_eq!(number(&mut news).await, round * 10 + n);
            }
            proxy.accepted(round + 2).await;
        }
        reader.online().await.unwrap();
        let status = reader.status().borrow().clone();
        assert!(matches!(status, Status::Online(online) if online.resumed));
        reader.close().await;
        let rest = async { while news.next().await.is_some() {} };
        timeout(PATIENCE, rest)
            .await
            .expect("a closed client's subscriptions end");
    }
}

#[tokio::test]
async fn publications_are_applied_once_and_in_order_however_often_the_connection_breaks() {
    let node = TestNode::start().await;
    let mut proxy = Proxy::to(node.address()).await;
    let reader = client(&format!("ws://{}", node.address()), "ada", Encoding::Json);
    let writer = client(&proxy.url(), "bo", Encoding::Json);
    let mut news = reader.subscribe("news", Options::default()).await.unwrap();
    live(&mut news).await;
    let mut offset = 0;
    for round in 0..3 {
        let mut enqueued = Vec::new();
        for n in 1..=20 {
            let publish = Publish::json(&(round * 20 + n));
            enqueued.push(writer.enqueue("news", publish).await.unwrap());
            if n == 10 {
                proxy.cut();
            }
        }
        for publication in enqueued {
            offset += 1;
            let published = publication.acknowledged().await.unwrap();
            assert_eq!(published.position.offset, offset);
        }
        proxy.accepted(round + 2).await;
    }
    for n in 1..=60 {
        assert_eq!(number(&mut news).await, n);
    }
}

#[tokio::test]
async fn a_reader_that_stands_still_holds_up_nobody_and_misses_nothing() {
    let node = TestNode::start().await;
    let url = format!("ws://{}", node.address());
    let reader = client(&url, "ada", Encoding::Json);
    let writer = client(&url, "bo", Encoding::Json);
    let mut idle = reader.subscribe("idle", Options::default()).await.unwrap();
    let mut busy = reader.subscribe("busy", Options::default()).await.unwrap();
    live(&mut idle).await;
    live(&mut busy).await;
    // More than its queue holds, in many messages: the socket is not read any more.
    for n in 1..=900 {
        writer.publish("idle", Publish::json(&n)).await.unwrap();
    }
    writer.publish("busy", Publish::json(&1)).await.unwrap();
    assert_eq!(number(&mut busy).await, 1);
    let published = timeout(PATIENCE, reader.publish("busy", Publish::json(&2))).await;
    assert_eq!(published.unwrap().unwrap().position.offset, 2);
    for n in 1..=900 {
        assert_eq!(number(&mut idle).await, n);
    }
    let positions = reader.positions().await.unwrap();
    let idle = positions.iter().find(|(name, _)| name.as_str() == "idle");
    assert!(idle.unwrap().1.offset >= 899, "{positions:?}");
}

/// Waits until the view shows exactly these keys with these numbers.
async fn shows(view: &mut View, expected: &[(&str, u64)]) {
    let shown = async {
        loop {
            let entries = view.entries().map(|(key, item)| {
                let Some(Payload::Json(text)) = &item.publication.payload else {
                    panic!("{item:?}");
                };
                let text = std::str::from_utf8(text).unwrap();
                (key.as_str().to_owned(), text.parse().unwrap())
            });
            let entries: Vec<(String, u64)> = entries.collect();
            let same = entries
                .iter()
                .map(|(key, n)| (key.as_str(), *n))
                .eq(expected.iter().copied());
            if same && view.freshness() == Freshness::Live {
                return;
            }
            view.changed().await.expect("the client lives");
        }
    };
    timeout(PATIENCE, shown).await.expect("the view in time");
}

#[tokio::test]
async fn a_view_ends_on_the_newest_of_each_key_across_a_cut_connection() {
    for encoding in [Encoding::Json, Encoding::MessagePack] {
        let node = TestNode::start().await;
        let mut proxy = Proxy::to(node.address()).await;
        let writer = client(&format!("ws://{}", node.address()), "bo", encoding);
        let set =
            |key: &'static str, n: u64| writer.publish("orders:1", Publish::json(&n).key(key));
        set("a", 1).await.unwrap();
        set("b", 2).await.unwrap();
        let reader = client(&proxy.url(), "ada", encoding);
        let mut view = reader.view("orders:1", None).await.unwrap();
        shows(&mut view, &[("a", 1), ("b", 2)]).await;
        proxy.cut();
        set("b", 3).await.unwrap();
        writer
            .publish("orders:1", Publish::remove("a"))
            .await
            .unwrap();
        shows(&mut view, &[("b", 3)]).await;
        proxy.accepted(2).await;
        set("c", 4).await.unwrap();
        shows(&mut view, &[("b", 3), ("c", 4)]).await;
        let (items, head) = reader.state("orders:1").await.unwrap();
        let keys: Vec<_> = items
            .iter()
            .filter(|item| !item.publication.deleted)
            .collect();
        assert_eq!((keys.len(), head.offset), (2, 5));
    }
}

#[tokio::test]
async fn members_are_seen_while_they_subscribe() {
    let node = TestNode::start().await;
    let url = format!("ws://{}", node.address());
    let ada = client(&url, "ada", Encoding::Json);
    let bo = client(&url, "bo", Encoding::Json);
    let mut members = ada.members("chat:lobby").await.unwrap();
    let me = Options {
        me: Some(7.into()),
        ..Options::default()
    };
    let subscription = bo.subscribe("chat:lobby", me).await.unwrap();
    let seen = async {
        while members.entries().next().is_none() {
            members.changed().await.expect("the client lives");
        }
        members
            .entries()
            .next()
            .map(|(key, _)| key.as_str().to_owned())
    };
    let key = timeout(PATIENCE, seen).await.unwrap().unwrap();
    shows(&mut members, &[(&key, 7)]).await;
    assert!(key.starts_with("bo/"), "{key}");
    drop(subscription);
    shows(&mut members, &[]).await;
}

#[tokio::test]
async fn history_is_read_page_by_page_in_both_directions() {
    let node = TestNode::start().await;
    let client = client(&format!("ws://{}", node.address()), "ada", Encoding::Json);
    for n in 1..=7 {
        client.publish("news", Publish::json(&n)).await.unwrap();
    }
    let mut offsets = Vec::new();
    let mut next = Some(History::newest().limit(3));
    while let Some(history) = next {
        let page = client.history("news", history).await.unwrap();
        offsets.push(
            page.items
                .iter()
                .map(|item| item.offset)
                .collect::<Vec<_>>(),
        );
        next = page.next;
    }
    assert_eq!(offsets, [vec![5, 6, 7], vec![2, 3, 4], vec![1]]);
    let page = client
        .history("news", History::after_offset(0).limit(5))
        .await
        .unwrap();
    let rest = client.history("news", page.next.unwrap()).await.unwrap();
    assert_eq!((rest.items[0].offset, rest.next), (6, None));
    let error = client.history("nowhere:1", History::newest()).await;
    let code = match error {
        Err(Error::Refused { code, .. }) => code,
        other => panic!("{other:?}"),
    };
    assert_eq!(code, ErrorCode::UnknownChannel);
}

#[tokio::test]
async fn a_refused_channel_is_told_and_the_others_live() {
    let node = TestNode::start().await;
    let client = client(&format!("ws://{}", node.address()), "ada", Encoding::Json);
    let mut hidden = client
        .subscribe("$hidden", Options::default())
        .await
        .unwrap();
    let mut news = client.subscribe("news", Options::default()).await.unwrap();
    assert!(matches!(next(&mut hidden).await, Event::Refused { .. }));
    live(&mut news).await;
    let again = client.subscribe("news", Options::default()).await;
    assert!(matches!(again, Err(Error::Subscribed)));
}

#[tokio::test]
async fn the_next_address_is_tried_and_what_was_published_meanwhile_comes() {
    let node = TestNode::start().await;
    let url = format!("ws://{}", node.address());
    let mut proxy = Proxy::to(node.address()).await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = format!("ws://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let built = Client::builder(closed)
        .url(proxy.url())
        .url(&url)
        .token(token("ada"));
    let reader = built.connect().unwrap();
    let mut news = reader.subscribe("news", Options::default()).await.unwrap();
    live(&mut news).await;
    proxy.accepted(1).await;
    let writer = client(&url, "bo", Encoding::Json);
    proxy.cut();
    writer.publish("news", Publish::json(&1)).await.unwrap();
    assert_eq!(number(&mut news).await, 1);
}

#[tokio::test]
async fn a_suspended_client_keeps_its_session_and_one_that_left_does_not() {
    let node = TestNode::start().await;
    let url = format!("ws://{}", node.address());
    let reader = client(&url, "ada", Encoding::Json);
    let writer = client(&url, "bo", Encoding::Json);
    let mut news = reader.subscribe("news", Options::default()).await.unwrap();
    live(&mut news).await;
    reader.suspend().await.unwrap();
    let mut status = reader.status();
    status
        .wait_for(|status| *status == Status::Suspended)
        .await
        .unwrap();
    writer.publish("news", Publish::json(&1)).await.unwrap();
    reader.wake().await.unwrap();
    assert_eq!(number(&mut news).await, 1);
    let online = status
        .wait_for(|status| matches!(status, Status::Online(_)))
        .await;
    assert!(matches!(&*online.unwrap(), Status::Online(online) if online.resumed));
    let waiting = reader.clone();
    reader.leave().await;
    assert_eq!(
        waiting.publish("news", Publish::json(&2)).await,
        Err(Error::Closed)
    );
}

#[tokio::test]
async fn tokens_are_fetched_when_they_are_refused_and_a_second_refusal_stops() {
    let node = TestNode::start().await;
    let url = format!("ws://{}", node.address());
    let source = |reason| async move {
        match reason {
            TokenReason::Unauthenticated => Ok(token("ada")),
            TokenReason::Connect | TokenReason::Expiring | TokenReason::Wake => {
                Ok("none".to_owned())
            }
        }
    };
    let built = Client::builder(&url)
        .token_source(source)
        .connect()
        .unwrap();
    timeout(PATIENCE, built.online()).await.unwrap().unwrap();
    let refused = Client::builder(&url).token("none").connect().unwrap();
    let blocked = Err(Error::Blocked(CloseCode::Unauthenticated));
    assert_eq!(timeout(PATIENCE, refused.online()).await.unwrap(), blocked);
}

#[tokio::test]
async fn wss_goes_to_whom_the_certificate_names() {
    const TLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/process/tls/");
    let text = format!("{CONFIG}\n[tls]\ncert = \"{TLS}cert.pem\"\nkey = \"{TLS}key.pem\"\n");
    let node = TestNode::with(&text).await;
    let url = format!("https://localhost:{}", node.address().port());
    let mut roots = rustls::RootCertStore::empty();
    let cert = CertificateDer::from_pem_file(format!("{TLS}cert.pem")).unwrap();
    roots.add(cert).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let built = Client::builder(&url)
        .token(token("ada"))
        .tls(Arc::new(config));
    let client = built.connect().unwrap();
    client.publish("news", Publish::json(&1)).await.unwrap();
    // The roots of the web do not know that certificate.
    let stranger = Client::builder(&url).token(token("ada")).connect().unwrap();
    let mut status = stranger.status();
    let offline = status.wait_for(|status| matches!(status, Status::Offline { .. }));
    let offline = timeout(PATIENCE, offline).await.unwrap().unwrap().clone();
    assert!(matches!(
        offline,
        Status::Offline {
            why: Loss::Unreachable,
            ..
        }
    ));
}
