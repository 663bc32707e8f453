//! The two daemons that are measured, as one thing that is started on a node.

use std::process::Command;

use super::Bed;
use crate::bench::process::Process;
use crate::daemon::Daemon;
use crate::failure::Outcome;
use crate::flanneld::Flanneld;
use crate::node::Node;

/// Who.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contender {
    Netd,
    Flanneld,
}

/// One of them, running. Killed when dropped.
pub(super) enum Running {
    Netd(Daemon),
    Flanneld(Flanneld),
}

impl Contender {
    pub(super) const BOTH: [Self; 2] = [Self::Netd, Self::Flanneld];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Netd => "netd",
            Self::Flanneld => "flanneld",
        }
    }

    /// Starts it with masquerading, and the network configuration in a file.
    pub(super) fn start(self, bed: &Bed, node: &Node) -> Outcome<Running> {
        let kubeconfig = format!("--kubeconfig-file={}", bed.kubeconfig.display());
        let conf = format!("--net-config-path={}", bed.conf.display());
        let flags = ["--kube-subnet-mgr", &kubeconfig, &conf, "--ip-masq"];
        Ok(match self {
            Self::Netd => {
                let state = format!("--state-dir={}", bed.fabric.disk().join("state").display());
                Running::Netd(node.launch_netd_by(&[&flags[..], &[&state]].concat(), as_shipped)?)
            }
            Self::Flanneld => Running::Flanneld(Flanneld::start_by(node, &flags)?),
        })
    }
}

impl Running {
    pub(super) fn process(&self) -> Process {
        Process(match self {
            Self::Netd(daemon) => daemon.process(),
            Self::Flanneld(daemon) => daemon.process(),
        })
    }
}

/// The harness asks for a line about each change.
pub(super) fn as_shipped(command: &Command) -> Command {
    let mut shipped = Command::new(command.get_program());
    shipped.args(command.get_args()).env("RUST_LOG", "info");
    shipped
}
