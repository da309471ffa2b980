//! Which names a pattern matches, and what namespaces add.

use proptest::prelude::*;
use tidewire_protocol::ChannelName;

use crate::{
    auth::{Right, Rights, rights::PATTERNS_MAX},
    config::Namespace,
};

const ALL: [Right; 4] = [Right::Sub, Right::Pub, Right::History, Right::Presence];

fn rights(patterns: &[(&str, &[Right])]) -> Rights {
    Rights::new(
        patterns
            .iter()
            .map(|(pattern, rights)| (*pattern, rights.to_vec())),
    )
    .unwrap()
}

fn allows(rights: &Rights, channel: &str, right: Right) -> bool {
    rights.allows(
        &Namespace::default(),
        &ChannelName::new(channel).unwrap(),
        right,
    )
}

#[test]
fn a_star_matches_to_the_end_of_the_name() {
    let rights = rights(&[
        ("chat:*", &[Right::Sub, Right::Pub]),
        ("orders:42", &[Right::History]),
    ]);
    assert!(allows(&rights, "chat:1", Right::Sub));
    assert!(allows(&rights, "chat:", Right::Pub));
    assert!(allows(&rights, "chat:a:b*c", Right::Pub));
    assert!(!allows(&rights, "chat:1", Right::History));
    assert!(!allows(&rights, "chat", Right::Sub));
    assert!(!allows(&rights, "Chat:1", Right::Sub));
    assert!(allows(&rights, "orders:42", Right::History));
    assert!(!allows(&rights, "orders:421", Right::History));
    assert!(!allows(&rights, "orders:42", Right::Sub));
}

#[test]
fn a_star_inside_a_pattern_is_a_star() {
    let rights = rights(&[("a*b", &[Right::Sub])]);
    assert!(allows(&rights, "a*b", Right::Sub));
    assert!(!allows(&rights, "axb", Right::Sub));
}

#[test]
fn names_of_the_hub_are_never_matched() {
    let rights = rights(&[
        ("*", &ALL),
        ("$*", &ALL),
        ("$sys:nodes", &ALL),
        ("$presence:x", &[Right::Pub]),
    ]);
    let open = Namespace {
        allow: ALL.to_vec(),
        ..Namespace::default()
    };
    for right in ALL {
        for name in [
            "$sys:nodes",
            "$sys:control",
            "$x",
            "$presence:$sys:nodes",
            "$presence:",
        ] {
            assert!(
                !rights.allows(&open, &ChannelName::new(name).unwrap(), right),
                "{name}"
            );
        }
    }
    assert!(!allows(&rights, "$presence:x", Right::Pub));
}

#[test]
fn presence_is_read_with_the_right_on_the_channel_it_is_about() {
    let seeing = rights(&[("chat:1", &[Right::Presence])]);
    assert!(allows(&seeing, "$presence:chat:1", Right::Sub));
    assert!(allows(&seeing, "$presence:chat:1", Right::History));
    assert!(!allows(&seeing, "$presence:chat:2", Right::Sub));
    let following = rights(&[("chat:1", &[Right::Sub, Right::Pub, Right::History])]);
    assert!(!allows(&following, "$presence:chat:1", Right::Sub));
}

#[test]
fn a_namespace_allows_without_a_claim() {
    let namespace = Namespace {
        allow: vec![Right::Sub],
        ..Namespace::default()
    };
    let nothing = Rights::default();
    let channel = ChannelName::new("news").unwrap();
    assert!(nothing.allows(&namespace, &channel, Right::Sub));
    assert!(!nothing.allows(&namespace, &channel, Right::Pub));
    assert!(!nothing.allows(&namespace, &channel.presence(), Right::Sub));
}

#[test]
fn more_patterns_than_a_decision_may_look_at_are_refused() {
    let many = |count| Rights::new((0..count).map(|_| ("a", vec![Right::Sub])));
    assert!(many(PATTERNS_MAX).is_some());
    assert!(many(PATTERNS_MAX + 1).is_none());
}

proptest! {
    #[test]
    fn without_a_star_a_pattern_matches_its_own_name_alone(
        pattern in "[a-c:$]{1,6}", name in "[a-c:$*]{1,6}",
    ) {
        let rights = rights(&[(&pattern, &ALL)]);
        let own = pattern == name && !name.starts_with('$');
        prop_assert_eq!(allows(&rights, &name, Right::Pub), own);
    }

    #[test]
    fn with_a_star_a_pattern_matches_what_begins_like_it(
        beginning in "[a-c:$]{0,4}", name in "[a-c:$*]{1,6}",
    ) {
        let rights = rights(&[(&format!("{beginning}*"), &ALL)]);
        let begins = name.starts_with(&beginning) && !name.starts_with('$');
        prop_assert_eq!(allows(&rights, &name, Right::Pub), begins);
    }
}
