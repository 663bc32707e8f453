//! Real clusters: control plane, kubelets, containerd, runc, and netd as its manifest installs it.

#[path = "cluster/bed.rs"]
mod bed;
#[path = "cluster/beside.rs"]
mod beside;
#[path = "cluster/deployment.rs"]
mod deployment;
#[path = "cluster/install.rs"]
mod install;
#[path = "cluster/outage.rs"]
mod outage;
#[path = "cluster/proxy.rs"]
mod proxy;
#[path = "cluster/readme.rs"]
mod readme;
#[path = "cluster/services.rs"]
mod services;
#[path = "cluster/switch.rs"]
mod switch;
#[path = "cluster/uninstall.rs"]
mod uninstall;

use std::process::ExitCode;

use netd_tests::{kubernetes, peers};

fn main() -> ExitCode {
    netd_tests::suite::run_with(
        || {
            kubernetes::watch_over()?;
            let programs: Vec<_> = kubernetes::programs()
                .into_iter()
                .chain([peers::COREDNS, peers::FLANNELD, peers::FLANNEL_CNI])
                .collect();
            peers::prepare(&programs)
        },
        || {
            let mut trials = install::trials();
            trials.extend(services::trials());
            trials.extend(switch::trials());
            trials.extend(uninstall::trials());
            trials.extend(beside::trials());
            // What mostly waits, last.
            trials.extend(outage::trials());
            trials
        },
    )
}
