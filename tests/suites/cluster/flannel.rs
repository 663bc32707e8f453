//! A real flanneld on a node of a real cluster, as its DaemonSet would run it.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use netd_tests::kubernetes::{Kubernetes, Machine};
use netd_tests::{Failure, Outcome, Told, binaries, ensure, eventually, peers, seconds};
use serde_json::Value;

const CONFLIST: &str = r#"{ "name": "cbr0", "cniVersion": "1.0.0", "plugins": [
  { "type": "netd", "hairpinMode": true, "isDefaultGateway": true },
  { "type": "portmap", "capabilities": { "portMappings": true } } ] }"#;

/// Killed when dropped; what it made in the kernel stays.
pub(crate) struct Flannel {
    child: Child,
    log: PathBuf,
}

impl Flannel {
    /// Starts it, with this network configuration, and waits for its subnet file. Pods' interfaces are made by our plugin.
    pub(crate) fn start(cluster: &Kubernetes, node: &str, conf: &Value) -> Outcome<Self> {
        let machine = cluster.machine(node);
        machine.write("/etc/kube-flannel/net-conf.json", &conf.to_string())?;
        let subnet_file = machine.root().join("run/flannel/subnet.env");
        let _ = std::fs::remove_file(&subnet_file);
        let log = cluster.server.folder().join(format!("flanneld-{node}.log"));
        let output = File::create(&log).told("make flanneld's log")?;
        let mut command = machine.command(&peers::FLANNELD.path()?.to_string_lossy());
        command.env("NODE_NAME", node).args(["--kube-subnet-mgr", "--ip-masq", "--iface=eth0", "--kubeconfig-file"]);
        command.arg(cluster.server.admin()).args(["--net-config-path", "/etc/kube-flannel/net-conf.json"]);
        command.stdin(Stdio::null()).stdout(output.try_clone().told("share a log")?).stderr(output);
        let flannel = Self { child: command.spawn().told("start flanneld")?, log };
        eventually(seconds(60), "flanneld is ready", || {
            ensure!(subnet_file.exists(), "it has written no subnet file");
            Ok(())
        })
        .map_err(|failure| flannel.told(failure))?;
        Ok(flannel)
    }

    pub(crate) fn told(&self, failure: Failure) -> Failure {
        failure.with("flanneld", &std::fs::read_to_string(&self.log).unwrap_or_default())
    }
}

impl Drop for Flannel {
    fn drop(&mut self) {
        // It may have ended already; then both say so, and nothing is left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What an installation of flannel leaves on a node: the plugin, and the configuration that names it.
pub(crate) fn install_plugin(machine: &Machine) -> Outcome {
    let place = machine.root().join("opt/cni/bin/netd");
    std::fs::copy(binaries::plugin()?, &place).told("install the plugin")?;
    machine.write("/etc/cni/net.d/10-flannel.conflist", CONFLIST)
}
