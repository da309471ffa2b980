//! `tidewire dev`: everything on one machine with nothing to configure.
//!
//! Owns the development settings and the credentials kept in the data folder.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

use super::{now_ms, output, serve};
use crate::{
    auth::{
        ApiKeyConfig, Right, Scope,
        mint::{NewToken, hs256},
    },
    config::{
        self, Config, Secret, Sources,
        secret::{self, SecretError},
    },
};

/// Files in the data folder.
const HMAC_FILE: &str = "dev_hmac_secret";
const API_KEY_FILE: &str = "dev_api_key";
/// How long a token that is printed at the start lives: a day of work.
const TOKEN_TTL_S: u64 = 24 * 3_600;

/// Run everything on this machine with no configuration.
///
/// Embedded storage, a demo page at /, development key and token printed. Not for production:
/// use `serve` there.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tidewire dev
  tidewire dev --listen 127.0.0.1:9000 --data-dir /tmp/tide")]
pub(super) struct Arguments {
    /// Address to listen on [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Folder of the embedded storage and the development keys [default: ./tidewire-data].
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<String>,
}

/// What lets a program into a development node.
#[derive(Debug)]
pub(super) struct Credentials {
    hmac_secret: Secret,
    /// A key with every scope.
    pub(super) api_key: Secret,
}

impl Credentials {
    fn load_or_create(folder: &Path) -> Result<Self, SecretError> {
        Ok(Self {
            hmac_secret: secret::load_or_create(folder, HMAC_FILE)?,
            api_key: secret::load_or_create(folder, API_KEY_FILE)?,
        })
    }

    /// Those of a development node that ran with this folder; nothing is created.
    pub(super) fn kept(folder: &Path) -> Option<Self> {
        let here = [HMAC_FILE, API_KEY_FILE]
            .iter()
            .all(|name| folder.join(name).is_file());
        here.then(|| Self::load_or_create(folder).ok()).flatten()
    }

    /// The secret that signs development tokens.
    pub(super) const fn hmac_secret(&self) -> &Secret {
        &self.hmac_secret
    }

    /// A token that may do everything.
    pub(super) fn token(&self, user: &str) -> anyhow::Result<String> {
        let now = now_ms() / 1_000;
        let all = vec![Right::Sub, Right::Pub, Right::History, Right::Presence];
        let token = NewToken {
            sub: user.to_owned(),
            iat: now,
            exp: now + TOKEN_TTL_S,
            can: [("*".to_owned(), all)].into(),
            ..NewToken::default()
        };
        Ok(hs256(&self.hmac_secret, &token)?)
    }
}

pub(super) fn run(arguments: Arguments) -> anyhow::Result<()> {
    let sources = Sources {
        built_in: Some(("tidewire dev", include_str!("dev.toml"))),
        ..Sources::of_process(None)
    };
    let sources = sources.flag("listen", "--listen", arguments.listen).flag(
        "data_dir",
        "--data-dir",
        arguments.data_dir,
    );
    let mut config = config::load(sources)?.config;
    let credentials = Credentials::load_or_create(&config.node.data_dir)?;
    adopt(&mut config, &credentials);
    let greeting = Greeting {
        token: credentials.token("dev")?,
        api_key: credentials.api_key.clone(),
        data_dir: config.node.data_dir.display().to_string(),
    };
    serve::run(config, |address| Ok(output::line(&greeting.text(address))?))
}

/// Lets the kept credentials in, beside whatever the environment set.
fn adopt(config: &mut Config, credentials: &Credentials) {
    config.development = true;
    let secret = &mut config.auth.source.hmac_secret;
    if secret.is_none() {
        *secret = Some(credentials.hmac_secret.clone());
    }
    config.api_keys.push(ApiKeyConfig {
        key: Some(credentials.api_key.clone()),
        key_sha256: None,
        scopes: vec![Scope::Publish, Scope::Read, Scope::Manage],
    });
}

struct Greeting {
    token: String,
    api_key: Secret,
    data_dir: String,
}

impl Greeting {
    fn text(&self, address: SocketAddr) -> String {
        let shown = if address.ip().is_unspecified() {
            SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port())
        } else {
            address
        };
        let url = format!("http://{shown}");
        let mut options = String::new();
        if url != "http://127.0.0.1:8080" {
            options.push_str(&format!(" --url {url}"));
        }
        if self.data_dir != "./tidewire-data" {
            options.push_str(&format!(" --data-dir {}", self.data_dir));
        }
        format!(
            "
  Tidewire is ready.

  Demo      {url}/
  Operator  {url}/admin
  Connect   ws://{shown}/v1/connect
  API key   {key}
  Token     {token}
            (user dev, everything, for a day)
  Data      {data}

  Try, in another terminal:
    tidewire tail orders:42 --state{options}
    tidewire publish orders:42 '{{\"at\":\"gate\"}}' --key status{options}
    tidewire token --user ada --can 'chat:*=sub,pub'{data_option}
    curl {url}/v1/publish -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \\
      -d '{{\"channel\":\"orders:42\",\"key\":\"status\",\"data\":\"delivered\"}}'
",
            key = self.api_key.expose(),
            token = self.token,
            data = self.data_dir,
            data_option = if self.data_dir == "./tidewire-data" {
                String::new()
            } else {
                format!(" --data-dir {}", self.data_dir)
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use tidewire_protocol::ChannelName;

    use super::*;
    use crate::auth::{ApiKeys, Authenticator};

    #[tokio::test]
    async fn what_is_printed_lets_in_and_is_the_same_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let sources = Sources {
            built_in: Some(("tidewire dev", include_str!("dev.toml"))),
            ..Sources::default()
        };
        let mut config = config::load(sources).unwrap().config;
        assert!(Credentials::kept(folder.path()).is_none());
        let credentials = Credentials::load_or_create(folder.path()).unwrap();
        adopt(&mut config, &credentials);
        let again = Credentials::kept(folder.path()).unwrap();
        let authenticator = Authenticator::new(&config.auth).unwrap();
        let token = again.token("dev").unwrap();
        let identity = authenticator.verify(&token, now_ms()).await.unwrap();
        let channel = ChannelName::new("orders:42").unwrap();
        let orders = config.namespaces.resolve(&channel).unwrap();
        assert!(orders.state && orders.history_size == 1000);
        assert!(identity.rights.allows(orders, &channel, Right::Pub));
        let keys = ApiKeys::new(&config.api_keys);
        assert!(
            keys.check(again.api_key.expose())
                .unwrap()
                .allows(Scope::Manage)
        );
    }
}
