//! How this daemon's objects are told from those of another one on the same host.
//!
//! Pure. Two daemons always have two subnet files, so the mark follows from the file's path.

use std::path::Path;

use dataplane::types::{PerFamily, Prefix};
use network::hash::fnv;
use network::overlay::Identity;

use crate::subnet_env::{self, SUBNET_FILE};

/// `netd` for the usual subnet file, `netd-` and eight hexadecimal digits for another.
pub fn mark(subnet_file: &Path) -> String {
    if subnet_file == Path::new(SUBNET_FILE) {
        return "netd".to_owned();
    }
    let hash = fnv(subnet_file.as_os_str().as_encoded_bytes());
    format!("netd-{:08x}", hash >> 32 ^ hash & 0xffff_ffff)
}

/// The identity of the daemon with this subnet file, in these networks. `previous` is what an earlier run wrote into that
/// file: a route of its must not outlive the network that it led into.
pub fn of(subnet_file: &Path, networks: PerFamily<Prefix>, previous: &str) -> Identity {
    Identity { mark: mark(subnet_file), networks, former: subnet_env::previous_networks(previous) }
}
