//! Orders over a shared broker, on tokio's clock: what is announced, what is not, and what is
//! lost.

use tokio::time::Instant;

use super::*;
use crate::{
    broker::Broker,
    config::Namespaces,
    feed::{Logs, Settings},
    lab::{Cluster, Link},
    tasks::Tasks,
    telemetry::{metrics::Metrics, spans::Tracer},
};

/// A node as far as control knows.
struct Node {
    control: Arc<Control>,
    link: Link,
    feed: Feed,
    logs: Arc<Logs>,
}

impl Node {
    fn boot(lab: &Cluster, name: &str) -> Self {
        let node = Self::deaf(lab, name);
        node.link.hears(Arc::clone(&node.logs) as _);
        node
    }

    /// One that no announcement reaches.
    fn deaf(lab: &Cluster, name: &str) -> Self {
        let name = Name::new(name).unwrap();
        let link = lab.link(&name);
        let broker: Arc<dyn Broker> = Arc::new(link.clone());
        let settings = Settings {
            tails_bytes: 1 << 20,
            pages_bytes: 1 << 20,
            linger_ms: 1_000,
        };
        let tasks = Tasks::new();
        let metrics = Arc::new(Metrics::new(&Namespaces::default()).unwrap());
        let logs = Arc::new(Logs::new(
            settings,
            tasks.clone(),
            metrics,
            Tracer::default(),
        ));
        let feed = Feed::new(Arc::clone(&broker), Arc::clone(&logs), tasks);
        let nodes = Arc::new(Nodes::new(broker, name.clone(), false));
        let control = Arc::new(Control::new(name, feed.clone(), nodes));
        Self {
            control,
            link,
            feed,
            logs,
        }
    }

    async fn disconnect(&self, user: &str) {
        let user = Name::new(user).unwrap();
        self.control.disconnect_user(&user).await.unwrap();
    }
}

/// The users of the next orders, past what is to be read again.
async fn users(follower: &mut Follower, count: usize) -> Vec<String> {
    let mut users = Vec::new();
    while users.len() < count {
        if let Heard::Entries(publications) = follower.next().await {
            let orders = publications.iter().filter_map(|entry| Order::read(entry));
            users.extend(orders.filter_map(|order| match order {
                Order::Disconnect { user, .. } => Some(user),
                _ => None,
            }));
        }
    }
    users
}

async fn joined(node: &Node) -> Follower {
    let mut follower = node.control.follow_all().unwrap();
    assert!(matches!(follower.next().await, Heard::Again));
    follower
}

fn identity(user: &str, issued_ms: u64) -> Identity {
    Identity {
        user: Name::new(user).ok(),
        issued_ms: Some(issued_ms),
        ..Identity::default()
    }
}

#[tokio::test(start_paused = true)]
async fn orders_come_in_order_and_none_twice() {
    let lab = Cluster::on_test_clock();
    let (one, two) = (Node::boot(&lab, "n-1"), Node::boot(&lab, "n-2"));
    let mut follower = joined(&two).await;
    for user in ["ann", "bob", "cyd"] {
        one.disconnect(user).await;
    }
    assert_eq!(users(&mut follower, 3).await, ["ann", "bob", "cyd"]);
    one.disconnect("dan").await;
    assert_eq!(users(&mut follower, 1).await, ["dan"]);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_was_not_announced_is_found_within_five_seconds() {
    let lab = Cluster::on_test_clock();
    let (one, deaf) = (Node::boot(&lab, "n-1"), Node::deaf(&lab, "n-2"));
    let mut follower = joined(&deaf).await;
    for number in 0..600 {
        one.disconnect(&format!("user-{number}")).await;
    }
    let begun = Instant::now();
    let heard = users(&mut follower, 600).await;
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!((&*heard[0], &*heard[599]), ("user-0", "user-599"));
}

#[tokio::test(start_paused = true)]
async fn another_life_of_the_log_is_read_from_its_beginning() {
    let lab = Cluster::on_test_clock();
    let (one, two) = (Node::boot(&lab, "n-1"), Node::boot(&lab, "n-2"));
    one.disconnect("ann").await;
    let mut follower = joined(&two).await;
    let channel = ChannelName::new(CONTROL).unwrap();
    one.feed.broker().delete(&channel).await.unwrap();
    one.disconnect("bob").await;
    assert!(matches!(follower.next().await, Heard::Again));
    assert_eq!(users(&mut follower, 1).await, ["bob"]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_could_not_compare_for_30_seconds_decides_nothing() {
    let lab = Cluster::on_test_clock();
    let node = Node::boot(&lab, "n-1");
    assert!(!node.control.verified().await, "nothing was read yet");
    let mut follower = joined(&node).await;
    tokio::spawn(async move {
        loop {
            follower.next().await;
        }
    });
    assert!(node.control.verified().await);
    node.link.cut(true);
    sleep(VERIFIED_MAX - Duration::from_secs(3)).await;
    assert!(node.control.is_verified());
    sleep(Duration::from_secs(4)).await;
    assert!(!node.control.is_verified());
    assert!(!node.control.verified().await);
    node.link.cut(false);
    sleep(Duration::from_secs(1)).await;
    assert!(node.control.is_verified(), "at once when it is back");
}

#[tokio::test(start_paused = true)]
async fn what_was_withdrawn_is_known_to_all_and_survives_a_loss() {
    let lab = Cluster::on_test_clock();
    let (one, two) = (Node::boot(&lab, "n-1"), Node::boot(&lab, "n-2"));
    let mut follower = joined(&two).await;
    let target = Target::User("ann".into());
    one.control.revoke(target, 3_600_000).await.unwrap();
    let Heard::Entries(heard) = follower.next().await else {
        panic!("the revocation comes as an entry");
    };
    assert!(two.control.hear_revocation(&heard[0]));
    assert!(two.control.shuts_out(&identity("ann", 5)));
    assert!(!two.control.shuts_out(&identity("bob", 5)));
    let later = crate::clock::now_ms() + 60_000;
    assert!(!two.control.shuts_out(&identity("ann", later)));
    // The log is lost; a node that knew it writes it again, and one that starts finds it.
    let channel = ChannelName::new(CONTROL).unwrap();
    lab.broker().delete(&channel).await.unwrap();
    let late = Node::boot(&lab, "n-3");
    late.control.reload().await;
    assert!(!late.control.shuts_out(&identity("ann", 5)));
    two.control.reload().await;
    late.control.reload().await;
    assert!(late.control.shuts_out(&identity("ann", 5)));
}

#[tokio::test(start_paused = true)]
async fn takeovers_are_gathered_and_survive_a_broker_that_is_away() {
    let lab = Cluster::on_test_clock();
    let (one, two) = (Node::boot(&lab, "n-1"), Node::boot(&lab, "n-2"));
    let telling = Arc::clone(&one.control);
    tokio::spawn(async move { telling.run_outbox().await });
    let mut follower = two.control.follow_own().unwrap();
    assert!(matches!(follower.next().await, Heard::Again));
    one.link.cut(true);
    for number in 0..600 {
        let session = SessionId(Arc::from(format!("s-{number}")));
        one.control
            .taken(Name::new("n-2").unwrap(), session, number);
    }
    let own = SessionId(Arc::from("own"));
    one.control.taken(Name::new("n-1").unwrap(), own, 1);
    sleep(Duration::from_secs(2)).await;
    one.link.cut(false);
    let (mut told, mut publications) = (Vec::new(), 0);
    while told.len() < 600 {
        if let Heard::Entries(entries) = follower.next().await {
            publications += entries.len();
            for entry in entries {
                if let Some(Order::Taken { sessions }) = Order::read(&entry) {
                    told.extend(sessions);
                }
            }
        }
    }
    assert_eq!(told[599], ("s-599".to_owned(), 599));
    assert!(publications <= 4, "{publications}");
}

#[tokio::test(start_paused = true)]
async fn a_probe_goes_through_the_broker_and_back() {
    let lab = Cluster::on_test_clock();
    let node = Node::boot(&lab, "n-1");
    assert!(!node.control.probe().await, "nobody listens yet");
    let control = Arc::clone(&node.control);
    let mut follower = control.follow_own().unwrap();
    assert!(matches!(follower.next().await, Heard::Again));
    tokio::spawn(async move {
        loop {
            if let Heard::Entries(entries) = follower.next().await {
                for entry in entries {
                    if let Some(Order::Probe { n }) = Order::read(&entry) {
                        control.probe_heard(n);
                    }
                }
            }
        }
    });
    assert!(node.control.probe().await);
    node.link.cut(true);
    assert!(!node.control.probe().await);
}

#[tokio::test(start_paused = true)]
async fn nodes_know_who_lives_and_who_takes_clients() {
    let lab = Cluster::on_test_clock();
    let (one, two) = (Node::boot(&lab, "n-1"), Node::boot(&lab, "n-2"));
    let keep = |node: &Node| {
        let nodes = Arc::clone(&node.control.nodes);
        let lease = || Lease {
            started: 1,
            address: "here".to_owned(),
            connections: 3,
            sessions: 2,
            draining: false,
            observed: false,
            row: None,
        };
        tokio::spawn(async move { nodes.run(lease).await })
    };
    let (_kept, other) = (keep(&one), keep(&two));
    sleep(Duration::from_secs(5)).await;
    let nodes = &one.control.nodes;
    assert_eq!((nodes.living(), nodes.takers()), (2, 1));
    two.control.nodes.drain();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(
        (nodes.living(), nodes.takers()),
        (2, 0),
        "nobody moves there"
    );
    other.abort();
    sleep(Duration::from_secs(18)).await;
    assert_eq!(nodes.living(), 1);
    assert_eq!(nodes.departed(), [Name::new("n-2").unwrap()]);
    assert_eq!(nodes.turn(&Name::new("n-2").unwrap()), 0);
    assert!(nodes.watched() > Duration::from_secs(25));
    one.link.cut(true);
    sleep(Duration::from_secs(8)).await;
    assert_eq!(
        nodes.watched(),
        Duration::ZERO,
        "who cannot look cannot say"
    );
    sleep(Duration::from_secs(20)).await;
    assert_eq!(*nodes.lapses().borrow(), 0);
    one.link.cut(false);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(*nodes.lapses().borrow(), 1, "its own lease had ended");
}

fn about_channel() -> Question {
    Question::Channel {
        channel: "news".to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_is_answered_by_those_that_live_and_the_others_are_named() {
    let lab = Cluster::on_test_clock();
    let (one, two) = (Node::boot(&lab, "n-1"), Node::boot(&lab, "n-2"));
    let mut follower = joined(&two).await;
    let answering = async {
        loop {
            let Heard::Entries(entries) = follower.next().await else {
                continue;
            };
            for order in entries.iter().filter_map(|entry| Order::read(entry)) {
                if let Order::Ask { n, by, question } = order {
                    assert_eq!(question, about_channel());
                    // An answer to another question is passed over.
                    two.control.answer(&by, n + 1, Some(2.into())).await;
                    two.control.answer(&by, n, Some(1.into())).await;
                }
            }
        }
    };
    let names = ["n-2", "n-3"].map(|name| Name::new(name).unwrap());
    let begun = Instant::now();
    let asking = one.control.ask(about_channel(), names.to_vec());
    let answers = tokio::select! {
        answers = asking => answers,
        () = answering => unreachable!("it answers for ever"),
    };
    assert!(begun.elapsed() < Duration::from_secs(3));
    assert_eq!(answers.of::<u64>().collect::<Vec<_>>(), [1]);
    assert_eq!(answers.silent, names[1..]);
    one.link.cut(true);
    let away = one.control.ask(about_channel(), names.to_vec()).await;
    assert_eq!((away.said.len(), &*away.silent), (0, &names[..]));
}
