//! Duties about traces: they are told with announcements, and kept out of everything else.

use super::*;

pub(crate) async fn a_trace_is_told_with_its_publication_and_is_no_part_of_it(lab: &impl Lab) {
    let (broker, heard) = open(lab).await;
    let a = channel("a");
    broker.follow(std::slice::from_ref(&a)).await.unwrap();
    let trace = TraceParent {
        trace: [7; 16],
        span: [8; 8],
        sampled: true,
    };
    let item = Publish {
        trace: Some(trace),
        ..with_id(publish(&a, "1"), "i")
    };
    put(&*broker, item.clone()).await;
    let again = Publish {
        trace: None,
        ..item
    };
    let answers = broker.publish(vec![again, publish(&a, "2")]).await;
    assert!(
        answers[0].as_ref().unwrap().duplicate,
        "the same publication"
    );
    until("announced", || async { heard.offsets(&a) == [1, 2] }).await;
    let traced = |told: &Told| matches!(told, Told::Traced(..));
    let told: Vec<_> = heard.all().into_iter().filter(traced).collect();
    assert_eq!(told, [Told::Traced(a.clone(), 1, trace)]);
    let page = history(&*broker, &a, Range::After(0)).await;
    assert_eq!(text(&page.items[0]), "1");
}
