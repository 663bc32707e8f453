//! Where the programs under test are: named by the environment, else built beside the suite, else in `target/dist`.

use std::path::PathBuf;
use std::process::Command;

use crate::executable;
use crate::failure::{Context, Failure, Outcome};
use crate::suite;

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

/// The proxy of Services, or `NETD_PROXY_BIN`.
///
/// # Errors
/// Where it was not built.
pub fn proxy() -> Outcome<PathBuf> {
    find("netd-proxy", "NETD_PROXY_BIN")
}

/// The daemon as `cargo build` makes it, which loads libraries, other than the one that ships.
///
/// # Errors
/// Where it was not built.
pub fn dynamic_netd() -> Outcome<PathBuf> {
    let itself = std::env::current_exe().context("find the suite's own file")?;
    // target/<profile>/deps/<suite>
    let path = itself.ancestors().nth(3).unwrap_or(&itself).join("debug/netd");
    crate::ensure!(path.is_file(), "{} was not built: run cargo build --package netd", path.display());
    Ok(path)
}

/// Set, it names another build of netd than the one under test, such as the last release's.
const OTHER: &str = "NETD_OTHER_BIN";

/// Builds what [`other_netd`] gives; to be called where the network is. Where the program under test is not the one that
/// `cargo build` makes, that is the other. Else it is the same source, optimised; that takes longer, and which of both it is
/// is known when the suite runs, so it is not made beforehand.
///
/// # Errors
/// Where it cannot be built.
pub fn prepare_other_netd() -> Outcome {
    if std::env::var_os(OTHER).is_some() {
        return Ok(());
    }
    if !suite::prepares_only() && dynamic_netd().is_ok_and(|dynamic| netd().is_ok_and(|tested| tested == dynamic)) {
        cargo_build(&["--config", "profile.dev.package.netd.opt-level=1"])?;
        let built = dynamic_netd()?;
        let kept = built.with_file_name("netd-other");
        // By rename, so that one which is there is whole.
        let growing = kept.with_extension(std::process::id().to_string());
        executable::copy(&built, &growing)?;
        std::fs::rename(&growing, &kept).context("keep another build of netd")?;
    }
    cargo_build(&[])
}

/// Another build than the one under test: named by `NETD_OTHER_BIN`, else the one that [`prepare_other_netd`] has made.
///
/// # Errors
/// Where there is none, or it is the same program.
pub fn other_netd() -> Outcome<PathBuf> {
    let tested = netd()?;
    let other = match std::env::var_os(OTHER) {
        Some(path) => std::fs::canonicalize(&path).context(format!("find {OTHER}={}", path.display()))?,
        None => match dynamic_netd()? {
            dynamic if dynamic == tested => tested.with_file_name("netd-other"),
            dynamic => dynamic,
        },
    };
    let read = |path: &PathBuf| std::fs::read(path).context(format!("read {}", path.display()));
    crate::ensure!(read(&tested)? != read(&other)?, "{} is the same as {}", other.display(), tested.display());
    Ok(other)
}

/// Builds the daemon as `cargo build` makes it.
///
/// # Errors
/// Where it cannot be built.
pub fn cargo_build(arguments: &[&str]) -> Outcome {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--quiet", "--package", "netd", "--bin", "netd"]);
    command.args(arguments);
    crate::namespace::printed("cargo build --package netd", &command.output().context("run cargo")?).map(drop)
}

fn find(name: &str, variable: &str) -> Outcome<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return std::fs::canonicalize(&path).context(format!("find {name} at {variable}={}", path.display()));
    }
    let itself = std::env::current_exe().context("find the suite's own file")?;
    // target/<profile>/deps/<suite> or target/<profile>/<program>
    let folders = itself.ancestors().skip(1).take(2).map(PathBuf::from);
    let dist = itself.ancestors().find_map(|folder| Some(folder.join("dist")).filter(|dist| dist.is_dir()));
    folders
        .chain(dist)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| Failure::new(format!("{name} was not built: run scripts/build, or name the file in {variable}")))
}
