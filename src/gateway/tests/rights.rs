//! A node that cannot tell which tokens were withdrawn decides nothing about rights.

use std::time::Duration;

use tidewire_protocol::{
    ChannelName, Encoding,
    command::{Fallback, Mode, Sub},
};

use super::client::Lab;
use crate::{
    auth::{AuthError, mint},
    clock,
    config::Secret,
    control::VERIFIED_MAX,
    gateway::subscribe::{Wanted, subscribe},
    lab::Cluster,
};

fn token() -> String {
    let secret = Secret::new("a secret of tests that is long enough for HS256".to_owned());
    let token = mint::NewToken {
        sub: "ann".to_owned(),
        exp: clock::now_ms() / 1000 + 600,
        ..mint::NewToken::default()
    };
    mint::hs256(&secret, &token).unwrap()
}

fn wanted(channel: &str) -> Vec<Wanted> {
    let sub = Sub {
        i: Some(7),
        channel: ChannelName::new(channel).unwrap(),
        position: None,
        fallback: Fallback::Now,
        mode: Mode::Every,
        hz: None,
        me: None,
    };
    vec![Wanted::from(sub)]
}

#[tokio::test]
async fn hello_refresh_and_subscription_are_refused_until_orders_were_compared_again() {
    let cluster = Cluster::open();
    let (lab, link) = Lab::start_over(&cluster).await;
    let gateway = lab.gateway();
    let (connection, _reader, _client) = lab.accept(Encoding::Json).await;
    assert!(gateway.identify(Some(&token())).await.is_ok());
    subscribe(&connection, wanted("a")).await;
    let subscriptions = || connection.with_session(|session| session.len());
    assert_eq!(subscriptions(), Some(1));
    link.cut(true);
    tokio::time::pause();
    tokio::time::advance(VERIFIED_MAX + Duration::from_secs(1)).await;
    tokio::time::resume();
    let refused = gateway.identify(Some(&token())).await;
    assert_eq!(refused.unwrap_err(), AuthError::Unverified);
    // The broker is back, but the orders were not compared yet.
    subscribe(&connection, wanted("b")).await;
    assert_eq!(subscriptions(), Some(1), "nothing was begun");
    link.cut(false);
    let verified = async {
        while !gateway.control.is_verified() {
            tokio::task::yield_now().await;
        }
    };
    let in_time = tokio::time::timeout(super::client::PATIENCE, verified).await;
    in_time.expect("orders are compared again");
    subscribe(&connection, wanted("b")).await;
    assert_eq!(subscriptions(), Some(2));
    lab.stop().await;
}
