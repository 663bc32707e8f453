//! Which addresses an attachment has, without reading every reservation: `<dataDir>/.index/<network>/` with a symbolic
//! link for each attachment, whose target is the list of its addresses. A network's name cannot begin with a dot, so
//! the index is never taken for a network.
//!
//! The files decide. The index is used only while both directories have the same modification time, which the index has set
//! and which no later change of the directory can have. After a change by another plugin, or a crash between a reservation
//! and its link, the times differ, and the next holder of the lock builds the index anew.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

use super::directory::{Directory, fault, if_there};
use crate::attachment::{Attachment, Id, fnv1a};
use crate::cni_error::CniError;

/// The name of the link that is there once the files were compared with the node's pods. No attachment's link has it.
const COMPARED: &str = ":compared";
/// A file name's limit in every file system that we know.
const MAX_NAME: usize = 255;

#[derive(Debug)]
pub(super) struct Index {
    path: PathBuf,
}

impl Index {
    pub(super) fn of(data_dir: &Path, network: &Id) -> Self {
        Self { path: data_dir.join(".index").join(network.as_str()) }
    }

    /// Builds the index anew where it may differ from the files.
    pub(super) fn freshen(&self, directory: &Directory) -> Result<(), CniError> {
        let time = |path| fs::metadata(path).ok().map(|stat| (stat.mtime(), stat.mtime_nsec()));
        let (theirs, ours) = (time(&directory.path), time(&self.path));
        if theirs.is_some() && theirs == ours { Ok(()) } else { self.rebuild(directory) }
    }

    /// Reads every reservation. This is what makes the first use on a node of 20,000 pods take a while, and no other.
    pub(super) fn rebuild(&self, directory: &Directory) -> Result<(), CniError> {
        if_there(fs::remove_dir_all(&self.path)).map_err(fault("clear the index", &self.path))?;
        let create = DirBuilder::new().recursive(true).mode(0o755).create(&self.path);
        create.map_err(fault("create the index", &self.path))?;
        let mut links: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
        for address in directory.addresses()? {
            // A file that cannot be read has no owner that could ask for it; its address stays taken.
            if let Ok(Some(owner)) = directory.owner(address) {
                links.entry(link_name(&owner.container, &owner.ifname)).or_default().push(address);
            }
        }
        for (name, mut addresses) in links {
            addresses.sort();
            self.link(&name, &addresses)?;
        }
        self.seal(directory)
    }

    /// True where nobody but this plugin has changed the files since [`Index::set_compared`].
    pub(super) fn is_compared(&self) -> bool {
        fs::symlink_metadata(self.path.join(COMPARED)).is_ok()
    }

    /// Marks that each pod of the node has its reservation. Building the index anew takes the mark away.
    pub(super) fn set_compared(&self) -> Result<(), CniError> {
        let path = self.path.join(COMPARED);
        symlink("pods", &path).map_err(fault("write the index", &path))
    }

    /// The addresses of an attachment, or where it has none, of its container in reservations of old.
    pub(super) fn get(&self, attachment: &Attachment) -> Result<Vec<IpAddr>, CniError> {
        let container = attachment.container.as_str();
        let exact = self.read(&link_name(container, attachment.ifname.as_str()))?;
        if exact.is_empty() { self.read(&link_name(container, "")) } else { Ok(exact) }
    }

    pub(super) fn set(&self, attachment: &Attachment, addresses: &[IpAddr]) -> Result<(), CniError> {
        self.link(&link_name(attachment.container.as_str(), attachment.ifname.as_str()), addresses)
    }

    /// Removes what [`Index::get`] found.
    pub(super) fn remove(&self, attachment: &Attachment) -> Result<(), CniError> {
        for ifname in [attachment.ifname.as_str(), ""] {
            let path = self.path.join(link_name(attachment.container.as_str(), ifname));
            if if_there(fs::remove_file(&path)).map_err(fault("remove from the index", &path))?.is_some() {
                break;
            }
        }
        Ok(())
    }

    /// Marks that the index and the files agree. The kernel stamps a change with the time of its last tick, so the clock's finer
    /// reading is a time that no change before or after has.
    pub(super) fn seal(&self, directory: &Directory) -> Result<(), CniError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let stamp = TimeSpec::from_duration(now);
        for path in [&directory.path, &self.path] {
            utimensat(AT_FDCWD, path, &stamp, &stamp, UtimensatFlags::FollowSymlink)
                .map_err(|errno| fault("set the time of", path)(errno.into()))?;
        }
        Ok(())
    }

    fn link(&self, name: &str, addresses: &[IpAddr]) -> Result<(), CniError> {
        let path = self.path.join(name);
        let target = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let written = match symlink(&target, &path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                fs::remove_file(&path).and_then(|()| symlink(&target, &path))
            }
            other => other,
        };
        written.map_err(fault("write the index", &path))
    }

    fn read(&self, name: &str) -> Result<Vec<IpAddr>, CniError> {
        let path = self.path.join(name);
        let target = if_there(fs::read_link(&path)).map_err(fault("read the index", &path))?.unwrap_or_default();
        Ok(target.to_string_lossy().split(',').filter_map(|text| text.parse().ok()).collect())
    }
}

/// `container:interface`; neither can hold a colon. A text that cannot be a file name becomes `:` and a hash; two texts may
/// have one hash, so an address that is found by a hash counts only where its file agrees.
fn link_name(container: &str, ifname: &str) -> String {
    let name = format!("{container}:{ifname}");
    if name.len() <= MAX_NAME && !name.starts_with(['.', ':']) && !name.contains(['/', '\0']) {
        name
    } else {
        format!(":{:016x}", fnv1a(name.as_bytes()))
    }
}
