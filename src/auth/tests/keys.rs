//! API keys, session keys and origins.

use proptest::prelude::*;
use tidewire_protocol::Name;

use crate::{
    auth::{ApiKeyConfig, ApiKeys, Origins, Scope, SessionKeys},
    config::Secret,
};

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

#[test]
fn an_api_key_is_known_by_itself_or_by_its_hash() {
    let keys = ApiKeys::new(&[
        ApiKeyConfig {
            key: Some(secret("first")),
            key_sha256: None,
            scopes: vec![Scope::Publish],
        },
        ApiKeyConfig {
            key: None,
            key_sha256: Some(
                "BA7816BF8F01CFEA414140DE5DAE2223b00361a396177a9cb410ff61f20015ad".to_owned(),
            ),
            scopes: vec![Scope::Read, Scope::Manage],
        },
    ]);
    let first = keys.check("first").unwrap();
    assert!(first.allows(Scope::Publish) && !first.allows(Scope::Read));
    let second = keys.check("abc").unwrap();
    assert!(second.allows(Scope::Manage));
    assert_eq!(&**second.id(), "ba7816bf8f01");
    for wrong in [
        "",
        "firs",
        "First",
        "first ",
        "ba7816bf8f01",
        &"x".repeat(5_000),
    ] {
        assert!(keys.check(wrong).is_none(), "{wrong}");
    }
    assert!(!format!("{keys:?}").contains("first"));
}

#[test]
fn a_session_key_binds_session_user_and_issuer() {
    let keys = SessionKeys::new(&secret("s1"), None, Some("https://id"));
    let ada = Name::new("ada").unwrap();
    let key = keys.sign("s-1", Some(&ada));
    assert_eq!(key.len(), 43);
    assert!(keys.verify("s-1", Some(&ada), &key));
    assert!(!keys.verify("s-2", Some(&ada), &key));
    assert!(!keys.verify("s-1", Some(&Name::new("eve").unwrap()), &key));
    assert!(!keys.verify("s-1", None, &key));
    assert!(!keys.verify("s-1a", Some(&Name::new("da").unwrap()), &key));
    for issuer in [None, Some("https://other")] {
        let other = SessionKeys::new(&secret("s1"), None, issuer);
        assert!(!other.verify("s-1", Some(&ada), &key));
    }
}

#[test]
fn a_changed_secret_still_accepts_the_keys_of_the_one_before() {
    let old = SessionKeys::new(&secret("old"), None, None);
    let new = SessionKeys::new(&secret("new"), Some(&secret("old")), None);
    let alone = SessionKeys::new(&secret("new"), None, None);
    let key = old.sign("s", None);
    assert!(new.verify("s", None, &key));
    assert!(!alone.verify("s", None, &key));
    assert!(alone.verify("s", None, &new.sign("s", None)));
}

proptest! {
    #[test]
    fn no_other_text_is_a_session_key(guess in "\\PC{0,80}") {
        let keys = SessionKeys::new(&secret("s"), None, None);
        prop_assert!(!keys.verify("s", None, &guess));
    }
}

#[test]
fn a_page_of_another_host_may_not_connect() {
    let own = Origins::new(None, false);
    for (origin, host, allowed) in [
        (None, Some("hub.example.com"), true),
        (
            Some("https://hub.example.com"),
            Some("hub.example.com"),
            true,
        ),
        (
            Some("https://HUB.example.com"),
            Some("hub.example.com:443"),
            true,
        ),
        (Some("http://localhost:8080"), Some("localhost:8080"), true),
        (Some("http://[::1]:8080"), Some("[::1]:8080"), true),
        (Some("http://localhost:3000"), Some("localhost:8080"), false),
        (Some("https://evil.example"), Some("hub.example.com"), false),
        (
            Some("https://hub.example.com.evil.example"),
            Some("hub.example.com"),
            false,
        ),
        (
            Some("https://evil.example/hub.example.com"),
            Some("hub.example.com"),
            false,
        ),
        (
            Some("https://hub.example.com@evil.example"),
            Some("hub.example.com"),
            false,
        ),
        (Some("null"), Some("hub.example.com"), false),
        (Some("file://"), Some("hub.example.com"), false),
        (Some(""), Some("hub.example.com"), false),
        (Some("https://hub.example.com"), None, false),
        (
            Some("https://hub.example.com"),
            Some("hub.example.com/x"),
            false,
        ),
    ] {
        assert_eq!(own.allows(origin, host), allowed, "{origin:?} {host:?}");
    }
}

#[test]
fn a_list_of_origins_replaces_the_own_host() {
    let list = Origins::new(Some(&["https://app.example.com".to_owned()]), false);
    assert!(list.allows(Some("https://app.example.com"), Some("hub.example.com")));
    assert!(list.allows(Some("https://app.example.com:443"), None));
    assert!(!list.allows(Some("http://app.example.com"), Some("hub.example.com")));
    assert!(!list.allows(Some("https://hub.example.com"), Some("hub.example.com")));
    assert!(list.allows(None, None));
}

#[test]
fn in_development_a_foreign_name_for_this_machine_is_refused() {
    let dev = Origins::new(None, true);
    for host in [
        "localhost:8080",
        "127.0.0.1",
        "127.8.0.1:1",
        "[::1]:8080",
        "LOCALHOST",
    ] {
        assert!(dev.allows(None, Some(host)), "{host}");
    }
    for host in [
        "evil.example:8080",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "10.0.0.1",
    ] {
        assert!(
            !dev.allows(Some(&format!("http://{host}")), Some(host)),
            "{host}"
        );
    }
    assert!(!dev.allows(None, None));
}
