//! Which objects in the kernel belong to netd, for commands that run without the daemon.

use std::fs;
use std::path::Path;

use dataplane::types::{PerFamily, Prefix};
use network::net_conf::NetConf;
use network::overlay::Identity;

use crate::identity;
use crate::store::Store;

/// The pods' networks as configured now; none if the configuration cannot be read.
pub(crate) async fn networks(store: &Store) -> PerFamily<Prefix> {
    let conf = store.net_conf().await.ok().and_then(|text| NetConf::parse(&text).ok());
    conf.map(|(conf, _)| conf.prefixes()).unwrap_or_default()
}

/// The identity of the daemon with this subnet file, in these networks.
pub(crate) fn identity(subnet_file: &Path, networks: PerFamily<Prefix>) -> Identity {
    let previous = fs::read_to_string(subnet_file).unwrap_or_default();
    identity::of(subnet_file, networks, &previous)
}
