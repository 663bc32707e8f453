//! Real programs that netd works with, built from Go modules that `tests/peers/NAME/go.mod` pins.
//!
//! They are built once for each pinned state, into the user's cache, before the suite enters its namespaces: those have no network.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Context, Failure, Outcome};

/// A program of a peer's.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// The folder below `tests/peers`.
    peer: &'static str,
    /// The file.
    name: &'static str,
    /// What it is built from.
    package: &'static str,
    /// Whether a part of it is C.
    cgo: bool,
}

/// The server.
pub const ETCD: Program = Program { peer: "etcd", name: "etcd", package: "go.etcd.io/etcd/server/v3", cgo: false };
/// Its command line.
pub const ETCDCTL: Program =
    Program { peer: "etcd", name: "etcdctl", package: "go.etcd.io/etcd/etcdctl/v3", cgo: false };
/// Flannel's daemon; its backend `udp` is C.
pub const FLANNELD: Program =
    Program { peer: "flannel", name: "flanneld", package: "github.com/flannel-io/flannel", cgo: true };

/// Flannel's CNI plugin, which hands pods on to `bridge`. The last of the CNI project's own releases of it, for IPv4 alone.
pub const FLANNEL_CNI: Program = Program {
    peer: "flannel-cni",
    name: "flannel",
    package: "github.com/containernetworking/plugins/plugins/meta/flannel",
    cgo: false,
};

/// The API server.
pub const APISERVER: Program = Program::of_kubernetes("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver");
/// Gives nodes their ranges, pods to `DaemonSets`, endpoints to Services.
pub const CONTROLLER_MANAGER: Program =
    Program::of_kubernetes("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager");
/// Gives pods their node.
pub const SCHEDULER: Program = Program::of_kubernetes("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler");
/// A node's agent.
pub const KUBELET: Program = Program::of_kubernetes("kubelet", "k8s.io/kubernetes/cmd/kubelet");
/// The command line.
pub const KUBECTL: Program = Program::of_kubernetes("kubectl", "k8s.io/kubernetes/cmd/kubectl");
/// Services' rules.
pub const KUBE_PROXY: Program = Program::of_kubernetes("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy");
/// A newer one than the cluster's, whose nftables mode is faster: what is measured.
pub const NEWER_KUBE_PROXY: Program = Program { peer: "kube-proxy", ..KUBE_PROXY };
/// The server and client of Kubernetes' own tests.
pub const AGNHOST: Program = Program::of_kubernetes("agnhost", "k8s.io/kubernetes/test/images/agnhost");

/// Services' names.
pub const COREDNS: Program =
    Program { peer: "coredns", name: "coredns", package: "github.com/coredns/coredns", cgo: false };

/// Builds the programs that have not been built.
///
/// # Errors
/// Where Go is missing or a build fails.
pub fn prepare(programs: &[Program]) -> Outcome {
    programs.iter().try_for_each(Program::build)
}

/// Where what is made once is kept for later runs.
pub(crate) fn cache() -> Outcome<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let cache = cache.or_else(home).context("neither XDG_CACHE_HOME nor HOME says where to keep built programs")?;
    Ok(cache.join("netd-tests"))
}

impl Program {
    const fn of_kubernetes(name: &'static str, package: &'static str) -> Self {
        Self { peer: "kubernetes", name, package, cgo: false }
    }

    /// The program's file.
    ///
    /// # Errors
    /// Where it was not built.
    pub fn path(&self) -> Outcome<PathBuf> {
        let path = self.place()?;
        crate::ensure!(path.is_file(), "{} was not built: the suite must prepare it", path.display());
        Ok(path)
    }

    fn module(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(self.peer)
    }

    /// Where it is kept: by what is pinned, so that another pin is another build.
    fn place(&self) -> Outcome<PathBuf> {
        let mut hash = DefaultHasher::new();
        for file in ["go.mod", "go.sum"] {
            let path = self.module().join(file);
            std::fs::read(&path).context(format!("read {}", path.display()))?.hash(&mut hash);
        }
        Ok(cache()?.join("peers").join(format!("{}-{:016x}", self.peer, hash.finish())).join(self.name))
    }

    /// The linker's flags give Kubernetes its version; with v0.0.0 it complains.
    fn link_flags(&self) -> Outcome<String> {
        let path = self.module().join("go.mod");
        let pins = std::fs::read_to_string(&path).context(format!("read {}", path.display()))?;
        let pin = pins.lines().find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes v"));
        let Some(version) = pin.and_then(|pin| pin.split_whitespace().next()) else {
            return Ok("-s -w".to_owned());
        };
        let mut numbers = version.split('.');
        let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
        let stamps = [("Version", format!("v{version}")), ("Major", major.to_owned()), ("Minor", minor.to_owned())];
        let stamps = stamps.map(|(name, value)| format!("-X k8s.io/component-base/version.git{name}={value}"));
        Ok(format!("-s -w {}", stamps.join(" ")))
    }

    fn build(&self) -> Outcome {
        let (path, package) = (self.place()?, self.package);
        if path.is_file() {
            return Ok(());
        }
        eprintln!("building {package}, once, into {} (some minutes)", path.display());
        // By rename, so that one which is there is whole.
        let growing = path.with_extension(std::process::id().to_string());
        let mut go = Command::new("go");
        let cgo = if self.cgo { "1" } else { "0" };
        go.current_dir(self.module()).env("CGO_ENABLED", cgo).env("GOFLAGS", "-mod=readonly");
        go.args(["build", "-trimpath", "-buildvcs=false", "-ldflags", &self.link_flags()?, "-o"]);
        go.arg(&growing).arg(package);
        let output = go.output().map_err(|error| {
            Failure::new(format!(
                "cannot run `go`, which builds {package}: {error}; install Go 1.26 or later (https://go.dev/dl)"
            ))
        })?;
        crate::namespace::printed(&format!("go build {package}"), &output)?;
        std::fs::rename(&growing, &path).context(format!("put {} in its place", path.display()))
    }
}
