//! Tokens against keys that are configured.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use tidewire_protocol::{ChannelName, ErrorCode, limits::TOKEN_BYTES_MAX};

use super::{NOW, NOW_S, Pair, at_once, sign, with_keys};
use crate::{
    auth::{AuthError, Authenticator, Config, KeyError, Right, config::KeyConfig},
    config::{Namespace, Secret},
};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn hmac_config() -> Config {
    let mut config = Config::default();
    config.source.hmac_secret = Some(Secret::new(SECRET.to_owned()));
    config
}

fn hmac() -> Authenticator {
    Authenticator::new(&hmac_config()).unwrap()
}

fn hs256(claims: &Value) -> String {
    sign(
        Algorithm::HS256,
        None,
        claims,
        &EncodingKey::from_secret(SECRET.as_bytes()),
    )
}

fn valid() -> Value {
    json!({"sub": "ada", "exp": NOW_S + 60})
}

/// The valid claims with some replaced; null removes one.
fn but(changes: Value) -> Value {
    let mut claims = valid();
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
        .as_object_mut()
        .unwrap()
        .retain(|_, value| !value.is_null());
    claims
}

#[test]
fn a_token_says_who_and_what() {
    let token = hs256(&but(json!({
        "can": {"orders:42": ["sub"], "chat:*": ["sub", "pub"]},
        "subs": ["inbox:ada"], "jti": "t1", "extra": {"any": 1},
    })));
    let identity = at_once(&hmac(), &token).unwrap();
    assert_eq!(identity.user.unwrap().as_str(), "ada");
    assert_eq!(identity.expires_ms, Some(NOW + 60_000));
    assert_eq!(identity.subs, [ChannelName::new("inbox:ada").unwrap()]);
    assert_eq!(identity.token_id.unwrap().as_str(), "t1");
    let channel = ChannelName::new("chat:7").unwrap();
    assert!(
        identity
            .rights
            .allows(&Namespace::default(), &channel, Right::Pub)
    );
}

#[test]
fn each_algorithm_is_accepted_with_its_own_key() {
    for pair in [Pair::rsa(), Pair::ec(), Pair::ed()] {
        let authenticator = with_keys(vec![pair.config(Some("k"))]);
        assert!(at_once(&authenticator, &pair.sign(Some("k"), &valid())).is_ok());
        let nameless = with_keys(vec![pair.config(None)]);
        assert!(at_once(&nameless, &pair.sign(None, &valid())).is_ok());
    }
}

#[test]
fn times_are_checked_with_thirty_seconds_of_leeway() {
    let refused = [
        (json!({"exp": NOW_S - 30}), AuthError::Expired),
        (json!({"exp": 1}), AuthError::Expired),
        (json!({"nbf": NOW_S + 31}), AuthError::NotYetValid),
        (json!({"iat": NOW_S + 31}), AuthError::NotYetValid),
        (json!({"exp": null}), AuthError::Claim("exp")),
        (json!({"exp": -1}), AuthError::Claim("exp")),
        (json!({"exp": 1e300}), AuthError::Claim("exp")),
        (json!({"nbf": -5}), AuthError::Claim("nbf")),
        (json!({"exp": "tomorrow"}), AuthError::Malformed),
    ];
    for (changes, error) in refused {
        assert_eq!(
            at_once(&hmac(), &hs256(&but(changes.clone()))).unwrap_err(),
            error,
            "{changes}"
        );
    }
    for changes in [
        json!({"exp": NOW_S - 29}),
        json!({"nbf": NOW_S + 29, "iat": NOW_S + 29}),
        json!({"exp": 1_700_000_000.5}),
    ] {
        assert!(
            at_once(&hmac(), &hs256(&but(changes.clone()))).is_ok(),
            "{changes}"
        );
    }
}

#[test]
fn claims_that_are_missing_or_too_much_are_refused() {
    let many: Vec<_> = (0..257).map(|n| format!("c{n}")).collect();
    let patterns: Value = many
        .iter()
        .map(|name| (name.clone(), json!(["sub"])))
        .collect::<serde_json::Map<_, _>>()
        .into();
    for (changes, error) in [
        (json!({"sub": null}), AuthError::Claim("sub")),
        (json!({"sub": ""}), AuthError::Claim("sub")),
        (json!({"sub": "x".repeat(129)}), AuthError::Claim("sub")),
        (json!({"sub": 7}), AuthError::Malformed),
        (json!({"jti": "x".repeat(129)}), AuthError::Claim("jti")),
        (json!({"can": {"a": ["fly"]}}), AuthError::Claim("can")),
        (json!({"can": patterns}), AuthError::Claim("can")),
        (json!({"can": []}), AuthError::Malformed),
        (json!({"subs": many}), AuthError::Claim("subs")),
        (json!({"subs": ["$sys:nodes"]}), AuthError::Claim("subs")),
        (json!({"subs": [" x"]}), AuthError::Claim("subs")),
    ] {
        let got = at_once(&hmac(), &hs256(&but(changes.clone()))).unwrap_err();
        assert_eq!(got, error, "{changes}");
        assert_eq!(got.code(), ErrorCode::Unauthenticated);
    }
}

#[test]
fn issuer_and_audience_must_be_those_configured() {
    let mut config = hmac_config();
    config.source.issuer = Some("https://id".to_owned());
    config.source.audience = Some("hub".to_owned());
    let authenticator = Authenticator::new(&config).unwrap();
    let check = |changes| at_once(&authenticator, &hs256(&but(changes))).map(|_| ());
    assert_eq!(check(json!({"iss": "https://id", "aud": "hub"})), Ok(()));
    assert_eq!(
        check(json!({"iss": "https://id", "aud": ["other", "hub"]})),
        Ok(())
    );
    assert_eq!(check(json!({"aud": "hub"})), Err(AuthError::Issuer));
    assert_eq!(
        check(json!({"iss": "https://id/", "aud": "hub"})),
        Err(AuthError::Issuer)
    );
    assert_eq!(
        check(json!({"iss": "https://id"})),
        Err(AuthError::Audience)
    );
    assert_eq!(
        check(json!({"iss": "https://id", "aud": ["hubs"]})),
        Err(AuthError::Audience)
    );
}

#[test]
fn a_forged_token_is_refused() {
    let authenticator = hmac();
    let token = hs256(&valid());
    let (head, signature) = token.rsplit_once('.').unwrap();
    let (header, _) = head.split_once('.').unwrap();
    let other = URL_SAFE_NO_PAD.encode(but(json!({"sub": "root"})).to_string());
    let wrong_secret = sign(
        Algorithm::HS256,
        None,
        &valid(),
        &EncodingKey::from_secret(b"another secret of some length"),
    );
    let flipped = format!("{head}.{}", signature.chars().rev().collect::<String>());
    for forged in [
        format!("{header}.{other}.{signature}"),
        wrong_secret,
        flipped,
        format!("{head}."),
    ] {
        let error = at_once(&authenticator, &forged).unwrap_err();
        assert!(
            matches!(error, AuthError::Signature | AuthError::Malformed),
            "{error:?}"
        );
    }
    for garbage in [
        "",
        ".",
        "..",
        "a.b.c",
        "not a token",
        "\u{0}",
        &format!("{token}.x"),
        head,
    ] {
        let error = at_once(&authenticator, garbage).unwrap_err();
        assert!(
            matches!(error, AuthError::Malformed | AuthError::Signature),
            "{garbage:?}: {error:?}"
        );
    }
}

#[test]
fn alg_none_is_refused_in_every_spelling() {
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let header = URL_SAFE_NO_PAD.encode(json!({"typ": "JWT", "alg": alg}).to_string());
        let claims = URL_SAFE_NO_PAD.encode(valid().to_string());
        let error = at_once(&hmac(), &format!("{header}.{claims}.")).unwrap_err();
        assert_eq!(error, AuthError::Malformed, "{alg}");
    }
}

#[test]
fn a_public_key_used_as_an_hmac_secret_is_refused() {
    let pair = Pair::shared_rsa();
    let confused = EncodingKey::from_secret(pair.public_pem.as_bytes());
    for (configured, kid) in [(Some("k"), Some("k")), (None, None)] {
        let authenticator = with_keys(vec![pair.config(configured)]);
        let token = sign(Algorithm::HS256, kid, &valid(), &confused);
        assert_eq!(
            at_once(&authenticator, &token).unwrap_err(),
            AuthError::Algorithm
        );
    }
}

#[test]
fn another_algorithm_of_the_same_key_is_refused() {
    let pair = Pair::shared_rsa();
    let authenticator = with_keys(vec![pair.config(Some("k"))]);
    for algorithm in [Algorithm::RS384, Algorithm::RS512, Algorithm::PS256] {
        let token = sign(algorithm, Some("k"), &valid(), &pair.private);
        assert_eq!(
            at_once(&authenticator, &token).unwrap_err(),
            AuthError::Algorithm
        );
    }
    let secret = EncodingKey::from_secret(SECRET.as_bytes());
    let token = sign(Algorithm::HS512, None, &valid(), &secret);
    assert_eq!(at_once(&hmac(), &token).unwrap_err(), AuthError::Algorithm);
}

#[test]
fn an_unknown_kid_is_refused_even_when_the_signature_would_fit() {
    let pair = Pair::ed();
    let authenticator = with_keys(vec![pair.config(Some("k"))]);
    for kid in [Some("other"), Some("")] {
        assert_eq!(
            at_once(&authenticator, &pair.sign(kid, &valid())).unwrap_err(),
            AuthError::UnknownKey
        );
    }
    assert_eq!(
        at_once(&authenticator, &pair.sign(None, &valid())).unwrap_err(),
        AuthError::Algorithm
    );
    let secret = EncodingKey::from_secret(SECRET.as_bytes());
    let named = sign(Algorithm::HS256, Some("x"), &valid(), &secret);
    assert_eq!(at_once(&hmac(), &named).unwrap_err(), AuthError::UnknownKey);
}

#[test]
fn an_extension_nobody_understands_is_refused() {
    let header =
        URL_SAFE_NO_PAD.encode(json!({"alg": "HS256", "crit": ["b64"], "b64": false}).to_string());
    let token = format!(
        "{header}.{}.AAAA",
        URL_SAFE_NO_PAD.encode(valid().to_string())
    );
    assert_eq!(at_once(&hmac(), &token).unwrap_err(), AuthError::Malformed);
}

#[test]
fn an_oversized_token_is_refused_unread() {
    let token = hs256(&but(json!({"pad": "x".repeat(TOKEN_BYTES_MAX)})));
    assert_eq!(at_once(&hmac(), &token).unwrap_err(), AuthError::TooLarge);
}

#[tokio::test]
async fn without_a_token_only_an_anonymous_node_lets_in() {
    assert_eq!(hmac().identify(None, NOW).await, Err(AuthError::Missing));
    let mut config = hmac_config();
    config.source.anonymous = true;
    let open = Authenticator::new(&config).unwrap();
    let nobody = open.identify(None, NOW).await.unwrap();
    assert_eq!((nobody.user, nobody.expires_ms), (None, None));
    assert_eq!(
        open.identify(Some("junk"), NOW).await,
        Err(AuthError::Malformed)
    );
}

#[test]
fn a_key_that_is_none_is_refused_by_name() {
    let broken = KeyConfig {
        pem: Some("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----".to_owned()),
        ..Pair::ec().config(None)
    };
    let rsa_as_ec = KeyConfig {
        pem: Some(Pair::shared_rsa().public_pem.clone()),
        ..Pair::ec().config(None)
    };
    for key in [broken, rsa_as_ec] {
        let config = Config {
            keys: vec![key],
            ..Config::default()
        };
        let error = Authenticator::new(&config).unwrap_err();
        assert!(
            matches!(error, KeyError::NotAKey { index: 0, .. }),
            "{error:?}"
        );
    }
}
