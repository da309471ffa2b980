//! What commands that talk to a node have in common: its address and how to be let in.
//!
//! Used by `publish` and `tail`. On this machine the credentials of `tidewire dev` are found by
//! themselves.

use std::path::PathBuf;

use anyhow::{Context, bail};
use reqwest::Url;

use super::dev;

/// Where the node is.
#[derive(Debug, clap::Args)]
pub(super) struct Target {
    /// Address of the node.
    #[arg(long, default_value = "http://127.0.0.1:8080", env = "TIDEWIRE_URL")]
    pub(super) url: Url,
    /// Folder of `tidewire dev`, whose key and token are used on this machine when none is given.
    #[arg(long, default_value = "./tidewire-data", value_name = "FOLDER")]
    data_dir: PathBuf,
}

impl Target {
    #[cfg(test)]
    pub(super) fn at(url: &str) -> Self {
        Self {
            url: url.parse().unwrap(),
            data_dir: PathBuf::new(),
        }
    }

    /// The address of a path, by HTTP or, with `web_socket`, by WebSocket.
    pub(super) fn address(&self, path: &str, web_socket: bool) -> anyhow::Result<Url> {
        let mut url = self.url.join(path).context("--url is not an address")?;
        let scheme = match (url.scheme(), web_socket) {
            ("http" | "ws", false) => "http",
            ("http" | "ws", true) => "ws",
            ("https" | "wss", false) => "https",
            ("https" | "wss", true) => "wss",
            (other, _) => bail!("--url must begin with http or https, not {other}"),
        };
        if url.set_scheme(scheme).is_err() {
            bail!("--url must begin with http or https");
        }
        Ok(url)
    }

    /// The credentials `tidewire dev` keeps, where the node is on this machine and they exist.
    pub(super) fn development(&self) -> Option<dev::Credentials> {
        let host = self.url.host_str()?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let here = host == "localhost"
            || bare
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback());
        here.then(|| dev::Credentials::kept(&self.data_dir))
            .flatten()
    }
}
