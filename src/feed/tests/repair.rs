//! Logs that are compared with the broker: after a doubt, in the audit, when a client comes; and
//! what clients hear of a broker that is out of reach.

use super::*;
use crate::{
    broker::lineage::{Lineage, Segment},
    channel::Standing,
};

/// A head the broker is to answer: one generation after another, each with its start.
fn answer(segments: &[(&str, u64)], offset: u64) -> Head {
    let segments = segments.iter().map(|(epoch, start)| Segment {
        epoch: Epoch::new(epoch).unwrap(),
        start: *start,
    });
    let lineage = Lineage::new(segments.collect()).unwrap();
    Head {
        position: Position {
            epoch: lineage.epoch().clone(),
            offset,
        },
        first: 1,
        state_floor: 0,
        lineage,
    }
}

const ONE: (&str, u64) = ("life.00000001test.1.", 1);
const TWO: (&str, u64) = ("life.00000002test.6.00000001test", 6);

/// A channel that stands where the broker is made to say.
async fn at(lab: &Lab, name: &ChannelName, head: &Head) -> Arc<Channel> {
    let channel = lab.attach(name).await.unwrap();
    lab.gate.answer(name, head);
    lab.feed.logs().doubt(&|_| true);
    lab.until(|| channel.head().position == head.position).await;
    channel
}

/// What a counter says.
fn count(lab: &Lab, line: &str) -> u64 {
    let text = lab.metrics.render();
    let found = text.lines().find_map(|found| found.strip_prefix(line));
    found.map_or(0, |value| value.trim().parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn what_is_doubted_is_compared_and_its_readers_are_told() {
    let lab = Lab::open(SETTINGS);
    lab.feed.start();
    let channel = at(&lab, &name("room:1"), &answer(&[ONE], 5)).await;
    let reader = Arc::new(Waiting::default());
    channel.join(Arc::clone(&reader) as _, 0, VIEW).unwrap();
    lab.gate.answer(channel.name(), &answer(&[ONE, TWO], 7));
    lab.feed.logs().doubt(&|name| name.as_str() == "room:2");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(channel.head().position.offset, 5, "it was not doubted");
    lab.feed.logs().doubt(&|name| name.as_str() == "room:1");
    reader.told.notified().await;
    assert_eq!(channel.head().position, answer(&[ONE, TWO], 7).position);
    assert!(count(&lab, "tidewire_repairs_total{cause=\"doubt\"}") > 0);
}

#[tokio::test(start_paused = true)]
async fn an_announcement_that_does_not_continue_the_log_makes_it_compared() {
    let lab = Lab::open(SETTINGS);
    lab.feed.start();
    let channel = at(&lab, &name("room:1"), &answer(&[ONE], 5)).await;
    lab.gate.answer(
        channel.name(),
        &answer(&[ONE, ("life.00000002test.4.00000001test", 4)], 6),
    );
    let publication = Arc::new(publication(6));
    let epoch = Epoch::new("life.00000002test.4.00000001test").unwrap();
    lab.feed.logs().append(channel.name(), &epoch, &publication);
    lab.until(|| channel.head().position.offset == 6).await;
    assert_eq!(channel.head().position.epoch, epoch);
    assert_eq!(count(&lab, "tidewire_rewinds_total"), 1);
    assert_eq!(count(&lab, "tidewire_repairs_total{cause=\"hole\"}"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_does_not_answer_is_asked_until_it_does() {
    let lab = Lab::open(SETTINGS);
    lab.feed.start();
    let channel = at(&lab, &name("room:1"), &answer(&[ONE], 5)).await;
    lab.gate.answer(channel.name(), &answer(&[ONE], 8));
    lab.gate.is_away.store(true, Ordering::SeqCst);
    lab.feed.logs().doubt(&|_| true);
    let before = lab.gate.asked.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let asked = lab.gate.asked.load(Ordering::SeqCst) - before;
    // The audit asks once a second besides.
    assert!((90..150).contains(&asked), "{asked} times in a minute");
    assert_eq!(channel.head().position.offset, 5);
    lab.gate.is_away.store(false, Ordering::SeqCst);
    lab.until(|| channel.head().position.offset == 8).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_seen_is_stale_until_all_was_compared() {
    let lab = Lab::open(SETTINGS);
    lab.feed.start();
    let channel = at(&lab, &name("room:1"), &answer(&[ONE], 5)).await;
    let mut stale = lab.feed.logs().doubts().stale();
    let logs = lab.feed.logs();
    logs.reach(Some(77));
    assert!(stale.has_changed().unwrap());
    assert_eq!(*stale.borrow_and_update(), Some(77));
    logs.reach(Some(99));
    assert!(!stale.has_changed().unwrap(), "it is the same loss");
    lab.gate.is_away.store(true, Ordering::SeqCst);
    lab.gate.answer(channel.name(), &answer(&[ONE], 6));
    logs.reach(None);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(*stale.borrow(), Some(77), "nothing was compared yet");
    lab.gate.is_away.store(false, Ordering::SeqCst);
    stale.changed().await.unwrap();
    assert_eq!(*stale.borrow_and_update(), None);
    assert_eq!(channel.head().position.offset, 6);
    logs.reach(None);
    assert!(!stale.has_changed().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_was_left_is_believed_only_when_there_is_none_newer_for_long() {
    let lab = Lab::open(SETTINGS);
    lab.feed.start();
    let channel = at(&lab, &name("room:1"), &answer(&[ONE, TWO], 7)).await;
    lab.gate.answer(channel.name(), &answer(&[ONE], 9));
    lab.feed.logs().doubt(&|_| true);
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(channel.head().position, answer(&[ONE, TWO], 7).position);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(channel.head().position, answer(&[ONE], 9).position);
}

#[tokio::test(start_paused = true)]
async fn the_audit_finds_a_channel_that_heard_nothing_and_leaves_those_that_only_are_late() {
    let lab = Lab::open(SETTINGS);
    let (deaf, late) = (name("deaf"), name("late"));
    lab.feed.start();
    let deaf = at(&lab, &deaf, &answer(&[ONE], 5)).await;
    let late = at(&lab, &late, &answer(&[ONE], 5)).await;
    let begun = count(&lab, "tidewire_repairs_total{cause=\"audit\"}");
    lab.gate.answer(deaf.name(), &answer(&[ONE], 6));
    lab.gate.answer(late.name(), &answer(&[ONE], 6));
    let asked = lab.gate.asked.load(Ordering::SeqCst);
    lab.until(|| lab.gate.asked.load(Ordering::SeqCst) > asked)
        .await;
    let epoch = Epoch::new(ONE.0).unwrap();
    let publication = Arc::new(publication(6));
    lab.feed.logs().append(late.name(), &epoch, &publication);
    lab.until(|| deaf.head().position.offset == 6).await;
    let audited = count(&lab, "tidewire_repairs_total{cause=\"audit\"}") - begun;
    assert_eq!(audited, 1, "the late one came by itself");
}

#[tokio::test(start_paused = true)]
async fn a_client_meets_the_generation_that_there_is() {
    let lab = Lab::open(SETTINGS);
    let channel = lab.attach(&name("room:1")).await.unwrap();
    lab.gate.answer(channel.name(), &answer(&[ONE], 5));
    lab.feed.meet(&[Arc::clone(&channel)]).await.unwrap();
    let two = answer(&[ONE, TWO], 7);
    lab.gate.answer(channel.name(), &two);
    let heads = lab.feed.meet(&[Arc::clone(&channel)]).await.unwrap();
    assert_eq!(heads, std::slice::from_ref(&two));
    assert_eq!(channel.head().position, two.position);
    let lost = Position {
        epoch: Epoch::new("life.00000003test.8.00000002test").unwrap(),
        offset: 9,
    };
    assert!(matches!(
        channel.stand(&lost, &two.position),
        Standing::Newer(Some(_))
    ));
    for (now_ms, expected) in [
        (1_000, true),
        (10_999, true),
        (11_000, false),
        (50_000, false),
    ] {
        assert_eq!(
            lab.feed.distrusts(channel.name(), now_ms),
            expected,
            "{now_ms}"
        );
    }
    lab.gate.is_away.store(true, Ordering::SeqCst);
    assert_eq!(
        lab.feed.meet(&[channel]).await,
        Err(BrokerError::Unavailable)
    );
}

#[test]
fn doubts_are_taken_in_turn_and_each_once() {
    let doubts = doubts::Doubts::default();
    let names = |texts: &[&str]| texts.iter().map(|text| name(text)).collect::<Vec<_>>();
    let taken = |count| {
        let taken = doubts.take(count);
        taken
            .into_iter()
            .map(|(name, cause)| (name.to_string(), cause))
            .collect::<BTreeMap<_, _>>()
    };
    doubts.add(names(&["b", "a", "c", "a"]), RepairCause::Doubt);
    doubts.add(names(&["a", "d"]), RepairCause::Audit);
    assert_eq!(taken(2).into_keys().collect::<Vec<_>>(), ["a", "b"]);
    doubts.add(names(&["a"]), RepairCause::Hole);
    let rest = taken(9);
    assert_eq!(rest.len(), 3);
    assert_eq!(rest["a"], RepairCause::Hole);
    assert_eq!(rest["d"], RepairCause::Audit);
    assert_eq!(taken(1).len(), 0);
}
