//! Questions to a Redis server by the tests themselves: a fresh connection for each, with a
//! deadline, so that a frozen server cannot stop a scenario.

use std::{collections::BTreeMap, time::Duration};

use redis::{AsyncConnectionConfig, Client, FromRedisValue, RedisError};

/// Enough for a busy server, short for one that hangs.
const DEADLINE: Duration = Duration::from_secs(2);

/// A command of words, answered by the server at this port.
pub async fn ask<T: FromRedisValue>(port: u16, words: &[&str]) -> Result<T, RedisError> {
    ask_within(port, words, DEADLINE).await
}

/// As [`ask`], for commands that take longer.
pub async fn ask_within<T: FromRedisValue>(
    port: u16,
    words: &[&str],
    deadline: Duration,
) -> Result<T, RedisError> {
    let client = Client::open(format!("redis://127.0.0.1:{port}"))?;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(deadline))
        .set_response_timeout(Some(deadline));
    let mut connection = client
        .get_multiplexed_async_connection_with_config(&config)
        .await?;
    let mut command = redis::cmd(words[0]);
    for word in &words[1..] {
        command.arg(*word);
    }
    command.query_async(&mut connection).await
}

/// The fields of `INFO section`; empty where the server does not answer.
pub async fn info(port: u16, section: &str) -> BTreeMap<String, String> {
    let text: String = ask(port, &["INFO", section]).await.unwrap_or_default();
    text.lines()
        .filter_map(|line| line.trim().split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Waits until a condition holds; `what` says which in the panic of one that never does.
pub async fn until<F: Future<Output = bool>>(
    what: &str,
    patience: Duration,
    mut holds: impl FnMut() -> F,
) {
    const POLL: Duration = Duration::from_millis(25);
    let wait = async {
        while !holds().await {
            tokio::time::sleep(POLL).await;
        }
    };
    let in_time = tokio::time::timeout(patience, wait).await;
    assert!(in_time.is_ok(), "not within {patience:?}: {what}");
}
