//! Real programs that netd works with, built from Go modules that `tests/peers/NAME/go.mod` pins.
//!
//! They are built once for each pinned state, into the user's cache, before the suite enters its namespaces: those have no network.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Failure, Outcome, Told};

/// The programs of etcd: the name of the file and the package that it is built from.
const ETCD: [(&str, &str); 2] = [("etcd", "go.etcd.io/etcd/server/v3"), ("etcdctl", "go.etcd.io/etcd/etcdctl/v3")];

/// Builds etcd where that has not been done.
///
/// # Errors
/// Where Go is missing or the build fails.
pub fn prepare_etcd() -> Outcome {
    let folder = folder("etcd")?;
    for (name, package) in ETCD {
        build("etcd", &folder.join(name), package)?;
    }
    Ok(())
}

/// A program of etcd's, `etcd` or `etcdctl`.
///
/// # Errors
/// Where it was not built.
pub fn etcd(name: &str) -> Outcome<PathBuf> {
    let path = folder("etcd")?.join(name);
    crate::ensure!(path.is_file(), "{} was not built", path.display());
    Ok(path)
}

fn module(peer: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(peer)
}

/// Where a peer's programs are kept: by what is pinned, so that another pin is another build.
fn folder(peer: &str) -> Outcome<PathBuf> {
    let mut hash = DefaultHasher::new();
    for file in ["go.mod", "go.sum"] {
        let path = module(peer).join(file);
        std::fs::read(&path).told(format!("read {}", path.display()))?.hash(&mut hash);
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let cache = cache.or_else(home).told("neither XDG_CACHE_HOME nor HOME says where to keep built programs")?;
    Ok(cache.join("netd-tests/peers").join(format!("{peer}-{:016x}", hash.finish())))
}

fn build(peer: &str, path: &Path, package: &str) -> Outcome {
    if path.is_file() {
        return Ok(());
    }
    eprintln!("building {package}, once, into {} (some minutes)", path.display());
    // By rename, so that one which is there is whole.
    let growing = path.with_extension(format!("{}", std::process::id()));
    let mut go = Command::new("go");
    go.current_dir(module(peer)).env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=readonly");
    go.args(["build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o"]).arg(&growing).arg(package);
    let output = go.output().map_err(|error| {
        Failure::new(format!(
            "cannot run `go`, which builds {package}: {error}; install Go 1.24 or later (https://go.dev/dl)"
        ))
    })?;
    crate::namespace::printed(&format!("go build {package}"), &output)?;
    std::fs::rename(&growing, path).told(format!("put {} in its place", path.display()))
}
