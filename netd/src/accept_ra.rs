//! The record of interfaces on which netd or its plugin has set `accept_ra` to 2, so that they keep their routers once IPv6 is forwarded: a file beside
//! the subnet file, so both are of this boot. Clean-up puts the former value back.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use dataplane::op::Op;
use netd_cni::conf::plugin_conf::accept_ra_file;

use crate::problem::{Kind, Problem};
use crate::whole_file;

/// The values before and after.
pub const VALUES: (&str, &str) = ("1", "2");

/// The file.
pub fn file(subnet_file: &Path) -> PathBuf {
    accept_ra_file(subnet_file)
}

fn is_ours(key: &str) -> bool {
    key.starts_with("net/ipv6/conf/") && key.ends_with("/accept_ra") && !key.contains("..")
}

/// The sysctls that a daemon has changed.
pub fn read(subnet_file: &Path) -> BTreeSet<String> {
    let text = whole_file::read(&file(subnet_file)).unwrap_or_default();
    // The sysctls in the file are written: nothing else may be among them.
    text.lines().filter(|key| is_ours(key)).map(str::to_owned).collect()
}

/// Writes down which of these sysctls a plan is about to change.
///
/// # Errors
/// Where that cannot be written, for a person.
pub fn remember(subnet_file: &Path, ops: &[Op]) -> Result<(), Problem> {
    let keys = ops.iter().filter_map(|op| match op {
        Op::SetSysctl { key, value } if is_ours(key) && value == VALUES.1 => Some(key.clone()),
        _ => None,
    });
    let former = read(subnet_file);
    let all: BTreeSet<String> = former.iter().cloned().chain(keys).collect();
    // A daemon that was killed between the file and the sysctl has written the key already.
    if all == former {
        return Ok(());
    }
    let path = file(subnet_file);
    let text: String = all.into_iter().flat_map(|key| [key, "\n".to_owned()]).collect();
    whole_file::install(&path, text.as_bytes(), whole_file::FILE).map_err(|error| {
        let detail = format!("cannot be written, so clean-up would not put accept_ra back: {error}");
        Problem::new(Kind::FileNotWritten, path.display().to_string(), detail)
    })
}
