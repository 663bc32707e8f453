//! Which objects in the kernel belong to netd, for commands that run without the daemon.

use network::net_conf::NetConf;
use network::overlay::Identity;

use crate::config::Config;
use crate::identity;
use crate::store::Store;
use crate::whole_file;

/// The identity of the daemon with this subnet file, in the networks as configured now; in none if the configuration cannot be read.
pub(crate) async fn identity(config: &Config, store: &Store) -> Identity {
    let conf = store.net_conf().await.ok().and_then(|text| NetConf::parse(&text).ok());
    let networks = conf.map(|(conf, _)| conf.prefixes()).unwrap_or_default();
    let previous = whole_file::read(&config.subnet_file).unwrap_or_default();
    identity::of(&config.subnet_file, networks, &previous)
}
