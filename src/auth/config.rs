//! Settings of authentication: token keys, origins, API keys.
//!
//! Read by `config`, used by the parts of `auth`.

use std::path::PathBuf;

use crate::config::{
    Secret,
    error::Problem,
    reader::Reader,
    setting::{ListItem, Section, section, words},
};

use super::rights::Right;

/// Most static token keys: each is tried for tokens without `kid`.
const KEYS_MAX: usize = 16;

/// `[auth]`: who clients are.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    /// See [`Source`].
    pub source: Source,
    /// `[[auth.keys]]`: public keys given here.
    pub keys: Vec<KeyConfig>,
}

impl std::ops::Deref for Config {
    type Target = Source;

    fn deref(&self) -> &Source {
        &self.source
    }
}

section! {
    /// The plain keys of `[auth]`.
    pub struct Source {
        /// Secret of HS256 tokens; at least 32 bytes are advised.
        hmac_secret: Option<Secret> = None,
        /// Address of the public keys of RS256, ES256 and EdDSA tokens; issuer and audience are required then.
        jwks_url: Option<String> = None,
        /// What a token's `iss` must be; unset: not looked at.
        issuer: Option<String> = None,
        /// What a token's `aud` must be or contain; unset: not looked at.
        audience: Option<String> = None,
        /// Let clients in without a token; they may do what a namespace allows and nothing else.
        anonymous: bool = false,
        /// Origins of web pages that may connect; unset: the node's own host. Programs that send no Origin are not browsers.
        allowed_origins: Option<Vec<String>> = None,
    }
}

impl Section for Config {
    fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            source: Source::read(reader),
            keys: reader.list("keys"),
        }
    }
}

words! {
    /// How tokens may be signed; each key has exactly one.
    pub enum KeyAlgorithm ("\"RS256\", \"ES256\" or \"EdDSA\"") {
        /// RSA with SHA-256.
        Rs256 = "RS256",
        /// ECDSA on P-256 with SHA-256.
        Es256 = "ES256",
        /// Ed25519.
        EdDsa = "EdDSA",
    }
}

section! {
    /// One public key for tokens.
    pub struct KeyConfig {
        /// Which tokens it is for: their `kid`; unset: those without one.
        kid: Option<String> = None,
        /// "RS256", "ES256" or "EdDSA"; required: a key never checks another algorithm.
        algorithm: Option<KeyAlgorithm> = None,
        /// The public key in PEM, or `path`.
        pem: Option<String> = None,
        /// File of the public key in PEM.
        path: Option<PathBuf> = None,
    }
}

words! {
    /// What an API key may be used for.
    pub enum Scope ("\"publish\", \"read\" or \"manage\"") {
        /// Publish.
        Publish = "publish",
        /// Read channels, history, state and presence.
        Read = "read",
        /// Everything that ends or deletes something, and the operator's page.
        Manage = "manage",
    }
}

impl ListItem for Scope {
    const LIST_EXPECTED: &'static str = "a list of \"publish\", \"read\", \"manage\"";
}

impl ListItem for Right {
    const LIST_EXPECTED: &'static str = "a list of \"sub\", \"pub\", \"history\", \"presence\"";
}

section! {
    /// One key of a backend.
    pub struct ApiKeyConfig {
        /// The key itself, or `key_sha256`.
        key: Option<Secret> = None,
        /// SHA-256 of the key in hexadecimal, so that the file holds no secret.
        key_sha256: Option<String> = None,
        /// What it may be used for: publish, read, manage.
        scopes: Vec<Scope> = Vec::new(),
    }
}

impl Config {
    /// What contradicts itself, with the dotted key.
    pub fn problems(&self) -> Vec<(String, Problem)> {
        let mut problems = Vec::new();
        let mut refuse =
            |key: &str, why| problems.push((format!("auth.{key}"), Problem::Rule(why)));
        if let Some(url) = &self.jwks_url {
            if self.issuer.is_none() {
                refuse(
                    "issuer",
                    "required with jwks_url: anyone's token of the same provider would pass",
                );
            }
            if self.audience.is_none() {
                refuse(
                    "audience",
                    "required with jwks_url: any application's token would pass",
                );
            }
            let address = reqwest::Url::parse(url);
            if !address.is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            {
                refuse("jwks_url", "must be an http or https address");
            }
        }
        if self.keys.len() > KEYS_MAX {
            refuse("keys", "at most 16 static keys");
        }
        for (index, key) in self.keys.iter().enumerate() {
            if key.algorithm.is_none() {
                refuse(
                    &format!("keys.{index}.algorithm"),
                    "required: the algorithm is tied to the key",
                );
            }
            if key.pem.is_some() == key.path.is_some() {
                refuse(&format!("keys.{index}.pem"), "give either pem or path");
            }
            if self
                .keys
                .iter()
                .take(index)
                .any(|other| other.kid == key.kid)
            {
                refuse(&format!("keys.{index}.kid"), "two keys have the same kid");
            }
        }
        for origin in self.allowed_origins.iter().flatten() {
            if super::origin::normal(origin).is_none() {
                refuse(
                    "allowed_origins",
                    "an origin is scheme://host[:port], such as https://app.example.com",
                );
            }
        }
        problems
    }
}

impl ApiKeyConfig {
    /// What contradicts itself, with the key inside its table.
    pub fn problems(&self) -> Vec<(&'static str, Problem)> {
        let mut problems = Vec::new();
        if self.key.is_some() == self.key_sha256.is_some() {
            problems.push(("key", Problem::Rule("give either key or key_sha256")));
        }
        let hash = self.key_sha256.as_deref();
        if hash.is_some_and(|text| super::api_keys::parse_sha256(text).is_none()) {
            problems.push(("key_sha256", Problem::Rule("must be 64 hexadecimal digits")));
        }
        if self.scopes.is_empty() {
            problems.push((
                "scopes",
                Problem::Rule("a key without scopes can do nothing"),
            ));
        }
        problems
    }
}
