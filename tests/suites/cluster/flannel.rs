//! A real flanneld on a node of a real cluster, as its `DaemonSet` would run it.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use netd_tests::kubernetes::Kubernetes;
use netd_tests::{Failure, Outcome, Told, ensure, eventually, peers, seconds};
use serde_json::{Value, json};

/// As flannel's manifest has it.
pub(crate) const CNI_CONF: &str = r#"{ "name": "cbr0", "cniVersion": "0.3.1", "plugins": [
  { "type": "flannel", "delegate": { "hairpinMode": true, "isDefaultGateway": true } },
  { "type": "portmap", "capabilities": { "portMappings": true } } ] }"#;

/// Killed when dropped; what it made in the kernel stays.
pub(crate) struct Flannel {
    child: Child,
    log: PathBuf,
}

impl Flannel {
    /// Starts it, with this network configuration, and waits for its subnet file.
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

/// What flannel's plugin makes of [`CNI_CONF`] on a node, and hands to `bridge` and `host-local`.
pub(crate) fn install_conflist(cluster: &Kubernetes, node: &str) -> Outcome {
    let machine = cluster.machine(node);
    let told = std::fs::read_to_string(machine.root().join("run/flannel/subnet.env")).told("read subnet.env")?;
    let value =
        |name: &str| told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default();
    let object = cluster.server.get(&format!("/api/v1/nodes/{node}"))?;
    let mtu: u32 = value("FLANNEL_MTU").parse().told("read the MTU")?;
    let conflist = json!({ "name": "cbr0", "cniVersion": "0.3.1", "plugins": [
        {
            "type": "bridge", "bridge": "cni0", "hairpinMode": true, "isDefaultGateway": true, "isGateway": true, "mtu": mtu,
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": object["spec"]["podCIDR"] }]],
                "routes": [{ "dst": value("FLANNEL_NETWORK") }],
            },
        },
        { "type": "portmap", "capabilities": { "portMappings": true } },
    ] });
    machine.write("/etc/cni/net.d/10-flannel.conflist", &conflist.to_string())
}
