//! Keys fetched from a real issuer on the loopback interface.

use std::{
    future::IntoFuture,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, http::StatusCode, routing::get};
use jsonwebtoken::{Algorithm, EncodingKey};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{Notify, Semaphore},
};
use tokio_util::task::AbortOnDropHandle;

use super::{NOW, Pair, sign};
use crate::auth::{AuthError, Authenticator, Config};

/// An issuer that counts how often it is asked.
struct Issuer {
    url: String,
    answer: Arc<Mutex<(StatusCode, String)>>,
    asked: Arc<AtomicUsize>,
    /// Without a permit the issuer does not answer.
    gate: Arc<Semaphore>,
    asking: Arc<Notify>,
    _serving: AbortOnDropHandle<std::io::Result<()>>,
}

impl Issuer {
    async fn new(document: Value) -> Self {
        let answer = Arc::new(Mutex::new((StatusCode::OK, document.to_string())));
        let asked = Arc::new(AtomicUsize::new(0));
        let gate = Arc::new(Semaphore::new(1));
        let asking = Arc::new(Notify::new());
        let route = {
            let (answer, asked) = (Arc::clone(&answer), Arc::clone(&asked));
            let (gate, asking) = (Arc::clone(&gate), Arc::clone(&asking));
            get(move || {
                asked.fetch_add(1, Ordering::SeqCst);
                asking.notify_one();
                let (answer, gate) = (answer.lock().clone(), Arc::clone(&gate));
                async move {
                    let _open = gate.acquire().await.unwrap();
                    answer
                }
            })
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let serving = axum::serve(listener, Router::new().route("/keys", route));
        Self {
            url,
            answer,
            asked,
            gate,
            asking,
            _serving: AbortOnDropHandle::new(tokio::spawn(serving.into_future())),
        }
    }

    fn answers(&self, status: StatusCode, text: String) {
        *self.answer.lock() = (status, text);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn authenticator(&self) -> Authenticator {
        let mut config = Config::default();
        config.source.jwks_url = Some(self.url.clone());
        config.source.issuer = Some("id".to_owned());
        config.source.audience = Some("hub".to_owned());
        Authenticator::new(&config).unwrap()
    }
}

fn document(keys: &[(&Pair, &str)]) -> Value {
    let keys: Vec<_> = keys
        .iter()
        .map(|(pair, kid)| serde_json::to_value(pair.jwk(kid)).unwrap())
        .collect();
    json!({ "keys": keys })
}

fn claims(now_ms: u64) -> Value {
    json!({"sub": "ada", "iss": "id", "aud": "hub", "exp": now_ms / 1_000 + 60})
}

#[tokio::test]
async fn keys_of_every_algorithm_are_fetched_once() {
    let (rsa, ec, ed) = (Pair::shared_rsa(), Pair::ec(), Pair::ed());
    let issuer = Issuer::new(document(&[(rsa, "r"), (&ec, "e"), (&ed, "d")])).await;
    let authenticator = issuer.authenticator();
    for (pair, kid) in [(rsa, "r"), (&ec, "e"), (&ed, "d")] {
        let token = pair.sign(Some(kid), &claims(NOW));
        assert!(authenticator.verify(&token, NOW).await.is_ok(), "{kid}");
        let token = pair.sign(None, &claims(NOW));
        assert!(
            authenticator.verify(&token, NOW).await.is_ok(),
            "{kid}, unnamed"
        );
    }
    let swapped = ec.sign(Some("d"), &claims(NOW));
    assert_eq!(
        authenticator.verify(&swapped, NOW).await,
        Err(AuthError::Algorithm)
    );
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn many_tokens_at_once_ask_the_issuer_once() {
    let pair = Pair::ed();
    let issuer = Issuer::new(document(&[(&pair, "a")])).await;
    let authenticator = issuer.authenticator();
    let token = pair.sign(Some("a"), &claims(NOW));
    let all = (0..50).map(|_| authenticator.verify(&token, NOW));
    let results = futures_util::future::join_all(all).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn a_new_key_is_found_and_an_unknown_one_costs_one_question_in_thirty_seconds() {
    let (old, new) = (Pair::ed(), Pair::ec());
    let issuer = Issuer::new(document(&[(&old, "old")])).await;
    let authenticator = issuer.authenticator();
    let old_token = old.sign(Some("old"), &claims(NOW + 600_000));
    assert!(authenticator.verify(&old_token, NOW).await.is_ok());

    issuer.answers(StatusCode::OK, document(&[(&new, "new")]).to_string());
    let new_token = new.sign(Some("new"), &claims(NOW));
    for _ in 0..20 {
        assert_eq!(
            authenticator.verify(&new_token, NOW + 29_999).await,
            Err(AuthError::UnknownKey)
        );
    }
    assert_eq!(issuer.asked(), 1);
    assert!(authenticator.verify(&new_token, NOW + 30_000).await.is_ok());
    assert_eq!(issuer.asked(), 2);
    assert_eq!(
        authenticator.verify(&old_token, NOW + 30_000).await,
        Err(AuthError::UnknownKey)
    );
    for guess in 0..20 {
        let forged = new.sign(Some(&format!("guess{guess}")), &claims(NOW));
        assert_eq!(
            authenticator.verify(&forged, NOW + 31_000).await,
            Err(AuthError::UnknownKey)
        );
    }
    assert_eq!(issuer.asked(), 2);
}

#[tokio::test]
async fn an_outage_of_the_issuer_is_survived_for_a_day() {
    let pair = Pair::ed();
    let issuer = Issuer::new(document(&[(&pair, "a")])).await;
    let authenticator = issuer.authenticator();
    assert!(
        authenticator
            .verify(&pair.sign(Some("a"), &claims(NOW)), NOW)
            .await
            .is_ok()
    );
    issuer.answers(StatusCode::INTERNAL_SERVER_ERROR, String::new());
    for hours in [1, 23] {
        let later = NOW + hours * 3_600_000;
        let token = pair.sign(Some("a"), &claims(later));
        assert!(
            authenticator.verify(&token, later).await.is_ok(),
            "after {hours} h"
        );
    }
    let later = NOW + 25 * 3_600_000;
    let token = pair.sign(Some("a"), &claims(later));
    assert_eq!(
        authenticator.verify(&token, later).await,
        Err(AuthError::KeysUnavailable)
    );
    assert_eq!(issuer.asked(), 4);
}

#[tokio::test]
async fn a_document_that_is_no_key_set_gives_no_keys() {
    let pair = Pair::ed();
    let token = pair.sign(Some("a"), &claims(NOW));
    let good = document(&[(&pair, "a")]).to_string();
    let huge = format!(
        "{{\"pad\":\"{}\",{}",
        "x".repeat(600_000),
        good.trim_start_matches('{')
    );
    for text in [
        String::new(),
        "[]".to_owned(),
        "{\"keys\":1}".to_owned(),
        huge,
    ] {
        let issuer = Issuer::new(json!({})).await;
        issuer.answers(StatusCode::OK, text);
        let authenticator = issuer.authenticator();
        assert_eq!(
            authenticator.verify(&token, NOW).await,
            Err(AuthError::KeysUnavailable)
        );
    }
}

#[tokio::test]
async fn keys_of_other_kinds_are_passed_over() {
    let pair = Pair::ec();
    let secret = b"a secret that the whole world can read";
    let mut encryption = serde_json::to_value(pair.jwk("enc")).unwrap();
    encryption["use"] = json!("enc");
    let mut other_algorithm = serde_json::to_value(Pair::shared_rsa().jwk("ps")).unwrap();
    other_algorithm["alg"] = json!("PS256");
    let symmetric = json!({"kty": "oct", "kid": "s", "alg": "HS256", "k": base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, secret)});
    let good = serde_json::to_value(pair.jwk("good")).unwrap();
    let issuer = Issuer::new(
        json!({"keys": [{"kty": "XYZ"}, 7, symmetric, encryption, other_algorithm, good]}),
    )
    .await;
    let authenticator = issuer.authenticator();
    assert!(
        authenticator
            .verify(&pair.sign(Some("good"), &claims(NOW)), NOW)
            .await
            .is_ok()
    );
    let forged = sign(
        Algorithm::HS256,
        Some("s"),
        &claims(NOW),
        &EncodingKey::from_secret(secret),
    );
    assert_eq!(
        authenticator.verify(&forged, NOW).await,
        Err(AuthError::Algorithm)
    );
    for kid in ["enc", "ps"] {
        let token = pair.sign(Some(kid), &claims(NOW));
        assert_eq!(
            authenticator.verify(&token, NOW).await,
            Err(AuthError::UnknownKey)
        );
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_take_the_answer_with_it() {
    let pair = Pair::ed();
    let issuer = Issuer::new(document(&[(&pair, "a")])).await;
    let authenticator = issuer.authenticator();
    let token = pair.sign(Some("a"), &claims(NOW));
    let closed = issuer.gate.acquire().await.unwrap();
    tokio::select! {
        _ = authenticator.verify(&token, NOW) => panic!("verified without an answer"),
        () = issuer.asking.notified() => {}
    }
    drop(closed);
    assert!(authenticator.verify(&token, NOW).await.is_ok());
    assert_eq!(issuer.asked(), 1);
}
