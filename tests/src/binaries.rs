//! Where the programs under test are: named by the environment, else built beside the suite, else in `target/dist`.

use std::path::PathBuf;

use crate::failure::{Failure, Outcome, Told};

/// The daemon, or `NETD_BIN`.
///
/// # Errors
/// Where it was not built.
pub fn netd() -> Outcome<PathBuf> {
    find("netd", "NETD_BIN")
}

/// The plugin, or `NETD_CNI_BIN`.
///
/// # Errors
/// Where it was not built.
pub fn plugin() -> Outcome<PathBuf> {
    find("netd-cni", "NETD_CNI_BIN")
}

/// The daemon as `cargo build` makes it, which loads libraries, other than the one that ships.
///
/// # Errors
/// Where it was not built.
pub fn dynamic_netd() -> Outcome<PathBuf> {
    let itself = std::env::current_exe().told("find the suite's own file")?;
    // target/<profile>/deps/<suite>
    let path = itself.ancestors().nth(3).unwrap_or(&itself).join("debug/netd");
    crate::ensure!(path.is_file(), "{} was not built: run cargo build --package netd", path.display());
    Ok(path)
}

fn find(name: &str, variable: &str) -> Outcome<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return std::fs::canonicalize(&path).told(format!("find {name} at {variable}={}", path.display()));
    }
    let itself = std::env::current_exe().told("find the suite's own file")?;
    // target/<profile>/deps/<suite> or target/<profile>/<program>
    let folders = itself.ancestors().skip(1).take(2).map(PathBuf::from);
    let dist = itself.ancestors().find_map(|folder| Some(folder.join("dist")).filter(|dist| dist.is_dir()));
    folders
        .chain(dist)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| Failure::new(format!("{name} was not built: run scripts/build, or name the file in {variable}")))
}
