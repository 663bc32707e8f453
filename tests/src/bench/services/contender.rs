//! The two proxies that are measured, as one thing that is started on a node.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::Bed;
use crate::bench::process::Process;
use crate::binaries;
use crate::failure::{Context, Outcome};
use crate::namespace::Namespace;
use crate::peers::NEWER_KUBE_PROXY;

/// Who. Each has a node of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contender {
    Netd,
    /// In its mode nftables.
    KubeProxy,
    /// In its mode iptables.
    KubeProxyIptables,
}

/// One of them, running. Killed when dropped; its rules stay.
pub(super) struct Running(Child);

impl Contender {
    pub(super) const BOTH: [Self; 2] = [Self::Netd, Self::KubeProxy];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Netd => "netd-proxy",
            Self::KubeProxy => "kube-proxy",
            Self::KubeProxyIptables => "kube-proxy (iptables)",
        }
    }

    fn node(self) -> &'static str {
        match self {
            Self::Netd => "n1",
            Self::KubeProxy | Self::KubeProxyIptables => "n2",
        }
    }

    pub(super) fn namespace(self, bed: &Bed) -> &Namespace {
        bed.node(self.node()).namespace()
    }

    /// Starts it with everything else as shipped.
    pub(super) fn start(self, bed: &Bed) -> Outcome<Running> {
        let program = match self {
            Self::Netd => binaries::proxy()?,
            Self::KubeProxy | Self::KubeProxyIptables => NEWER_KUBE_PROXY.path()?,
        };
        let mode = if self == Self::KubeProxyIptables { "iptables" } else { "nftables" };
        let config = bed.fabric.disk().join("kube-proxy.yml");
        let text = format!(
            "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: {mode}\n\
             clientConnection: {{kubeconfig: {}}}\nclusterCIDR: 10.0.0.0/8\nconntrack: {{maxPerCore: 0}}\n",
            bed.kubeconfig.display()
        );
        std::fs::write(&config, text).context("write kube-proxy's configuration")?;
        let mut command = Command::new(program);
        command.arg("--config").arg(config).arg(format!("--hostname-override={}", self.node()));
        Running::launch(&mut command, self.namespace(bed), &self.log(bed))
    }

    /// The file of its log.
    pub(super) fn log(self, bed: &Bed) -> PathBuf {
        bed.fabric.disk().join(format!("{}.log", self.name()))
    }

    /// The node's rules as they were before.
    pub(super) fn clear(self, bed: &Bed) -> Outcome {
        self.namespace(bed).run("nft flush ruleset").map(drop)
    }
}

impl Running {
    /// Starts a program that writes a log.
    pub(super) fn launch(command: &mut Command, namespace: &Namespace, log: &std::path::Path) -> Outcome<Self> {
        let log = File::create(log).context("make a log")?;
        command.stdin(Stdio::null()).stdout(log.try_clone().context("share a log")?).stderr(log);
        namespace.spawn(command).map(Self)
    }

    pub(super) fn process(&self) -> Process {
        Process(self.0.id())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already; then both say so, and nothing is left to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
