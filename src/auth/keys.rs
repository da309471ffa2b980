//! Keys that check tokens, each tied to one algorithm.
//!
//! Called by `token` and `jwks`; says whether a signature is the key's, and never looks inside a
//! token.

use std::{io, path::PathBuf};

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey, crypto,
    jwk::{self, AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse},
};

use super::{
    AuthError,
    config::{KeyAlgorithm, KeyConfig},
};
use crate::config::Secret;

/// Why a configured key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read the key file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Not a public key of its algorithm in PEM.
    #[error("auth.keys.{index} is not a public key for {algorithm} in PEM")]
    NotAKey {
        /// Its place in the configuration.
        index: usize,
        /// The algorithm it was given for.
        algorithm: &'static str,
        /// What the parser said.
        #[source]
        source: jsonwebtoken::errors::Error,
    },
    /// The configuration names no algorithm for it.
    #[error("auth.keys.{index} has no algorithm or no key")]
    Incomplete {
        /// Its place in the configuration.
        index: usize,
    },
    /// The system offers no TLS roots or no resolver to fetch keys with.
    #[error("cannot set up fetching auth.jwks_url")]
    Fetching(#[source] reqwest::Error),
}

/// One key.
#[derive(Debug, Clone)]
pub(super) struct VerifyingKey {
    /// Which tokens it is for.
    pub(super) kid: Option<String>,
    /// The only algorithm it checks.
    pub(super) algorithm: Algorithm,
    material: Material,
}

/// A secret only ever checks what secrets sign, a public key only what private ones do.
#[derive(Debug, Clone)]
enum Material {
    /// Prepared once: setting it up costs as much as a signature.
    Secret(Box<hmac::Key>),
    Public(DecodingKey),
}

impl VerifyingKey {
    /// The key of HS256 tokens.
    pub(super) fn of_secret(secret: &Secret) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
        Self {
            kid: None,
            algorithm: Algorithm::HS256,
            material: Material::Secret(Box::new(key)),
        }
    }

    /// Checks the signature (base64url) of what was signed, with the key's own algorithm. Takes
    /// the same time for every wrong signature by a secret.
    ///
    /// # Errors
    /// `Signature`: it is not this key's. `Malformed`: it is none.
    pub(super) fn check(&self, signed: &str, signature: &str) -> Result<(), AuthError> {
        let fits = match &self.material {
            Material::Secret(key) => {
                let tag = URL_SAFE_NO_PAD.decode(signature);
                let tag = tag.map_err(|_not_base64| AuthError::Malformed)?;
                hmac::verify(key, signed.as_bytes(), &tag).is_ok()
            }
            Material::Public(key) => {
                let fits = crypto::verify(signature, signed.as_bytes(), key, self.algorithm);
                fits.map_err(|_no_signature| AuthError::Malformed)?
            }
        };
        fits.then_some(()).ok_or(AuthError::Signature)
    }
}

impl From<KeyAlgorithm> for Algorithm {
    fn from(algorithm: KeyAlgorithm) -> Self {
        match algorithm {
            KeyAlgorithm::Rs256 => Self::RS256,
            KeyAlgorithm::Es256 => Self::ES256,
            KeyAlgorithm::EdDsa => Self::EdDSA,
        }
    }
}

/// Reads a configured key.
pub(super) fn from_config(index: usize, config: &KeyConfig) -> Result<VerifyingKey, KeyError> {
    let pem = match (&config.pem, &config.path) {
        (Some(pem), _) => pem.clone(),
        (None, Some(path)) => {
            std::fs::read_to_string(path).map_err(|source| KeyError::Unreadable {
                path: path.clone(),
                source,
            })?
        }
        (None, None) => return Err(KeyError::Incomplete { index }),
    };
    let algorithm = config.algorithm.ok_or(KeyError::Incomplete { index })?;
    let parse = match algorithm {
        KeyAlgorithm::Rs256 => DecodingKey::from_rsa_pem,
        KeyAlgorithm::Es256 => DecodingKey::from_ec_pem,
        KeyAlgorithm::EdDsa => DecodingKey::from_ed_pem,
    };
    let key = parse(pem.as_bytes()).map_err(|source| KeyError::NotAKey {
        index,
        algorithm: algorithm.word(),
        source,
    })?;
    Ok(VerifyingKey {
        kid: config.kid.clone(),
        algorithm: algorithm.into(),
        material: Material::Public(key),
    })
}

/// Reads a key of a key set; none where it is not for signatures this hub takes. A symmetric key
/// in a public document is nobody's secret and is never used.
pub(super) fn from_jwk(jwk: &Jwk) -> Option<VerifyingKey> {
    let for_signatures = match &jwk.common.public_key_use {
        None | Some(PublicKeyUse::Signature) => true,
        Some(PublicKeyUse::Encryption | PublicKeyUse::Other(_)) => false,
    };
    if !for_signatures {
        return None;
    }
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the library's enum may grow; what is new is not taken"
    )]
    let (algorithm, named) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, jwk::KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(params) if params.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, jwk::KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(params) if params.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, jwk::KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    if jwk.common.key_algorithm.is_some_and(|given| given != named) {
        return None;
    }
    Some(VerifyingKey {
        kid: jwk.common.key_id.clone(),
        algorithm,
        material: Material::Public(DecodingKey::from_jwk(jwk).ok()?),
    })
}
