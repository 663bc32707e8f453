//! Files that readers see whole or not at all.

use std::error::Error;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::fcntl::OFlag;

/// The largest file that is read: no configuration and no lease is this large.
pub(crate) const LARGEST: u64 = 64 * 1024;

/// Reads a text of at most [`LARGEST`] bytes.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    read_up_to(path, LARGEST)
}

/// Reads a text of at most `largest` bytes from a regular file.
pub(crate) fn read_up_to(path: &Path, largest: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    append(path, largest, &mut bytes)?;
    String::from_utf8(bytes).map_err(not_utf8)
}

/// The error for a text of other bytes than UTF-8.
pub(crate) fn not_utf8(error: impl Into<Box<dyn Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Reads at most `largest` bytes from a regular file to the end of `bytes`. What stands there after a failure is of no use.
pub(crate) fn append(path: &Path, largest: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
    // Without O_NONBLOCK, opening a pipe without a writer would block.
    let file = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    if metadata.len() > largest {
        let size = metadata.len();
        return Err(io::Error::other(format!("it has {size} bytes: netd reads at most {} kB", largest / 1024)));
    }
    // With room for one byte more, two reads suffice: of the text, and of its end.
    bytes.reserve(usize::try_from(metadata.len()).unwrap_or_default() + 1);
    file.take(largest).read_to_end(bytes).map(drop)
}

/// Writes `contents` to `path` in one step, readable by everybody, whatever the umask. On failure the file is unchanged, and no other file
/// stays behind.
pub(crate) fn write(path: &Path, contents: &[u8]) -> io::Result<()> {
    put(path, contents, FILE)
}

/// The mode of a file that everybody may read.
pub(crate) const FILE: u32 = 0o644;
/// The mode of a program that everybody may run.
pub(crate) const PROGRAM: u32 = 0o755;

/// Writes a file of this mode in one step, in a directory that may be missing. A running program of this name goes on unchanged.
pub(crate) fn install(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    path.parent().map_or(Ok(()), make_folder)?;
    put(path, contents, mode)
}

/// Removes a file. False where there is none.
pub(crate) fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn put(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or_else(|| io::Error::other("it is no file's path"))?;
    let temporary = tempfile::Builder::new().prefix(&prefix(name)).suffix(SUFFIX).tempfile_in(folder);
    // The error names the temporary file, which nobody knows and which differs each time.
    let file = temporary.map_err(|error| io::Error::from(error.kind()))?;
    file.as_file().write_all(contents)?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    // The file is closed first: a program that is open for writing cannot be executed.
    file.into_temp_path().persist(path).map_err(|failed| failed.error)?;
    // The rename is on disk only after the directory is synced. Some file systems cannot do that; the file is complete either way.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

/// The prefix of temporary files. With a dot in front and no known suffix no program reads them as configuration.
fn prefix(name: &OsStr) -> String {
    format!(".{}.", name.to_string_lossy())
}

const SUFFIX: &str = "~";

/// Removes the temporary files of processes that were killed while they wrote `path`. Only the one writer of that file may call this.
pub(crate) fn sweep(path: &Path) {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return };
    let prefix = prefix(name);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let middle = name.to_str().and_then(|name| name.strip_prefix(&prefix)?.strip_suffix(SUFFIX));
        // `tempfile` adds six letters and digits; other files are not ours.
        if middle.is_some_and(|middle| middle.len() == 6 && middle.bytes().all(|byte| byte.is_ascii_alphanumeric())) {
            // A file that stays does no harm.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Makes a directory and its missing parents, readable by everybody, whatever the umask.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        make_folder(above)?;
    }
    match DirBuilder::new().mode(0o755).create(folder) {
        Ok(()) => fs::set_permissions(folder, Permissions::from_mode(0o755)),
        // Another daemon has made it.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
