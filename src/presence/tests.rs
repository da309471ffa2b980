//! Members over a shared broker and store. Time stands still and jumps only when nothing is left
//! to do: the embedded storage waits for nobody at its default setting.

use std::collections::BTreeMap;

use super::*;
use crate::{
    broker::{PageLimit, StateQuery},
    config::Namespace,
    lab::{Cluster, Link},
    store::{Checkpoint, Write},
};

const ROOM: &str = "room:1";

/// A node as far as presence knows.
struct Node {
    presence: Arc<Presence>,
    nodes: Arc<Nodes>,
    link: Link,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Node {
    /// What a SIGKILL leaves of it.
    fn kill(self) {
        for task in &self.tasks {
            task.abort();
        }
    }

    async fn enter(&self, owner: &Owner, channel: &str, member: &Member, held: bool) {
        let membership = membership(channel, member);
        let enter = Change::Enter { membership, held };
        self.presence.apply(owner, vec![enter]).await;
    }

    async fn leave(&self, owner: &Owner, channel: &str, member: &Member) {
        let leave = Change::Leave(membership(channel, member));
        self.presence.apply(owner, vec![leave]).await;
    }
}

/// A node whose tasks run.
fn boot(lab: &Cluster, name: &str) -> Node {
    boot_as(lab, name, false)
}

fn boot_as(lab: &Cluster, name: &str, alone: bool) -> Node {
    let of = |presence| Namespace {
        presence,
        ..Namespace::default()
    };
    let namespaces = Namespaces::new([
        ("room", of(PresenceMode::Members)),
        ("crowd", of(PresenceMode::Count)),
        ("quiet", of(PresenceMode::Off)),
    ]);
    let name = Name::new(name).unwrap();
    let link = lab.link(&name);
    let nodes = Arc::new(Nodes::new(Arc::new(link.clone()), name.clone(), alone));
    let presence = Arc::new(Presence::new(
        Arc::new(link.clone()),
        Arc::new(link.clone()),
        Arc::clone(&nodes),
        Arc::new(namespaces),
        Duration::from_secs(60),
        name,
    ));
    let leases = Arc::clone(&nodes);
    let tasks = vec![
        tokio::spawn(async move { leases.run(lease).await }),
        tokio::spawn(Arc::clone(&presence).run()),
    ];
    Node {
        presence,
        nodes,
        link,
        tasks,
    }
}

fn lease() -> crate::control::Lease {
    crate::control::Lease {
        started: 1,
        address: String::new(),
        connections: 0,
        sessions: 0,
        draining: false,
        observed: false,
        row: None,
    }
}

/// What readers of the presence see: what each key says.
async fn shown(lab: &Cluster, channel: &str) -> BTreeMap<String, String> {
    let query = StateQuery {
        from: 1,
        catch_up: false,
        limit: PageLimit {
            items: 10_000,
            bytes: 10 << 20,
        },
    };
    let channel = name(channel).presence();
    let page = lab.broker().state(&channel, query).await.unwrap();
    let items = page.items.into_iter();
    items
        .map(|item| {
            let publication = &item.publication;
            let Some(Payload::Json(me)) = &publication.payload else {
                panic!("a member says nothing: {item:?}");
            };
            let key = publication.key.as_ref().unwrap().to_string();
            (key, String::from_utf8(me.to_vec()).unwrap())
        })
        .collect()
}

async fn keys(lab: &Cluster, channel: &str) -> Vec<String> {
    shown(lab, channel).await.into_keys().collect()
}

/// How much was ever published.
async fn published(lab: &Cluster, channel: &str) -> u64 {
    let channels = [name(channel).presence()];
    let heads = lab.broker().heads(&channels).await.unwrap();
    heads[0].position.offset
}

/// Writes the session down for a node, which claims it.
async fn claim(node: &Node, owner: &Owner) {
    let write = Write {
        session: owner.session.clone(),
        checkpoint: Checkpoint {
            fence: owner.fence,
            body: Bytes::new(),
        },
        ttl_ms: 600_000,
        connected: true,
    };
    let store: &dyn CheckpointStore = &node.link;
    store.write(vec![write]).await.pop().unwrap().unwrap();
}

fn name(text: &str) -> ChannelName {
    ChannelName::new(text).unwrap()
}

fn owner(session: u64, attempt: u64) -> Owner {
    Owner {
        session: SessionId(Arc::from(format!("s-{session}"))),
        fence: Fence {
            attempt,
            nonce: 100 * session + attempt,
        },
    }
}

fn member(key: &str, me: &str) -> Member {
    Member {
        key: Name::new(key).unwrap(),
        me: Bytes::from(me.to_owned()),
    }
}

fn membership(channel: &str, member: &Member) -> Membership {
    Membership {
        channel: name(channel),
        member: Box::new(member.clone()),
    }
}

async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await;
}

/// Nodes that have watched each other for longer than the grace.
async fn pair(lab: &Cluster) -> (Node, Node) {
    let pair = (boot(lab, "n-1"), boot(lab, "n-2"));
    seconds(12).await;
    assert_eq!((pair.0.nodes.takers(), pair.1.nodes.takers()), (1, 1));
    pair
}

#[tokio::test(start_paused = true)]
async fn members_come_change_and_go() {
    let lab = Cluster::on_test_clock();
    let node = boot(&lab, "n-1");
    let ann = member("ann/1", "{\"n\":1}");
    let bob = member("bob/1", "2");
    node.enter(&owner(1, 1), ROOM, &ann, false).await;
    node.enter(&owner(2, 1), ROOM, &bob, false).await;
    assert_eq!(keys(&lab, ROOM).await, ["ann/1", "bob/1"]);
    assert_eq!(shown(&lab, ROOM).await["ann/1"], "{\"n\":1}");
    node.enter(&owner(1, 2), ROOM, &ann, true).await;
    assert_eq!(published(&lab, ROOM).await, 2, "there is nothing to say");
    node.enter(&owner(1, 2), ROOM, &member("ann/1", "3"), false)
        .await;
    assert_eq!(shown(&lab, ROOM).await["ann/1"], "3");
    node.leave(&owner(1, 2), ROOM, &ann).await;
    assert_eq!(keys(&lab, ROOM).await, ["bob/1"]);
    node.leave(&owner(2, 1), ROOM, &bob).await;
    assert!(keys(&lab, ROOM).await.is_empty());
    assert!(node.presence.rooms.is_empty());
}

#[tokio::test(start_paused = true)]
async fn channels_without_presence_have_no_members() {
    let lab = Cluster::on_test_clock();
    let node = boot(&lab, "n-1");
    for channel in ["quiet:1", "unknown:1"] {
        node.enter(&owner(1, 1), channel, &member("ann/1", "1"), false)
            .await;
        node.leave(&owner(1, 1), channel, &member("ann/1", "1"))
            .await;
        assert_eq!(published(&lab, channel).await, 0, "{channel}");
    }
    assert!(node.presence.rooms.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_member_leaves_only_after_the_grace() {
    let lab = Cluster::on_test_clock();
    let (node, _other) = pair(&lab).await;
    let (ann, claimed) = (member("ann/1", "1"), owner(1, 1));
    claim(&node, &claimed).await;
    node.enter(&claimed, ROOM, &ann, false).await;
    let ended = vec![membership(ROOM, &ann)];
    node.presence.leave_later(claimed, ended);
    seconds(9).await;
    assert_eq!(keys(&lab, ROOM).await, ["ann/1"]);
    seconds(3).await;
    assert!(keys(&lab, ROOM).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_said_of_a_session_that_was_claimed_within_the_grace() {
    let lab = Cluster::on_test_clock();
    let (node, other) = pair(&lab).await;
    let ann = member("ann/1", "1");
    for (number, is_here) in [(1, true), (2, false)] {
        let (first, next) = (owner(number, 1), owner(number, 2));
        let room = format!("room:{number}");
        claim(&node, &first).await;
        node.enter(&first, &room, &ann, false).await;
        let ended = vec![membership(&room, &ann)];
        node.presence.leave_later(first, ended);
        let taker = if is_here { &node } else { &other };
        claim(taker, &next).await;
        taker.enter(&next, &room, &ann, true).await;
        seconds(15).await;
        assert_eq!(keys(&lab, &room).await, ["ann/1"]);
        assert_eq!(published(&lab, &room).await, 1);
        let held = node.presence.rooms.contains_key(&name(&room));
        assert_eq!(held, is_here, "who lives elsewhere is not ours");
    }
}

#[tokio::test(start_paused = true)]
async fn members_of_a_killed_node_leave_within_20_seconds() {
    let lab = Cluster::on_test_clock();
    let (killed, living) = pair(&lab).await;
    let third = boot(&lab, "n-3");
    seconds(12).await;
    for number in 0..600 {
        let room = format!("room:{}", number % 2);
        let of = owner(number, 1);
        claim(&killed, &of).await;
        killed
            .enter(&of, &room, &member(&format!("user/{number}"), "1"), false)
            .await;
    }
    killed.kill();
    seconds(8).await;
    // One comes back on each of the others, one claims and does not enter again yet.
    for (number, taker) in [(0, &living), (1, &third)] {
        let next = owner(number, 2);
        claim(taker, &next).await;
        let room = format!("room:{}", number % 2);
        taker
            .enter(&next, &room, &member(&format!("user/{number}"), "1"), true)
            .await;
    }
    claim(&third, &owner(2, 2)).await;
    seconds(12).await;
    assert_eq!(keys(&lab, "room:0").await, ["user/0", "user/2"]);
    assert_eq!(keys(&lab, "room:1").await, ["user/1"]);
    // Each entered once, and 298 and 299 left once: two sweepers did no harm.
    assert_eq!(published(&lab, "room:0").await, 300 + 298);
    assert_eq!(published(&lab, "room:1").await, 300 + 299);
    assert!(living.nodes.departed().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_session_that_comes_back_after_the_sweep_is_shown_again() {
    let lab = Cluster::on_test_clock();
    let (killed, living) = pair(&lab).await;
    let (ann, first) = (member("ann/1", "1"), owner(1, 1));
    claim(&killed, &first).await;
    killed.enter(&first, ROOM, &ann, false).await;
    killed.kill();
    seconds(20).await;
    assert!(keys(&lab, ROOM).await.is_empty());
    claim(&living, &owner(1, 2)).await;
    living.enter(&owner(1, 2), ROOM, &ann, true).await;
    assert_eq!(keys(&lab, ROOM).await, ["ann/1"]);
}

#[tokio::test(start_paused = true)]
async fn a_member_whose_session_does_not_know_it_yet_is_said_only_where_it_changed() {
    let lab = Cluster::on_test_clock();
    let (one, two) = pair(&lab).await;
    let ann = member("ann/1", "1");
    one.enter(&owner(1, 1), ROOM, &ann, false).await;
    two.enter(&owner(1, 2), ROOM, &ann, false).await;
    assert_eq!(published(&lab, ROOM).await, 1);
    one.enter(&owner(2, 1), ROOM, &member("bob/1", "1"), false)
        .await;
    two.enter(&owner(2, 2), ROOM, &member("bob/1", "2"), false)
        .await;
    assert_eq!(shown(&lab, ROOM).await["bob/1"], "2");
}

#[tokio::test(start_paused = true)]
async fn nobody_leaves_while_the_broker_is_away_nor_right_after() {
    let lab = Cluster::on_test_clock();
    let (one, two) = pair(&lab).await;
    let (ann, first) = (member("ann/1", "1"), owner(1, 1));
    let (bob, second) = (member("bob/1", "1"), owner(2, 1));
    for (owner, member) in [(&first, &ann), (&second, &bob)] {
        claim(&one, owner).await;
        one.enter(owner, ROOM, member, false).await;
    }
    one.link.cut(true);
    two.link.cut(true);
    one.presence
        .leave_later(first.clone(), vec![membership(ROOM, &ann)]);
    // Every lease has ended by now.
    seconds(60).await;
    one.link.cut(false);
    two.link.cut(false);
    seconds(8).await;
    assert_eq!(keys(&lab, ROOM).await, ["ann/1", "bob/1"]);
    claim(&two, &owner(1, 2)).await;
    two.enter(&owner(1, 2), ROOM, &ann, true).await;
    seconds(30).await;
    assert_eq!(keys(&lab, ROOM).await, ["ann/1", "bob/1"]);
    assert_eq!(published(&lab, ROOM).await, 2, "nothing was said at all");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_cut_off_puts_its_members_in_place_again() {
    let lab = Cluster::on_test_clock();
    let (lost, other) = pair(&lab).await;
    let (ann, first) = (member("ann/1", "1"), owner(1, 1));
    let (bob, second) = (member("bob/1", "1"), owner(2, 1));
    for (owner, member) in [(&first, &ann), (&second, &bob)] {
        claim(&lost, owner).await;
        lost.enter(owner, ROOM, member, false).await;
    }
    lost.link.cut(true);
    seconds(25).await;
    assert!(keys(&lab, ROOM).await.is_empty(), "its lease ended");
    claim(&other, &owner(2, 2)).await;
    lost.link.cut(false);
    seconds(8).await;
    assert_eq!(
        keys(&lab, ROOM).await,
        ["ann/1"],
        "the other was claimed elsewhere meanwhile"
    );
}

#[tokio::test(start_paused = true)]
async fn what_the_broker_did_not_take_is_said_later() {
    let lab = Cluster::on_test_clock();
    let (node, _other) = pair(&lab).await;
    let (ann, bob) = (member("ann/1", "1"), member("bob/1", "1"));
    for number in 1..=2 {
        claim(&node, &owner(number, 1)).await;
    }
    node.enter(&owner(1, 1), ROOM, &ann, false).await;
    node.link.cut(true);
    node.leave(&owner(1, 1), ROOM, &ann).await;
    node.enter(&owner(2, 1), ROOM, &bob, false).await;
    seconds(3).await;
    assert_eq!(keys(&lab, ROOM).await, ["ann/1"]);
    node.link.cut(false);
    seconds(3).await;
    assert_eq!(keys(&lab, ROOM).await, ["bob/1"]);
    assert_eq!(published(&lab, ROOM).await, 3);
}

#[tokio::test(start_paused = true)]
async fn a_restart_alone_keeps_who_comes_back_and_removes_who_does_not() {
    let lab = Cluster::on_test_clock();
    let before = boot_as(&lab, "n-1", true);
    for (room, first) in [("room:1", 0), ("room:2", 1000)] {
        for number in 0..300 {
            let member = member(&format!("user/{number}"), "1");
            let of = owner(first + number, 1);
            before.enter(&of, room, &member, false).await;
        }
    }
    seconds(1).await;
    before.kill();
    let node = boot_as(&lab, "n-2", true);
    claim(&node, &owner(7, 2)).await;
    let ann = member("user/7", "1");
    node.enter(&owner(7, 2), "room:1", &ann, true).await;
    assert_eq!(published(&lab, "room:1").await, 300, "it stands already");
    seconds(9).await;
    let standing = keys(&lab, "room:1").await.len();
    assert_eq!(standing, 300, "they may still come back");
    seconds(4).await;
    assert_eq!(keys(&lab, "room:1").await, ["user/7"]);
    assert_eq!(keys(&lab, "room:2").await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_crowd_is_a_number_per_node_that_ends_with_it() {
    let lab = Cluster::on_test_clock();
    let (one, two) = pair(&lab).await;
    let crowd = "crowd:1";
    for number in 0..3 {
        let member = member(&format!("user/{number}"), "1");
        one.enter(&owner(number, 1), crowd, &member, false).await;
    }
    let nine = member("user/9", "1");
    two.enter(&owner(9, 1), crowd, &nine, false).await;
    let both = shown(&lab, crowd).await;
    assert_eq!((&*both["n-1"], &*both["n-2"]), ("{\"n\":3}", "{\"n\":1}"));
    one.leave(&owner(0, 1), crowd, &member("user/0", "1")).await;
    let said = published(&lab, crowd).await;
    seconds(20).await;
    assert!(published(&lab, crowd).await >= said + 4, "said again");
    assert_eq!(shown(&lab, crowd).await["n-1"], "{\"n\":2}");
    one.kill();
    seconds(16).await;
    let left = shown(&lab, crowd).await;
    assert_eq!(left.into_keys().collect::<Vec<_>>(), ["n-2"]);
    two.leave(&owner(9, 1), crowd, &nine).await;
    assert!(keys(&lab, crowd).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn members_over_a_thousand_are_counted() {
    let lab = Cluster::on_test_clock();
    let node = boot(&lab, "n-1");
    for number in 0..LISTED_MAX as u64 + 2 {
        let member = member(&format!("user/{number}"), "1");
        node.enter(&owner(number, 1), ROOM, &member, false).await;
    }
    let all = shown(&lab, ROOM).await;
    assert_eq!(all.len(), LISTED_MAX + 1);
    assert_eq!(all["n-1"], "{\"n\":2}");
    node.leave(&owner(1000, 1), ROOM, &member("user/1000", "1"))
        .await;
    assert_eq!(shown(&lab, ROOM).await["n-1"], "{\"n\":1}");
    node.leave(&owner(1001, 1), ROOM, &member("user/1001", "1"))
        .await;
    assert_eq!(keys(&lab, ROOM).await.len(), LISTED_MAX);
}
