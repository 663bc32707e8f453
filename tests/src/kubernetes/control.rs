//! The programs of the control plane beside the API server.

use std::fs::File;
use std::process::{Child, Command, Stdio};

use crate::apiserver::{ApiServer, Credentials};
use crate::cluster::{IPV6_NETWORK, NETWORK};
use crate::failure::{Context, Outcome};
use crate::peers::{self, Program};
use crate::topology::Stack;

/// Who gives nodes their ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ranges {
    /// The controller manager, when a node registers itself.
    Allocated,
    /// The test.
    ByHand,
}

/// The controller manager and the scheduler. Killed when dropped.
#[derive(Debug)]
pub(super) struct Control {
    children: Vec<Child>,
}

impl Control {
    pub(super) fn start(server: &ApiServer, pods: Stack, ranges: Ranges) -> Outcome<Self> {
        let network = match pods {
            Stack::V4 => NETWORK.to_owned(),
            Stack::V6 => IPV6_NETWORK.to_owned(),
            Stack::Dual => format!("{NETWORK},{IPV6_NETWORK}"),
        };
        let file = |name: &str| server.credentials().file(name).to_string_lossy().into_owned();
        let mut control = Self { children: Vec::new() };
        let manager = [
            format!("--allocate-node-cidrs={}", ranges == Ranges::Allocated),
            format!("--cluster-cidr={network}"),
            format!("--service-account-private-key-file={}", file("accounts.key")),
            format!("--root-ca-file={}", file("ca.pem")),
        ];
        control.launch(server, &peers::CONTROLLER_MANAGER, "kube-controller-manager", &manager)?;
        control.launch(server, &peers::SCHEDULER, "kube-scheduler", &[])?;
        Ok(control)
    }

    fn launch(&mut self, server: &ApiServer, program: &Program, name: &str, arguments: &[String]) -> Outcome {
        let token = Credentials::control_token(&format!("system:{name}"));
        let kubeconfig = server.kubeconfig(name, &token)?;
        let log = File::create(server.folder().join(format!("{name}.log"))).context("make a log")?;
        let mut command = Command::new(program.path()?);
        command.arg("--kubeconfig").arg(kubeconfig).args(["--leader-elect=false", "--profiling=false"]);
        command.arg("--cert-dir").arg(server.folder().join(name)).args(arguments);
        command.stdin(Stdio::null()).stdout(log.try_clone().context("share a log")?).stderr(log);
        self.children.push(server.namespace().spawn(&mut command)?);
        Ok(())
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It may have ended already; then both say so, and nothing is left to do.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
