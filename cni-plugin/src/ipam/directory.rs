//! host-local's directory: `<dataDir>/<network>/` with a file for each taken address, `last_reserved_ip.N` for each range
//! set and `lock`. Only the holder of the lock changes it.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::fcntl::{Flock, FlockArg};

use crate::attachment::{Attachment, Id};
use crate::cni_error::{CniError, Code};
use crate::regular_file;

/// Longer than any ADD takes.
const SETTLED: Duration = Duration::from_mins(5);
/// More than any owner is long.
const MAX_OWNER: u64 = 4096;

/// The locked directory.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) path: PathBuf,
    _lock: Flock<File>,
}

/// The owner of an address, as its file names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) container: String,
    /// Empty in files of old plugins.
    pub(super) ifname: String,
}

/// Adds the failed operation to the system's error.
pub(super) fn fault<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> CniError + 'a {
    move |error| CniError::new(Code::Io, format!("cannot {action} {}: {error}", path.display()))
}

/// The outcome of an operation on a file; `None` where there is no such file.
pub(super) fn if_there<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

impl Directory {
    pub(super) fn create(data_dir: &Path, network: &Id) -> Result<Self, CniError> {
        if let Some(directory) = Self::open(data_dir, network)? {
            return Ok(directory);
        }
        let path = data_dir.join(network.as_str());
        let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(&path);
        made.map_err(fault("create the directory of reservations", &path))?;
        let file = open_or_create(&path.join("lock"));
        Self::locked(path, file)
    }

    pub(super) fn open(data_dir: &Path, network: &Id) -> Result<Option<Self>, CniError> {
        let path = data_dir.join(network.as_str());
        let file = if_there(open_or_create(&path.join("lock"))).transpose();
        file.map(|file| Self::locked(path, file)).transpose()
    }

    fn locked(path: PathBuf, file: io::Result<File>) -> Result<Self, CniError> {
        let lock = path.join("lock");
        let file = file.map_err(fault("open the lock", &lock))?;
        let held = Flock::lock(file, FlockArg::LockExclusive);
        let held = held.map_err(|(_, errno)| fault("lock", &lock)(errno.into()))?;
        Ok(Self { path, _lock: held })
    }

    fn file(&self, address: IpAddr) -> PathBuf {
        self.path.join(address.to_string())
    }

    /// Writes the owner into the address's file where the address is free; false where another has it. An empty file is free: its writer died between
    /// creating and filling it, and there is no other writer while we hold the lock.
    pub(super) fn claim(&self, address: IpAddr, owner: &Attachment) -> Result<bool, CniError> {
        let path = self.file(address);
        let mut options = OpenOptions::new();
        options.write(true).mode(0o600);
        let file = match options.create_new(true).open(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let is_empty = fs::symlink_metadata(&path).is_ok_and(|file| file.is_file() && file.len() == 0);
                if !is_empty {
                    return Ok(false);
                }
                options.create_new(false).open(&path)
            }
            other => other,
        };
        let mut file = file.map_err(fault("reserve", &path))?;
        let written = file.write_all(format!("{}\r\n{}", owner.container, owner.ifname).as_bytes());
        if let Err(error) = written {
            // Half a reservation would name a wrong owner. The error to report is the failed write.
            let _ = fs::remove_file(&path);
            return Err(fault("write the reservation", &path)(error));
        }
        Ok(true)
    }

    /// Removes the address's file. One that is gone already is no error.
    pub(super) fn release(&self, address: IpAddr) -> Result<(), CniError> {
        let path = self.file(address);
        if_there(fs::remove_file(&path)).map(drop).map_err(fault("remove the reservation", &path))
    }

    /// The owner of the address; `None` where it is free.
    pub(super) fn owner(&self, address: IpAddr) -> Result<Option<Owner>, CniError> {
        let path = self.file(address);
        let mut content = Vec::new();
        let read = regular_file::open(&path).and_then(|file| file.take(MAX_OWNER).read_to_end(&mut content));
        let read = if_there(read).map_err(fault("read the reservation", &path))?;
        Ok(read.and_then(|_| owner_in(&content)))
    }

    /// True where the address was reserved before this time.
    pub(super) fn is_reserved_before(&self, address: IpAddr, time: SystemTime) -> bool {
        let reserved = fs::symlink_metadata(self.file(address)).and_then(|file| file.modified());
        reserved.is_ok_and(|reserved| reserved < time)
    }

    /// True where the attachment owns the address. A file of an old plugin names no interface and matches all of its container's.
    pub(super) fn is_of(&self, address: IpAddr, attachment: &Attachment) -> bool {
        self.owner(address).ok().flatten().is_some_and(|owner| {
            let is_ifname = owner.ifname.is_empty() || owner.ifname == attachment.ifname.as_str();
            owner.container == attachment.container.as_str() && is_ifname
        })
    }

    /// The address that was reserved last from a range set; `None` where the file cannot be read.
    pub(super) fn last(&self, set: usize) -> Option<IpAddr> {
        let mut text = String::new();
        regular_file::open(&self.last_file(set)).ok()?.take(64).read_to_string(&mut text).ok()?;
        text.trim().parse().ok()
    }

    /// Overwrites the file and truncates the rest. A file that is truncated first would be written to the disk on close: ext4
    /// takes that for the replacement of a document.
    pub(super) fn set_last(&self, set: usize, address: IpAddr) -> Result<(), CniError> {
        let path = self.last_file(set);
        let text = address.to_string();
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(&path);
        let write = |mut file: File| {
            file.write_all(text.as_bytes())?;
            let length = text.len() as u64;
            if file.metadata()?.len() > length { file.set_len(length) } else { Ok(()) }
        };
        file.and_then(write).map_err(fault("write the last address", &path))
    }

    fn last_file(&self, set: usize) -> PathBuf {
        self.path.join(format!("last_reserved_ip.{set}"))
    }

    /// Every address that has a file.
    pub(super) fn addresses(&self) -> Result<HashSet<IpAddr>, CniError> {
        addresses_in(&self.path)
    }
}

/// What was reserved before is by an ADD that is over: the node's start, or some minutes ago.
pub(super) fn settled() -> SystemTime {
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let uptime = uptime.split(' ').next().and_then(|seconds| Duration::try_from_secs_f64(seconds.parse().ok()?).ok());
    let now = SystemTime::now();
    now.checked_sub(uptime.unwrap_or(SETTLED).min(SETTLED)).unwrap_or(now)
}

/// Every address that has a file in a directory; none where there is no directory.
pub(super) fn addresses_in(path: &Path) -> Result<HashSet<IpAddr>, CniError> {
    let mut addresses = HashSet::new();
    for entry in if_there(fs::read_dir(path)).map_err(fault("list", path))?.into_iter().flatten() {
        let name = entry.map_err(fault("list", path))?.file_name();
        addresses.extend(name.to_str().and_then(|name| name.parse::<IpAddr>().ok()));
    }
    Ok(addresses)
}

/// Opens for reading, which is enough for a lock and works on a read-only file system.
fn open_or_create(path: &Path) -> io::Result<File> {
    match if_there(regular_file::open(path))? {
        Some(file) => Ok(file),
        None => OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path),
    }
}

/// The container, a line end of either kind, the interface.
fn owner_in(content: &[u8]) -> Option<Owner> {
    let text = String::from_utf8_lossy(content);
    let mut lines = text.trim().lines();
    let container = lines.next()?.trim().to_owned();
    Some(Owner { container, ifname: lines.next().unwrap_or_default().trim().to_owned() })
}
