//! Members over the embedded broker and store. Time stands still and jumps only when nothing is
//! left to do: the embedded storage waits for nobody at its default setting.

use std::collections::BTreeMap;

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::{
    config::Namespace,
    storage::{EmbeddedStorage, Options},
    store::{Checkpoint, Write},
};

const OWNER: Fence = Fence {
    attempt: 1,
    nonce: 11,
};

struct Lab {
    broker: Arc<dyn Broker>,
    store: Arc<dyn CheckpointStore>,
    _storage: EmbeddedStorage,
    _dir: TempDir,
}

impl Lab {
    fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let opened = EmbeddedStorage::open(dir.path(), Options::default()).unwrap();
        Self {
            broker: opened.broker,
            store: opened.store,
            _storage: opened.storage,
            _dir: dir,
        }
    }

    /// The presence of a node that has just started.
    fn boot(&self, node: &str) -> Arc<Presence> {
        let of = |presence| Namespace {
            presence,
            ..Namespace::default()
        };
        let namespaces = Namespaces::new([
            ("room", of(PresenceMode::Members)),
            ("crowd", of(PresenceMode::Count)),
            ("quiet", of(PresenceMode::Off)),
        ]);
        Arc::new(Presence::new(
            Arc::clone(&self.broker),
            Arc::clone(&self.store),
            Arc::new(namespaces),
            Duration::from_secs(60),
            Name::new(node).unwrap(),
            Tasks::new(),
        ))
    }

    /// What readers of the presence see: what each key says.
    async fn shown(&self, channel: &str) -> BTreeMap<String, String> {
        let query = StateQuery {
            from: 1,
            catch_up: false,
            limit: PageLimit {
                items: 10_000,
                bytes: 10 << 20,
            },
        };
        let channel = name(channel).presence();
        let page = self.broker.state(&channel, query).await.unwrap();
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

    async fn keys(&self, channel: &str) -> Vec<String> {
        self.shown(channel).await.into_keys().collect()
    }

    /// How much was ever published.
    async fn published(&self, channel: &str) -> u64 {
        let channels = [name(channel).presence()];
        let heads = self.broker.follow(&channels).await.unwrap();
        heads[0].position.offset
    }

    async fn claim(&self, fence: Fence) {
        let write = Write {
            session: session(),
            checkpoint: Checkpoint {
                fence,
                body: Bytes::new(),
            },
            ttl_ms: 600_000,
            connected: true,
        };
        self.store.write(vec![write]).await.pop().unwrap().unwrap();
    }
}

fn name(text: &str) -> ChannelName {
    ChannelName::new(text).unwrap()
}

fn session() -> SessionId {
    SessionId(Arc::from("s-1"))
}

fn member(key: &str, me: &str) -> Member {
    Member {
        key: Name::new(key).unwrap(),
        me: Bytes::from(me.to_owned()),
    }
}

fn ended(channel: &str, member: &Member) -> Vec<Ended> {
    vec![Ended {
        channel: name(channel),
        member: Box::new(member.clone()),
    }]
}

async fn after_the_grace() {
    tokio::time::sleep(GRACE + Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn members_come_change_and_go() {
    let lab = Lab::open();
    let presence = lab.boot("n-1");
    let ann = member("ann/1", "{\"n\":1}");
    presence.enter(11, &name("room:1"), &ann, false).await;
    presence
        .enter(12, &name("room:1"), &member("bob/1", "2"), false)
        .await;
    assert_eq!(lab.keys("room:1").await, ["ann/1", "bob/1"]);
    assert_eq!(lab.shown("room:1").await["ann/1"], "{\"n\":1}");
    presence.enter(13, &name("room:1"), &ann, true).await;
    assert_eq!(lab.published("room:1").await, 2, "there is nothing to say");
    presence
        .enter(13, &name("room:1"), &member("ann/1", "3"), true)
        .await;
    assert_eq!(lab.shown("room:1").await["ann/1"], "3");
    presence.leave(&name("room:1"), &ann).await;
    assert_eq!(lab.keys("room:1").await, ["bob/1"]);
    presence.leave(&name("room:1"), &member("bob/1", "2")).await;
    assert!(lab.keys("room:1").await.is_empty());
    assert!(presence.rooms.is_empty());
}

#[tokio::test(start_paused = true)]
async fn channels_without_presence_have_no_members() {
    let lab = Lab::open();
    let presence = lab.boot("n-1");
    for channel in ["quiet:1", "unknown:1"] {
        presence
            .enter(11, &name(channel), &member("ann/1", "1"), false)
            .await;
        presence.leave(&name(channel), &member("ann/1", "1")).await;
        assert_eq!(lab.published(channel).await, 0, "{channel}");
    }
    assert!(presence.rooms.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_member_leaves_only_after_the_grace() {
    let lab = Lab::open();
    let presence = lab.boot("n-1");
    let ann = member("ann/1", "1");
    lab.claim(OWNER).await;
    presence
        .enter(OWNER.nonce, &name("room:1"), &ann, false)
        .await;
    presence.leave_later(session(), OWNER, ended("room:1", &ann));
    tokio::time::sleep(GRACE - Duration::from_millis(10)).await;
    assert_eq!(lab.keys("room:1").await, ["ann/1"]);
    after_the_grace().await;
    assert!(lab.keys("room:1").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_said_of_a_session_that_was_claimed_within_the_grace() {
    let lab = Lab::open();
    let presence = lab.boot("n-1");
    let ann = member("ann/1", "1");
    let next = Fence {
        attempt: 2,
        nonce: 22,
    };
    for is_here in [true, false] {
        lab.claim(OWNER).await;
        presence
            .enter(OWNER.nonce, &name("room:1"), &ann, false)
            .await;
        presence.leave_later(session(), OWNER, ended("room:1", &ann));
        lab.claim(next).await;
        if is_here {
            presence
                .enter(next.nonce, &name("room:1"), &ann, true)
                .await;
        }
        after_the_grace().await;
        assert_eq!(lab.keys("room:1").await, ["ann/1"]);
        assert_eq!(lab.published("room:1").await, 1);
        assert_eq!(
            presence.rooms.is_empty(),
            !is_here,
            "who lives elsewhere is not ours"
        );
        lab.store.remove(&session(), next).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_of_a_new_owner_stays_though_the_old_one_ended() {
    let lab = Lab::open();
    let presence = lab.boot("n-1");
    let ann = member("ann/1", "1");
    presence
        .enter(OWNER.nonce, &name("room:1"), &ann, false)
        .await;
    presence.leave_later(session(), OWNER, ended("room:1", &ann));
    presence.enter(22, &name("room:1"), &ann, true).await;
    after_the_grace().await;
    assert_eq!(lab.keys("room:1").await, ["ann/1"]);
}

#[tokio::test(start_paused = true)]
async fn a_restart_keeps_who_comes_back_and_removes_who_does_not() {
    let lab = Lab::open();
    let before = lab.boot("n-1");
    for room in ["room:1", "room:2"] {
        for number in 0..300 {
            let member = member(&format!("user/{number}"), "1");
            before.enter(number, &name(room), &member, false).await;
        }
    }
    drop(before);
    let presence = lab.boot("n-2");
    let ann = member("user/7", "1");
    presence.enter(7, &name("room:1"), &ann, true).await;
    assert_eq!(lab.published("room:1").await, 300, "it stands already");
    tokio::spawn(Arc::clone(&presence).run());
    tokio::time::sleep(GRACE - Duration::from_millis(10)).await;
    assert_eq!(
        lab.keys("room:1").await.len(),
        300,
        "they may still come back"
    );
    after_the_grace().await;
    assert_eq!(lab.keys("room:1").await, ["user/7"]);
    assert!(lab.keys("room:2").await.is_empty());
    presence
        .enter(8, &name("room:2"), &member("user/8", "1"), true)
        .await;
    assert_eq!(
        lab.keys("room:2").await,
        ["user/8"],
        "who comes late is said again"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_comes_back_during_the_sweep_stays() {
    let lab = Lab::open();
    for round in 0..10 {
        let channel = name(&format!("room:{round}"));
        let before = lab.boot("n-1");
        for number in 0..100 {
            let member = member(&format!("user/{number}"), "1");
            before.enter(number, &channel, &member, false).await;
        }
        let presence = lab.boot("n-2");
        let sweeping = {
            let presence = Arc::clone(&presence);
            tokio::spawn(async move { presence.sweep().await })
        };
        for number in 0..100 {
            let member = member(&format!("user/{number}"), "1");
            presence.enter(number, &channel, &member, true).await;
        }
        sweeping.await.unwrap().unwrap();
        assert_eq!(lab.keys(channel.as_str()).await.len(), 100);
    }
}

#[tokio::test(start_paused = true)]
async fn a_crowd_is_a_number_per_node() {
    let lab = Lab::open();
    let (one, two) = (lab.boot("n-1"), lab.boot("n-2"));
    let crowd = name("crowd:1");
    for number in 0..3 {
        let member = member(&format!("user/{number}"), "1");
        one.enter(number, &crowd, &member, false).await;
    }
    two.enter(9, &crowd, &member("user/9", "1"), false).await;
    let shown = lab.shown("crowd:1").await;
    assert_eq!((&*shown["n-1"], &*shown["n-2"]), ("{\"n\":3}", "{\"n\":1}"));
    one.leave(&crowd, &member("user/0", "1")).await;
    two.leave(&crowd, &member("user/9", "1")).await;
    let shown = lab.shown("crowd:1").await;
    assert_eq!(shown.len(), 1);
    assert_eq!(shown["n-1"], "{\"n\":2}");
    let published = lab.published("crowd:1").await;
    tokio::spawn(Arc::clone(&one).run());
    tokio::time::sleep(GRACE + 2 * COUNT_ROUND).await;
    assert!(
        lab.published("crowd:1").await >= published + 2,
        "said again and again"
    );
}

#[tokio::test(start_paused = true)]
async fn members_over_a_thousand_are_counted() {
    let lab = Lab::open();
    let presence = lab.boot("n-1");
    let room = name("room:1");
    for number in 0..LISTED_MAX as u64 + 2 {
        let member = member(&format!("user/{number}"), "1");
        presence.enter(number, &room, &member, false).await;
    }
    let shown = lab.shown("room:1").await;
    assert_eq!(shown.len(), LISTED_MAX + 1);
    assert_eq!(shown["n-1"], "{\"n\":2}");
    presence.leave(&room, &member("user/1000", "1")).await;
    assert_eq!(lab.shown("room:1").await["n-1"], "{\"n\":1}");
    presence.leave(&room, &member("user/1001", "1")).await;
    assert_eq!(lab.keys("room:1").await.len(), LISTED_MAX);
}
