//! Passwords and TLS: what opens the door, and what is said where it stays shut.

use std::path::PathBuf;

use super::{
    RedisServer, config, connect_with, counting, number, refusal, refusal_of, server::CERTIFICATE,
};
use crate::redis::{safety::Risk, tests::connect};

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

#[tokio::test]
async fn a_password_opens_and_a_wrong_one_is_named_but_not_shown() {
    let server = RedisServer::start(&["--requirepass", "hunter2"]);
    let port = server.port();
    let lab = connect(&format!("redis://:hunter2@127.0.0.1:{port}"), counting()).await;
    assert_eq!(number(&lab.redis.call(lab.count("a")).await.unwrap()), 1);
    let error = refusal(&format!("redis://:hunter3@127.0.0.1:{port}")).await;
    let text = chain(&error);
    assert!(text.to_lowercase().contains("password"), "{text}");
    assert!(!text.contains("hunter"), "{text}");
}

#[tokio::test]
async fn a_user_without_the_rights_of_an_administrator_is_enough() {
    let rights = "--user hub on >hunter2 ~{tw:* &{tw:* +@all -@dangerous +info";
    let server = RedisServer::start(&[rights]);
    let url = format!("redis://hub:hunter2@127.0.0.1:{}", server.port());
    let mut lab = connect(&url, counting()).await;
    lab.until_followed("a").await;
    assert_eq!(number(&lab.redis.call(lab.count("a")).await.unwrap()), 1);
    lab.hear("a", |number| number == 1).await;
    let findings = lab.redis.safety().borrow().clone();
    let risks: Vec<_> = findings.iter().map(|finding| finding.risk).collect();
    assert_eq!(risks, [Risk::Hidden]);
}

#[tokio::test]
async fn tls_is_checked_against_the_file_of_certificates() {
    let server = RedisServer::start_tls(&["--requirepass", "hunter2"]);
    let url = format!("rediss://:hunter2@localhost:{}", server.port());
    let (mut config, address) = config(&url);
    let text = chain(&refusal_of(&config, &address).await);
    assert!(text.contains("certificate"), "{text}");
    config.ca = Some(PathBuf::from(CERTIFICATE));
    let mut lab = connect_with(&config, &address, counting()).await;
    lab.until_followed("a").await;
    assert_eq!(number(&lab.redis.call(lab.count("a")).await.unwrap()), 1);
    lab.hear("a", |number| number == 1).await;
    config.ca = Some(PathBuf::from("/nowhere.pem"));
    let text = chain(&refusal_of(&config, &address).await);
    assert!(text.contains("redis.ca: /nowhere.pem"), "{text}");
}
