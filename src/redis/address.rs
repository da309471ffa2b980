//! Where Redis is: the URL of `[redis]`, taken apart.
//!
//! Owns the five forms of the URL and how they are shown. Called by `config` and `connect`. Never
//! shows a password.

use std::fmt;

use crate::config::{
    Secret,
    setting::{Setting, quoted},
};

/// The port of a Redis that names none.
const REDIS_PORT: u16 = 6379;
/// The port of a Sentinel that names none.
const SENTINEL_PORT: u16 = 26379;
/// Most servers one URL may name: seeds to learn the others from.
const SEEDS_MAX: usize = 32;

/// Host and port of one server.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerAddress {
    /// Name or IP address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl ServerAddress {
    /// Reads `host:port`, `[v6]:port` or `v6:port`; without a port: `port`.
    pub(super) fn parse(text: &str, port: u16) -> Option<Self> {
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']')?;
            match rest.strip_prefix(':') {
                Some(digits) => (host, digits.parse().ok()?),
                None if rest.is_empty() => (host, port),
                None => return None,
            }
        } else if let Some((host, digits)) = text.rsplit_once(':') {
            (host, digits.parse().ok()?)
        } else {
            (text, port)
        };
        let sound = !host.is_empty() && !host.contains(['/', '@', '?', '#', ' ']);
        sound.then(|| Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// How the primaries are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topology {
    /// One server.
    Standalone,
    /// Sentinels are asked for the primary of this name.
    Sentinel(String),
    /// A Redis Cluster is asked for its slots.
    Cluster,
}

/// A URL of `[redis]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Address {
    /// How the primaries are found.
    pub topology: Topology,
    /// The servers named: the one, Sentinels, or members of the Cluster. At least one.
    pub seeds: Vec<ServerAddress>,
    /// Whether every connection is TLS.
    pub tls: bool,
    /// User of the ACL; none: `default`.
    pub user: Option<String>,
    /// Password; of Redis itself, Sentinels are asked without.
    pub password: Option<Secret>,
    /// Number of the database; 0 in a Cluster.
    pub database: u32,
}

impl Address {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let (scheme, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        let tls = match scheme {
            "redis" => false,
            "rediss" => true,
            _ => return None,
        };
        let (credentials, rest) = match rest.rsplit_once('@') {
            Some((credentials, rest)) => (Some(credentials), rest),
            None => (None, rest),
        };
        let (user, password) = match credentials {
            Some(credentials) => {
                let (user, password) = credentials.split_once(':')?;
                (percent_decoded(user)?, percent_decoded(password)?)
            }
            None => (String::new(), String::new()),
        };
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (topology, database) = match kind {
            "" => (Topology::Standalone, database(path)?),
            "sentinel" => {
                let (master, path) = path.split_once('/').unwrap_or((path, ""));
                let master = percent_decoded(master).filter(|name| !name.is_empty())?;
                (Topology::Sentinel(master), database(path)?)
            }
            "cluster" if path.is_empty() => (Topology::Cluster, 0),
            _ => return None,
        };
        let port = if matches!(topology, Topology::Sentinel(_)) {
            SENTINEL_PORT
        } else {
            REDIS_PORT
        };
        let seeds: Vec<_> = hosts
            .split(',')
            .map(|host| ServerAddress::parse(host, port))
            .collect::<Option<_>>()?;
        let most = if topology == Topology::Standalone {
            1
        } else {
            SEEDS_MAX
        };
        (1..=most).contains(&seeds.len()).then(|| Self {
            topology,
            seeds,
            tls,
            user: Some(user).filter(|user| !user.is_empty()),
            password: Some(password)
                .filter(|password| !password.is_empty())
                .map(Secret::new),
            database,
        })
    }
}

fn database(path: &str) -> Option<u32> {
    if path.is_empty() {
        Some(0)
    } else {
        path.parse().ok()
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// Without the password, and without the user too: what is needed to find the line that is wrong.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "rediss" } else { "redis" };
        let seeds: Vec<_> = self.seeds.iter().map(ServerAddress::to_string).collect();
        let seeds = seeds.join(",");
        let hidden = if self.user.is_some() || self.password.is_some() {
            "<redacted>@"
        } else {
            ""
        };
        match &self.topology {
            Topology::Standalone => write!(f, "{scheme}://{hidden}{seeds}")?,
            Topology::Sentinel(master) => {
                write!(f, "{scheme}+sentinel://{hidden}{seeds}/{master}")?;
            }
            Topology::Cluster => write!(f, "{scheme}+cluster://{hidden}{seeds}")?,
        }
        if self.database == 0 {
            Ok(())
        } else {
            write!(f, "/{}", self.database)
        }
    }
}

impl Setting for Address {
    const EXPECTED: &'static str = "a URL such as \"redis://:password@host:6379\", \"redis+sentinel://h1,h2,h3/master\" or \"redis+cluster://h1,h2\" (rediss:// for TLS)";
    const SECRET: bool = true;

    fn from_text(text: &str) -> Option<Self> {
        Self::parse(text)
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&self.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        Address::parse(text).map_or_else(|| "refused".to_owned(), |address| address.to_string())
    }

    #[test]
    fn every_form_of_the_url_is_read_and_shown_without_its_password() {
        let cases = [
            ("redis://localhost", "redis://localhost:6379"),
            ("redis://:p%40ss@h:1/3", "redis://<redacted>@h:1/3"),
            ("rediss://user:pass@h", "rediss://<redacted>@h:6379"),
            ("redis://[::1]:7000", "redis://[::1]:7000"),
            (
                "redis+sentinel://a,b:1,c/mm",
                "redis+sentinel://a:26379,b:1,c:26379/mm",
            ),
            (
                "rediss+sentinel://u:p@a/mm/2",
                "rediss+sentinel://<redacted>@a:26379/mm/2",
            ),
            (
                "redis+cluster://:p@a,b:7001",
                "redis+cluster://<redacted>@a:6379,b:7001",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(shown(text), expected);
        }
        let address = Address::parse("redis://u:p%40ss%3A@h").unwrap();
        assert_eq!(address.user.as_deref(), Some("u"));
        assert_eq!(address.password.unwrap().expose(), "p@ss:");
    }

    #[test]
    fn what_is_no_url_of_redis_is_refused() {
        let cases = [
            "",
            "redis://",
            "http://h",
            "redis://a,b",
            "redis+sentinel://a",
            "redis://h:port",
            "redis+cluster://a/1",
            "redis+ring://a",
            "redis://secret@h",
            "redis://h/one",
            "redis://:p%4@h",
        ];
        for text in cases {
            assert_eq!(shown(text), "refused", "{text}");
        }
    }
}
