//! The mark that distinguishes this daemon's objects from those of another daemon on the same host.
//!
//! Pure. Two daemons always have two subnet files, so the mark is made from the file's path.

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

/// The identity of the daemon with this subnet file, in these networks. `previous` is the file's text from an earlier run: the routes of
/// that run's networks are removed too.
pub fn of(subnet_file: &Path, networks: PerFamily<Prefix>, previous: &str) -> Identity {
    Identity { mark: mark(subnet_file), networks, former: subnet_env::previous_networks(previous) }
}
