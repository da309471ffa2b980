//! `tidewire token`: makes tokens and looks into them.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use tidewire_protocol::{ChannelName, Name};

use super::{block_on, dev::Credentials, now_ms, output};
use crate::{
    auth::{
        self, Authenticator, Right, Rights,
        mint::{NewToken, hs256},
    },
    config::{
        self, Secret, Sources,
        units::{parse_duration, show_duration},
    },
};

/// Make a token, or look into one with --check.
///
/// The secret is --secret, else auth.hmac_secret of --config or of the environment, else that of
/// `tidewire dev` in --data-dir.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tidewire token --user ada --can 'chat:*=sub,pub' --can orders:42=sub
  tidewire token --user ada --can 'chat:*=sub' --subs inbox:ada --ttl 8h
  tidewire token --check eyJ… --config tidewire.toml")]
pub(super) struct Arguments {
    /// Whom the token is for.
    #[arg(long, required_unless_present = "check")]
    user: Option<String>,
    /// A right: PATTERN=sub,pub,history,presence; `*` at the end of the pattern matches any rest.
    #[arg(long, value_name = "PATTERN=RIGHTS", value_parser = parse_grant)]
    can: Vec<(String, Vec<Right>)>,
    /// How long it lives.
    #[arg(long, default_value = "1h", value_parser = parse_ttl)]
    ttl: Duration,
    /// A channel to be subscribed to without asking.
    #[arg(long, value_name = "CHANNEL")]
    subs: Vec<String>,
    /// The secret to sign with.
    #[arg(long, env = "TIDEWIRE_TOKEN_SECRET", hide_env_values = true)]
    secret: Option<String>,
    /// The configuration file of the node.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of `tidewire dev`.
    #[arg(long, default_value = "./tidewire-data", value_name = "FOLDER")]
    data_dir: PathBuf,
    /// Say what this token grants and whether the node takes it; exits with 1 if not.
    #[arg(long, value_name = "TOKEN", conflicts_with_all = ["user", "can", "subs"])]
    check: Option<String>,
}

fn parse_grant(text: &str) -> Result<(String, Vec<Right>), String> {
    let (pattern, words) = text
        .rsplit_once('=')
        .ok_or("write PATTERN=RIGHTS, such as 'chat:*=sub,pub'")?;
    let rights = words.split(',').map(|word| {
        Right::parse(word.trim())
            .ok_or_else(|| format!("{word:?} is no right; use sub, pub, history, presence"))
    });
    Ok((pattern.to_owned(), rights.collect::<Result<_, _>>()?))
}

fn parse_ttl(text: &str) -> Result<Duration, &'static str> {
    parse_duration(text).ok_or("write a duration such as 30m, 8h or 7d")
}

pub(super) fn run(mut arguments: Arguments) -> anyhow::Result<()> {
    let auth = settings(&mut arguments)?;
    match &arguments.check {
        Some(token) => check(token, &auth),
        None => make(arguments, &auth),
    }
}

/// The node's settings with the secret to use.
fn settings(arguments: &mut Arguments) -> anyhow::Result<auth::Config> {
    let mut auth = config::load(Sources::of_process(arguments.config.take()))?
        .config
        .auth;
    if let Some(secret) = arguments.secret.take() {
        auth.source.hmac_secret = Some(Secret::new(secret));
    }
    let nothing = auth.jwks_url.is_none() && auth.keys.is_empty();
    if auth.hmac_secret.is_none() && (nothing || arguments.check.is_none()) {
        let kept = Credentials::kept(&arguments.data_dir);
        let kept = kept.context("no secret: give --secret, --config or TIDEWIRE__AUTH__HMAC_SECRET, or run `tidewire dev` first")?;
        auth.source.hmac_secret = Some(kept.hmac_secret().clone());
    }
    Ok(auth)
}

fn make(arguments: Arguments, auth: &auth::Config) -> anyhow::Result<()> {
    let user = arguments.user.unwrap_or_default();
    Name::new(&user).context("--user")?;
    for channel in &arguments.subs {
        ChannelName::new(channel).with_context(|| format!("--subs {channel}"))?;
    }
    let mut can: BTreeMap<String, Vec<Right>> = BTreeMap::new();
    for (pattern, rights) in arguments.can {
        let all = can.entry(pattern).or_default();
        all.extend(rights);
        all.dedup();
    }
    let patterns = can
        .iter()
        .map(|(pattern, rights)| (pattern.as_str(), rights.clone()));
    if Rights::new(patterns).is_none() {
        bail!("--can: at most {} patterns", auth::rights::PATTERNS_MAX);
    }
    let now = now_ms() / 1_000;
    let token = NewToken {
        sub: user,
        iat: now,
        exp: now + arguments.ttl.as_secs(),
        iss: auth.issuer.clone(),
        aud: auth.audience.clone(),
        can,
        subs: arguments.subs,
    };
    let secret = auth
        .hmac_secret
        .as_ref()
        .context("no secret to sign with")?;
    output::line(&hs256(secret, &token)?)?;
    Ok(())
}

fn check(token: &str, auth: &auth::Config) -> anyhow::Result<()> {
    let token = token.trim();
    if let Ok(claims) = jsonwebtoken::dangerous::insecure_decode_claims::<serde_json::Value>(token)
    {
        output::line(&serde_json::to_string_pretty(&claims)?)?;
    }
    let authenticator = Authenticator::new(auth)?;
    let now = now_ms();
    let identity = block_on(async { Ok(authenticator.verify(token, now).await) })?;
    let identity = identity.context("a node with this configuration refuses the token")?;
    let user = identity.user.as_ref().map_or("nobody", Name::as_str);
    let left = identity.expires_ms.unwrap_or(now).saturating_sub(now) / 1_000;
    let left = show_duration(Duration::from_secs(left));
    output::note(&format!("accepted: user {user}, expires in {left}"));
    Ok(())
}
