//! Sessions that go on: after cuts, restarts, takeovers, with and without the client's memory.

use serde_json::{Value, json};

use crate::support::{Client, ENCODINGS, Resume, TestNode, with};

async fn resume(node: &TestNode, resume: &Resume, more: Value) -> Client {
    resume_as(node, resume, more, crate::support::JSON).await
}

async fn resume_as(node: &TestNode, resume: &Resume, more: Value, protocol: &str) -> Client {
    let mut client = Client::connect_as(node.address(), protocol).await;
    let hello = with(resume.hello(Resume::next_attempt()), &more);
    let welcome = client.hello("ada", hello).await;
    assert_eq!(welcome["resumed"], true);
    assert_eq!(welcome["session"]["id"], resume.id);
    client
}

/// Reads messages until `live`; their offsets must be `from..=to`.
async fn expect_replay(client: &mut Client, from: u64, to: u64) {
    for offset in from..=to {
        assert_eq!(client.expect("msg").await["o"], offset);
    }
    let live = client.expect("live").await;
    assert_eq!(
        (&live["o"], &live["n"]),
        (&json!(to), &json!(to + 1 - from))
    );
}

#[tokio::test]
async fn positions_bring_what_was_missed_once_and_in_order_in_both_encodings() {
    let node = TestNode::start().await;
    let mut writer = node.client("bob").await;
    for protocol in ENCODINGS {
        let channel = format!("news-{protocol}");
        let mut client = Client::connect_as(node.address(), protocol).await;
        client.hello("ada", json!({})).await;
        let ok = client.sub(&channel, json!({})).await;
        client.expect("live").await;
        for n in 1..=5 {
            writer.publish(&channel, json!(n)).await;
        }
        for n in 1..=3 {
            assert_eq!(client.expect("msg").await["o"], n);
        }
        let session = client.cut();
        writer.publish(&channel, json!(6)).await;
        let subs = json!({"subs": [{"ch": channel, "e": ok["e"], "o": 3}]});
        let mut again = resume_as(&node, &session, subs, protocol).await;
        let begun = again.expect("ok").await;
        assert_eq!((&begun["rec"], &begun["o"]), (&json!("full"), &json!(3)));
        expect_replay(&mut again, 4, 6).await;
        writer.publish(&channel, json!(7)).await;
        assert_eq!(again.expect("msg").await["o"], 7);
    }
}

#[tokio::test]
async fn a_client_without_memory_gets_everything_after_what_it_acknowledged() {
    let node = TestNode::start().await;
    let mut writer = node.client("bob").await;
    for protocol in ENCODINGS {
        let channel = format!("news-{protocol}");
        writer.publish(&channel, json!(1)).await;
        let mut client = Client::connect_as(node.address(), protocol).await;
        client.hello("ada", json!({})).await;
        let ok = client.sub(&channel, json!({})).await;
        client.expect("live").await;
        for n in 2..=10 {
            writer.publish(&channel, json!(n)).await;
            client.expect("msg").await;
        }
        client
            .send(json!({"t": "ack", "c": {&channel: [ok["e"], 4]}}))
            .await;
        client
            .send(json!({"t": "pong", "c": {&channel: [ok["e"], 6]}}))
            .await;
        client
            .send(json!({"t": "ack", "c": {&channel: [ok["e"], 5]}}))
            .await;
        client.drained().await;
        let session = client.cut();
        let mut again = resume_as(&node, &session, json!({}), protocol).await;
        let begun = again.expect("ok").await;
        assert_eq!((&begun["rec"], &begun["o"]), (&json!("full"), &json!(6)));
        expect_replay(&mut again, 7, 10).await;
    }
}

#[tokio::test]
async fn without_acknowledgements_everything_since_the_subscription_began_comes_again() {
    let node = TestNode::start().await;
    let mut writer = node.client("bob").await;
    writer.publish("news", json!(1)).await;
    let mut client = node.client("ada").await;
    client.sub("news", json!({})).await;
    for n in 2..=10 {
        writer.publish("news", json!(n)).await;
    }
    client
        .find(|frame| frame["o"] == 10 && frame["t"] == "msg")
        .await;
    let session = client.cut();
    for _ in 0..2 {
        let mut again = resume(&node, &session, json!({})).await;
        assert_eq!(again.expect("ok").await["o"], 1);
        expect_replay(&mut again, 2, 10).await;
    }
}

#[tokio::test]
async fn acknowledgements_count_only_in_the_epoch_and_up_to_the_cursor() {
    let node = TestNode::start().await;
    let mut writer = node.client("bob").await;
    let mut client = node.client("ada").await;
    let ok = client.sub("news", json!({})).await;
    writer.publish("news", json!(1)).await;
    client.find(|frame| frame["t"] == "msg").await;
    for c in [
        json!({"news": ["another", 1]}),
        json!({"elsewhere": [ok["e"], 1]}),
    ] {
        client.send(json!({"t": "ack", "c": c})).await;
    }
    client.drained().await;
    let session = client.cut();
    let mut again = resume(&node, &session, json!({})).await;
    assert_eq!(again.expect("ok").await["o"], 0);
    again.find(|frame| frame["t"] == "live").await;
    again
        .send(json!({"t": "ack", "c": {"news": [ok["e"], 1_000_000]}}))
        .await;
    again.drained().await;
    let session = again.cut();
    writer.publish("news", json!(2)).await;
    let mut third = resume(&node, &session, json!({})).await;
    assert_eq!(third.expect("ok").await["o"], 1);
    expect_replay(&mut third, 2, 2).await;
}

#[tokio::test]
async fn a_session_that_never_received_anything_resumes_with_nothing_missing() {
    let node = TestNode::start().await;
    let mut writer = node.client("bob").await;
    let mut client = node.client("ada").await;
    client.sub("news", json!({})).await;
    let session = client.cut();
    let mut again = resume(&node, &session, json!({})).await;
    assert_eq!(again.expect("ok").await["rec"], "full");
    assert_eq!(again.expect("live").await["n"], 0);
    let session = again.cut();
    writer.publish("news", json!(1)).await;
    let mut third = resume(&node, &session, json!({})).await;
    assert_eq!(third.expect("ok").await["o"], 0);
    expect_replay(&mut third, 1, 1).await;
}

#[tokio::test]
async fn after_a_lost_welcome_the_same_attempt_is_refused_and_a_higher_one_granted() {
    let node = TestNode::start().await;
    let session = node.client("ada").await.cut();
    let attempt = Resume::next_attempt();
    let lost = resume_at(&node, &session, attempt).await;
    drop(lost);
    let mut same = Client::connect(node.address()).await;
    let hello = with(
        json!({"t": "hello", "token": crate::support::token("ada")}),
        &session.hello(attempt),
    );
    same.send(hello).await;
    let (code, bye) = same.refused_with_bye().await;
    assert_eq!((code, &bye["attempt"]), (4409, &json!(attempt)));
    let higher = resume_at(&node, &session, attempt + 1).await;
    assert_eq!(higher.welcome["resumed"], true);
}

async fn resume_at(node: &TestNode, session: &Resume, attempt: u64) -> Client {
    let mut client = Client::connect(node.address()).await;
    client.hello("ada", session.hello(attempt)).await;
    client
}

#[tokio::test]
async fn a_lower_attempt_is_refused_and_disturbs_nobody() {
    let node = TestNode::start().await;
    let session = node.client("ada").await.cut();
    let attempt = Resume::next_attempt();
    let mut owner = resume_at(&node, &session, attempt).await;
    let mut late = Client::connect(node.address()).await;
    late.send(with(
        json!({"t": "hello", "token": crate::support::token("ada")}),
        &session.hello(attempt - 1),
    ))
    .await;
    let (code, bye) = late.refused_with_bye().await;
    assert_eq!((code, &bye["attempt"]), (4409, &json!(attempt)));
    owner.sub("news", json!({})).await;
    owner.publish("news", json!(1)).await;
    owner.find(|frame| frame["t"] == "msg").await;
}

#[tokio::test]
async fn a_takeover_ends_the_old_connection_and_keeps_its_subscriptions() {
    let node = TestNode::start().await;
    let mut writer = node.client("bob").await;
    let mut old = node.client("ada").await;
    let ok = old.sub("news", json!({})).await;
    writer.publish("news", json!(1)).await;
    old.find(|frame| frame["t"] == "msg").await;
    old.send(json!({"t": "ack", "c": {"news": [ok["e"], 1]}}))
        .await;
    old.sub("small:x", json!({})).await;
    let session = old.resume();
    let attempt = Resume::next_attempt();
    let mut new = resume_at(&node, &session, attempt).await;
    let (code, bye) = old.refused_with_bye().await;
    assert_eq!((code, &bye["attempt"]), (4409, &json!(attempt)));
    let answers = new.drained().await;
    let of = |channel: &str| {
        let found = answers
            .iter()
            .find(|frame| frame["t"] == "ok" && frame["ch"] == channel);
        found.unwrap()["o"].clone()
    };
    assert_eq!((of("news"), of("small:x")), (json!(1), json!(0)));
    writer.publish("news", json!(2)).await;
    assert_eq!(new.expect("msg").await["o"], 2);
}

#[tokio::test]
async fn nothing_follows_the_close_of_a_replaced_connection() {
    let node = TestNode::start().await;
    let mut writer = node.client("bob").await;
    for _ in 0..10 {
        let mut old = crate::raw::Raw::upgrade(node.address(), "").await;
        let hello =
            json!({"t": "hello", "token": crate::support::token("ada"), "subs": [{"ch": "news"}]});
        old.write(&crate::raw::Raw::message(
            crate::raw::TEXT,
            hello.to_string().as_bytes(),
        ))
        .await;
        let welcome = old.frames().await.remove(0);
        let session = Resume {
            id: welcome["session"]["id"].clone(),
            key: welcome["session"]["key"].clone(),
        };
        let flood: Vec<Value> = (0..200)
            .map(|n| json!({"t": "pub", "ch": "news", "d": n}))
            .collect();
        writer.send_all(&flood).await;
        let new = resume_at(&node, &session, Resume::next_attempt()).await;
        writer.send_all(&flood).await;
        assert_eq!(old.close_code().await, Some(4409));
        drop(new);
    }
}

#[tokio::test]
async fn of_many_claims_at_once_the_highest_attempt_stays() {
    let node = TestNode::start().await;
    let session = node.client("ada").await.cut();
    let first = Resume::next_attempt();
    for round in 0..5 {
        let mut clients = Vec::new();
        for _ in 0..8 {
            clients.push(Client::connect(node.address()).await);
        }
        let claims = clients.into_iter().enumerate().map(|(n, mut client)| {
            let hello = session.hello(first + round * 100 + u64::try_from(n).unwrap());
            let hello = with(
                json!({"t": "hello", "token": crate::support::token("ada")}),
                &hello,
            );
            tokio::spawn(async move {
                client.send(hello).await;
                client
            })
        });
        let mut clients = futures_util::future::join_all(claims.collect::<Vec<_>>()).await;
        let mut winner = clients.pop().unwrap().unwrap();
        assert_eq!(winner.expect("welcome").await["resumed"], true);
        for loser in clients {
            assert_eq!(loser.unwrap().refused_with_bye().await.0, 4409);
        }
        winner.sub("news", json!({})).await;
        winner.publish("news", json!(1)).await;
        winner.find(|frame| frame["t"] == "msg").await;
    }
}

#[tokio::test]
async fn a_forged_key_begins_a_new_session_that_is_served_the_positions() {
    let node = TestNode::start().await;
    let mut writer = node.client("bob").await;
    let mut client = node.client("ada").await;
    let ok = client.sub("news", json!({})).await;
    writer.publish("news", json!(1)).await;
    let session = client.cut();
    let subs = json!({"subs": [{"ch": "news", "e": ok["e"], "o": 0}]});
    let mut key = session.key.as_str().unwrap().to_owned();
    let last = if key.pop() == Some('A') { 'B' } else { 'A' };
    key.push(last);
    let forged = [
        Resume {
            id: session.id.clone(),
            key: json!("nonsense"),
        },
        Resume {
            id: session.id.clone(),
            key: json!(""),
        },
        Resume {
            id: json!("another"),
            key: session.key.clone(),
        },
        Resume {
            id: json!(""),
            key: json!(""),
        },
    ];
    for resume in forged {
        let mut again = Client::connect(node.address()).await;
        let hello = with(resume.hello(Resume::next_attempt()), &subs);
        let welcome = again.hello("ada", hello).await;
        assert_eq!(welcome["resumed"], false);
        assert_ne!(welcome["session"]["id"], session.id);
        assert_eq!(again.expect("ok").await["rec"], "full");
        expect_replay(&mut again, 1, 1).await;
    }
    let mut thief = Client::connect(node.address()).await;
    let welcome = thief
        .hello("eve", session.hello(Resume::next_attempt()))
        .await;
    assert_eq!(welcome["resumed"], false);
    assert_eq!(thief.drained().await, Vec::<Value>::new());
}

#[tokio::test]
async fn the_list_in_hello_replaces_the_subscriptions_of_the_session() {
    let node = TestNode::start().await;
    let mut writer = node.client("bob").await;
    let mut client = node.client("ada").await;
    client.sub("news", json!({})).await;
    client.sub("small:x", json!({})).await;
    writer.publish("small:x", json!(1)).await;
    let session = client.cut();
    let subs = json!({"subs": [{"ch": "small:x"}, {"ch": "orders:1"}]});
    let mut again = resume(&node, &session, subs).await;
    let answers = again.drained().await;
    let ok = |channel: &str| {
        answers
            .iter()
            .find(|frame| frame["t"] == "ok" && frame["ch"] == channel)
    };
    assert!(ok("news").is_none());
    assert_eq!(ok("small:x").unwrap()["rec"], "full");
    assert_eq!(ok("orders:1").unwrap()["rec"], "fresh");
    assert!(
        answers
            .iter()
            .any(|frame| frame["t"] == "msg" && frame["ch"] == "small:x")
    );
    let session = again.cut();
    let mut third = resume(&node, &session, json!({})).await;
    let answers = third.drained().await;
    let mut channels: Vec<_> = answers
        .iter()
        .filter(|frame| frame["t"] == "ok")
        .map(|frame| frame["ch"].as_str().unwrap())
        .collect();
    channels.sort_unstable();
    assert_eq!(channels, ["orders:1", "small:x"]);
}

#[tokio::test]
async fn a_restarted_node_goes_on_with_positions_sessions_and_epochs() {
    let mut node = TestNode::start().await;
    let mut writer = node.client("bob").await;
    let mut client = node.client("ada").await;
    let ok = client.sub("news", json!({})).await;
    let orders = client
        .sub("orders:1", json!({"state": true, "mode": "latest"}))
        .await;
    for n in 1..=4 {
        writer.publish("news", json!(n)).await;
        writer
            .publish_with("orders:1", json!({"k": "status", "d": n}))
            .await;
    }
    client
        .find(|frame| frame["ch"] == "news" && frame["o"] == 4)
        .await;
    client
        .send(json!({"t": "ack", "c": {"news": [ok["e"], 2]}}))
        .await;
    client.drained().await;
    let session = client.resume();
    node.restart().await;
    let mut writer = node.client("bob").await;
    assert_eq!(writer.publish("news", json!(5)).await["e"], ok["e"]);

    let mut again = resume(&node, &session, json!({})).await;
    let answers = again.drained().await;
    let of = |t: &str, channel: &str| -> Vec<&Value> {
        answers
            .iter()
            .filter(|frame| frame["t"] == t && frame["ch"] == channel)
            .collect()
    };
    assert_eq!(
        (&of("ok", "news")[0]["o"], &of("ok", "news")[0]["rec"]),
        (&json!(2), &json!("full"))
    );
    let offsets: Vec<_> = of("msg", "news")
        .iter()
        .map(|msg| msg["o"].clone())
        .collect();
    assert_eq!(offsets, [json!(3), json!(4), json!(5)]);
    assert_eq!(of("ok", "orders:1")[0]["e"], orders["e"]);
    assert_eq!(of("msg", "orders:1").last().unwrap()["d"], 4);
    drop(again);

    let mut fresh = Client::connect(node.address()).await;
    let subs = json!({"subs": [{"ch": "news", "e": ok["e"], "o": 4}]});
    fresh.hello("eve", subs).await;
    assert_eq!(fresh.expect("ok").await["rec"], "full");
    expect_replay(&mut fresh, 5, 5).await;
}

#[tokio::test]
async fn a_node_that_stops_sends_its_clients_to_come_back() {
    let mut node = TestNode::start().await;
    let mut client = node.client("ada").await;
    client.sub("news", json!({})).await;
    node.restart().await;
    let (code, bye) = client.refused_with_bye().await;
    assert_eq!((code, &bye["name"]), (4512, &json!("draining")));
    assert!(bye["retry"].as_u64().is_some());
}

#[tokio::test]
async fn a_session_that_left_is_forgotten() {
    let node = TestNode::start().await;
    let mut client = node.client("ada").await;
    client.sub("news", json!({})).await;
    let session = client.resume();
    client.send(json!({"t": "leave"})).await;
    let (code, frames) = client.closed().await;
    assert_eq!(code, Some(1000));
    assert!(frames.iter().all(|frame| frame["t"] != "bye"));
    let mut again = Client::connect(node.address()).await;
    let welcome = again
        .hello("ada", session.hello(Resume::next_attempt()))
        .await;
    assert_eq!(welcome["resumed"], false);
    assert_eq!(again.drained().await, Vec::<Value>::new());
}

#[tokio::test]
async fn what_was_unsubscribed_does_not_come_back() {
    let node = TestNode::start().await;
    let mut client = node.client("ada").await;
    client.sub("news", json!({})).await;
    client.sub("small:x", json!({})).await;
    client.ask(json!({"t": "unsub", "ch": "small:x"})).await;
    let session = client.cut();
    let mut again = resume(&node, &session, json!({"subs": []})).await;
    assert_eq!(again.drained().await, Vec::<Value>::new());
    let session = again.cut();
    let mut third = resume(&node, &session, json!({})).await;
    assert_eq!(third.drained().await, Vec::<Value>::new());
}

#[tokio::test]
async fn the_floor_of_a_deleted_channel_hides_nothing_of_its_next_life() {
    let node = TestNode::start().await;
    let mut writer = node.client("bob").await;
    let mut client = node.client("ada").await;
    let ok = client.sub("news", json!({})).await;
    for n in 1..=5 {
        writer.publish("news", json!(n)).await;
    }
    client
        .find(|frame| frame["o"] == 5 && frame["t"] == "msg")
        .await;
    client
        .send(json!({"t": "ack", "c": {"news": [ok["e"], 5]}}))
        .await;
    client.drained().await;
    node.delete("news").await;
    assert_eq!(client.expect("ok").await["rec"], "reset");
    let session = client.cut();
    for n in 1..=8 {
        writer.publish("news", json!(n)).await;
    }
    let mut again = resume(&node, &session, json!({})).await;
    assert_eq!(again.expect("ok").await["o"], 0);
    expect_replay(&mut again, 1, 8).await;
}

#[tokio::test]
async fn a_change_of_wishes_keeps_what_was_acknowledged() {
    let node = TestNode::start().await;
    let mut writer = node.client("bob").await;
    let mut client = node.client("ada").await;
    client.sub("orders:1", json!({})).await;
    for n in 1..=3 {
        writer.publish("orders:1", json!(n)).await;
    }
    client
        .find(|frame| frame["o"] == 3 && frame["t"] == "msg")
        .await;
    client.sub("orders:1", json!({"mode": "latest"})).await;
    client
        .sub("orders:1", json!({"mode": "every", "hz": 100}))
        .await;
    let session = client.cut();
    let mut again = resume(&node, &session, json!({})).await;
    assert_eq!(again.expect("ok").await["o"], 0);
    expect_replay(&mut again, 1, 3).await;
}
