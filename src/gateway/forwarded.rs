//! Whose connection it is where proxies stand between: `X-Forwarded-For`, believed of those alone
//! that the configuration names.
//!
//! Called by the upgrade, for the limit of an address. Never reads `Forwarded`: a proxy that adds
//! to one of the two headers hands the other on as the client wrote it.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

/// One hop a line or several; each proxy adds who connected to it at the end.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The address nearest to the client that a trusted proxy, or this node, has seen itself.
pub(super) fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let lines: Vec<&str> = headers
        .get_all(FORWARDED_FOR)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .collect();
    let mut hops = lines.iter().rev().flat_map(|line| line.rsplit(','));
    let mut address = peer.to_canonical();
    while trusted.iter().any(|network| network.contains(&address)) {
        let Some(hop) = hops.next().and_then(parse) else {
            break;
        };
        address = hop;
    }
    address
}

/// An address, with a port or without.
fn parse(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let address = hop.parse().ok();
    let address = address.or_else(|| Some(hop.parse::<SocketAddr>().ok()?.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From a proxy at 10.0.0.1, with 10.0.0.0/8 and fd00::/8 trusted.
    fn of(peer: &str, lines: &[&str]) -> String {
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap());
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, line.parse().unwrap());
        }
        client(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn a_trusted_proxy_says_whom_it_stands_for() {
        assert_eq!(of("10.0.0.1", &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(of("::ffff:10.0.0.1", &["203.0.113.9:4711"]), "203.0.113.9");
        assert_eq!(of("fd00::1", &["[2001:db8::7]:4711"]), "2001:db8::7");
        assert_eq!(of("10.0.0.1", &["203.0.113.9, 10.9.9.9"]), "203.0.113.9");
        assert_eq!(of("10.0.0.1", &["203.0.113.9", "10.9.9.9"]), "203.0.113.9");
        assert_eq!(of("10.0.0.1", &["10.1.1.1, 10.9.9.9"]), "10.1.1.1");
    }

    #[test]
    fn what_a_client_wrote_itself_is_not_believed() {
        assert_eq!(of("203.0.113.9", &["198.51.100.1"]), "203.0.113.9");
        let written = ["198.51.100.1, 203.0.113.9"];
        assert_eq!(of("10.0.0.1", &written), "203.0.113.9");
        assert_eq!(of("10.0.0.1", &["10.0.0.7", "203.0.113.9"]), "203.0.113.9");
        assert_eq!(of("10.0.0.1", &["unknown"]), "10.0.0.1");
        assert_eq!(of("10.0.0.1", &["198.51.100.1, , 10.0.0.2"]), "10.0.0.2");
        assert_eq!(of("10.0.0.1", &[]), "10.0.0.1");
    }
}
