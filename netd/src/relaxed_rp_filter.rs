//! The record of reverse-path filters that a change of the backend has relaxed: a file beside the subnet file, so both are of this boot.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use network::overlay::transition::Transition;

use crate::whole_file;

/// The file.
pub fn file(subnet_file: &Path) -> PathBuf {
    let mut name = subnet_file.as_os_str().to_owned();
    name.push(".loosened");
    name.into()
}

/// The filters that a daemon has relaxed and not restored: their former values, by sysctl.
pub fn read(subnet_file: &Path) -> BTreeMap<String, String> {
    let text = whole_file::read(&file(subnet_file)).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.split_once('='));
    // The sysctls in the file are written: nothing but these filters may be among them.
    let filters = lines.filter(|(key, value)| {
        key.starts_with("net/ipv4/conf/")
            && key.ends_with("/rp_filter")
            && !key.contains("..")
            && ["0", "1", "2"].contains(value)
    });
    filters.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// What a daemon has left to do of a change of the backend, for commands that run without the daemon.
pub fn transition(subnet_file: &Path) -> Transition {
    Transition { relaxed_rp_filter: read(subnet_file), ..Transition::default() }
}
