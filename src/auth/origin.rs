//! Which web pages may connect.
//!
//! Called by `gateway` at the upgrade. A browser always says where a page came from; a program
//! without an Origin header is not a browser and proves itself by its token alone.

use std::net::IpAddr;

use reqwest::Url;

/// The origin check of one node.
#[derive(Debug, Clone)]
pub struct Origins {
    allowed: Option<Vec<String>>,
    loopback_only: bool,
}

/// An origin as browsers write it, lower-cased and without a default port; none where the text
/// is not one.
pub(super) fn normal(origin: &str) -> Option<String> {
    let url = Url::parse(origin).ok()?;
    let plain = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let bare = !origin.ends_with('/') && url.username().is_empty() && url.password().is_none();
    let origin = url.origin();
    (plain && bare && origin.is_tuple()).then(|| origin.ascii_serialization())
}

/// Host and port of a Host header; the port is the scheme's where none is written.
fn authority(scheme: &str, host: &str) -> Option<(String, Option<u16>)> {
    let url = Url::parse(&format!("{scheme}://{host}")).ok()?;
    let only_authority = url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none()
        && !host.ends_with('/');
    let name = url.host_str()?.to_owned();
    only_authority.then(|| (name, url.port_or_known_default()))
}

impl Origins {
    /// `allowed` as configured: none means pages of the node's own host alone. `loopback_only`
    /// is for development: then the Host must be this machine, so that a page elsewhere cannot
    /// reach it by pointing a name of its own here.
    pub fn new(allowed: Option<&[String]>, loopback_only: bool) -> Self {
        let allowed = allowed.map(|list| list.iter().filter_map(|origin| normal(origin)).collect());
        Self {
            allowed,
            loopback_only,
        }
    }

    /// Whether a request with these headers may connect.
    pub fn allows(&self, origin: Option<&str>, host: Option<&str>) -> bool {
        if self.loopback_only && !host.is_some_and(is_loopback) {
            return false;
        }
        let Some(origin) = origin else {
            return true;
        };
        let Some(origin) = normal(origin) else {
            return false;
        };
        match &self.allowed {
            Some(allowed) => allowed.contains(&origin),
            None => host.is_some_and(|host| same_host(&origin, host)),
        }
    }
}

fn same_host(origin: &str, host: &str) -> bool {
    let Some((scheme, origin_host)) = origin.split_once("://") else {
        return false;
    };
    let wanted = authority(scheme, origin_host);
    wanted.is_some() && wanted == authority(scheme, host)
}

fn is_loopback(host: &str) -> bool {
    let Some((name, _)) = authority("http", host) else {
        return false;
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost"
        || name.ends_with(".localhost")
        || bare
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}
