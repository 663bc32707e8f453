//! Files that readers see whole or not at all.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

/// Puts `contents` at `path` in one step, readable by everybody, whatever the umask. On failure the file is as it was, and nothing
/// else stays behind.
pub(crate) fn write(path: &Path, contents: &[u8]) -> io::Result<()> {
    put(path, contents, 0o644)
}

/// The same for a program, which everybody may execute. One that runs under this name goes on as it is.
pub(crate) fn write_program(path: &Path, contents: &[u8]) -> io::Result<()> {
    put(path, contents, PROGRAM)
}

/// The mode of a program.
pub(crate) const PROGRAM: u32 = 0o755;

fn put(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or_else(|| io::Error::other("it is no file's path"))?;
    let mut file = tempfile::Builder::new().prefix(&prefix(name)).suffix(SUFFIX).tempfile_in(folder)?;
    file.write_all(contents)?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    // Closed first: a program that is open for writing cannot be executed.
    file.into_temp_path().persist(path).map_err(|failed| failed.error)?;
    // The rename itself is on disk only with the folder. Some file systems cannot do that, and the file is complete either way.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

/// A dot in front and no known suffix: nobody takes it for a configuration while it grows.
fn prefix(name: &OsStr) -> String {
    format!(".{}.", name.to_string_lossy())
}

const SUFFIX: &str = "~";

/// Removes what a process that was killed while it wrote `path` has left beside it. For the only one who writes that file.
pub(crate) fn sweep(path: &Path) {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return };
    let prefix = prefix(name);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let middle = name.to_str().and_then(|name| name.strip_prefix(&prefix)?.strip_suffix(SUFFIX));
        // Six letters and digits of its own are what `tempfile` puts there; anything else is somebody else's.
        if middle.is_some_and(|middle| middle.len() == 6 && middle.bytes().all(|byte| byte.is_ascii_alphanumeric())) {
            // It does no harm where it stays.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Makes a folder and those above it that are missing, open to everybody's reading, whatever the umask.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        make_folder(above)?;
    }
    match DirBuilder::new().mode(0o755).create(folder) {
        Ok(()) => fs::set_permissions(folder, Permissions::from_mode(0o755)),
        // Another daemon was quicker.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
