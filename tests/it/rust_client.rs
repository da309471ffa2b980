//! The Rust client against a real node, its connections cut in between.

use tidewire_client::{Client, Encoding, Event, Options, Publish, Recovery, Status, Subscription};
use tokio::time::timeout;

use crate::{
    proxy::Proxy,
    support::{PATIENCE, TestNode, token},
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
