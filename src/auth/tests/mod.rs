//! What is let in and what is refused, with real keys and real signatures.

mod jwks;
mod keys;
mod rights;
mod token;

use std::{sync::OnceLock, task::Poll};

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rsa::{self, KeySize},
    signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};

use super::{
    AuthError, Authenticator, Config, Identity,
    config::{KeyAlgorithm, KeyConfig},
};

/// The time of every test, Unix ms.
const NOW: u64 = 1_700_000_000_000;
const NOW_S: u64 = NOW / 1_000;

/// A key pair drawn for the test.
struct Pair {
    algorithm: Algorithm,
    private: EncodingKey,
    public_pem: String,
}

fn pem(label: &str, der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let lines: Vec<_> = base64
        .as_bytes()
        .chunks(64)
        .map(|line| str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

impl Pair {
    fn rsa() -> Self {
        let pair = rsa::KeyPair::generate(KeySize::Rsa2048).unwrap();
        let private: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        Self {
            algorithm: Algorithm::RS256,
            private: EncodingKey::from_rsa_pem(pem("PRIVATE KEY", private.as_ref()).as_bytes())
                .unwrap(),
            public_pem: pem("PUBLIC KEY", public.as_ref()),
        }
    }

    fn ec() -> Self {
        let pair = EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        Self {
            algorithm: Algorithm::ES256,
            private: EncodingKey::from_ec_der(pair.to_pkcs8v1().unwrap().as_ref()),
            public_pem: pem("PUBLIC KEY", public.as_ref()),
        }
    }

    fn ed() -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        Self {
            algorithm: Algorithm::EdDSA,
            private: EncodingKey::from_ed_der(pair.to_pkcs8v1().unwrap().as_ref()),
            public_pem: pem("PUBLIC KEY", public.as_ref()),
        }
    }

    /// One RSA pair for all tests: drawing it takes a moment.
    fn shared_rsa() -> &'static Self {
        static PAIR: OnceLock<Pair> = OnceLock::new();
        PAIR.get_or_init(Self::rsa)
    }

    fn config(&self, kid: Option<&str>) -> KeyConfig {
        let name = format!("{:?}", self.algorithm);
        KeyConfig {
            kid: kid.map(str::to_owned),
            algorithm: KeyAlgorithm::parse(&name),
            pem: Some(self.public_pem.clone()),
            path: None,
        }
    }

    fn jwk(&self, kid: &str) -> Jwk {
        let mut jwk = Jwk::from_encoding_key(&self.private, self.algorithm).unwrap();
        jwk.common.key_id = Some(kid.to_owned());
        jwk
    }

    fn sign(&self, kid: Option<&str>, claims: &serde_json::Value) -> String {
        sign(self.algorithm, kid, claims, &self.private)
    }
}

fn sign(
    algorithm: Algorithm,
    kid: Option<&str>,
    claims: &serde_json::Value,
    key: &EncodingKey,
) -> String {
    let mut header = Header::new(algorithm);
    header.kid = kid.map(str::to_owned);
    jsonwebtoken::encode(&header, claims, key).unwrap()
}

/// Runs a verification that needs no fetching, so it may not wait.
fn at_once(authenticator: &Authenticator, token: &str) -> Result<Identity, AuthError> {
    let future = std::pin::pin!(authenticator.verify(token, NOW));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.poll(&mut context) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("verification without fetching waited"),
    }
}

fn with_keys(keys: Vec<KeyConfig>) -> Authenticator {
    let config = Config {
        keys,
        ..Config::default()
    };
    Authenticator::new(&config).unwrap()
}
