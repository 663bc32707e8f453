//! A node's machine beyond its network: folders and a host name of its own, containerd, a kubelet, and their end.

use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cgroups::Cgroup;
use super::images::PAUSE;
use crate::apiserver::{ApiServer, Credentials};
use crate::deadline::{eventually, seconds};
use crate::failure::{Context, Outcome};
use crate::namespace::{Namespace, printed};
use crate::node::Node;
use crate::peers;

/// What the node has on a disk, so that it survives a reboot: the name below the node's folder, and the place.
const DISKS: [(&str, &str); 3] = [("opt", "/opt"), ("var-lib", "/var/lib"), ("var-log", "/var/log")];

/// A machine with containerd and a kubelet.
#[derive(Debug)]
pub struct Machine {
    name: String,
    disk: PathBuf,
    namespace: Namespace,
    containerd: Child,
    /// kube-proxy, unless it was ended, then the kubelet.
    agents: Vec<Child>,
    cgroup: Cgroup,
}

impl Machine {
    /// Starts both, with these archives of images; the kubelet makes a Node of it.
    ///
    /// # Errors
    /// Where one does not start; with its log.
    pub(super) fn start(node: &Node, server: &ApiServer, images: &[PathBuf]) -> Outcome<Self> {
        let fabric = server.folder().parent().context("the API server's folder is in the fabric's")?;
        let disk = fabric.join("machines").join(node.name());
        std::fs::create_dir_all(&disk).context("make a machine's folder")?;
        let label = format!("{}-{}", fabric.file_name().unwrap_or_default().to_string_lossy(), node.name());
        let cgroup = Cgroup::make(&label)?;
        write(&disk, "containerd.toml", &containerd_toml())?;
        write(&disk, "kubelet.yml", &kubelet_yml(server, &cgroup))?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--uts", "--propagation", "private", "sh", "-ec", &moving_in(node, &disk, fabric)]);
        logged(&mut command, &disk.join("containerd.log"))?;
        let containerd = node.namespace().spawn(&mut command)?;
        let name = node.name().to_owned();
        let namespace = node.namespace().again();
        let mut machine = Self { name, disk, namespace, containerd, agents: Vec::new(), cgroup };
        machine.await_containerd()?;
        // Before the kubelet: one that starts while containerd mounts an image for a moment may take that mount for its disk, and ends.
        machine.load(images)?;
        machine.start_kube_proxy(server)?;
        machine.start_kubelet(node, server)?;
        Ok(machine)
    }

    fn await_containerd(&mut self) -> Outcome {
        let socket = self.root().join("run/containerd/containerd.sock");
        eventually(seconds(60), "containerd answers", || {
            let ended = self.containerd.try_wait().context("look after containerd")?;
            crate::ensure!(ended.is_none() && socket.exists(), "it has no socket {}", socket.display());
            self.run("ctr version").map(drop)
        })
        .map_err(|failure| failure.with("containerd", &self.log("containerd.log")))
    }

    fn start_kubelet(&mut self, node: &Node, server: &ApiServer) -> Outcome {
        let addresses: Vec<String> = node.addresses().iter().map(|(_, address)| address.to_string()).collect();
        let mut command = self.command(&peers::KUBELET.path()?.to_string_lossy());
        command.arg("--config").arg(self.disk.join("kubelet.yml"));
        command.arg("--kubeconfig").arg(server.node_kubeconfig(&self.name)?);
        command.arg(format!("--hostname-override={}", self.name));
        command.arg(format!("--node-ip={}", addresses.join(",")));
        command.args(["--cert-dir=/var/lib/kubelet/pki", "--v=2"]);
        logged(&mut command, &self.disk.join("kubelet.log"))?;
        self.agents.push(command.spawn().context("start a kubelet")?);
        Ok(())
    }

    /// The API server's own Service is how pods find it, so there is no cluster without.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start_kube_proxy(&mut self, server: &ApiServer) -> Outcome {
        let kubeconfig = server.kubeconfig("kube-proxy", &Credentials::control_token("system:kube-proxy"))?;
        write(&self.disk, "kube-proxy.yml", &kube_proxy_yml(&kubeconfig))?;
        let mut command = self.command(&peers::KUBE_PROXY.path()?.to_string_lossy());
        command.arg("--config").arg(self.disk.join("kube-proxy.yml"));
        command.arg(format!("--hostname-override={}", self.name));
        logged(&mut command, &self.disk.join("kube-proxy.log"))?;
        self.agents.insert(0, command.spawn().context("start kube-proxy")?);
        Ok(())
    }

    /// Ends kube-proxy, which leaves its rules.
    ///
    /// # Errors
    /// Where it cannot be waited for.
    pub fn end_kube_proxy(&mut self) -> Outcome {
        let mut kube_proxy = self.agents.remove(0);
        let killed = kube_proxy.kill();
        kube_proxy.wait().context("wait for kube-proxy")?;
        killed.context("kill kube-proxy")
    }

    /// Its name, which is also its Node's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its network namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its files, as they are seen from outside.
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.containerd.id()))
    }

    /// A program that is run on it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.containerd.id())).args(["--mount", "--net", "--uts", "--", program]);
        command
    }

    /// Runs a command line on it, split at white space, and gives what it printed.
    ///
    /// # Errors
    /// Where it ends with anything but 0.
    pub fn run(&self, line: &str) -> Outcome<String> {
        let mut words = line.split_whitespace();
        let mut command = self.command(words.next().unwrap_or_default());
        let output = command.args(words).stdin(Stdio::null()).output().context("run a command on a machine")?;
        printed(line, &output)
    }

    /// Writes a file on it.
    ///
    /// # Errors
    /// Where its disk refuses.
    pub fn write(&self, path: &str, text: &str) -> Outcome {
        let inside = self.root().join(path.trim_start_matches('/'));
        if let Some(folder) = inside.parent() {
            std::fs::create_dir_all(folder).context(format!("make the folder of {path}"))?;
        }
        std::fs::write(inside, text).context(format!("write {path} on {}", self.name))
    }

    /// Gives its runtime these archives of images.
    ///
    /// # Errors
    /// Where one is refused.
    pub fn load(&self, images: &[PathBuf]) -> Outcome {
        images.iter().try_for_each(|image| {
            self.run(&format!("ctr --namespace k8s.io images import {}", image.display())).map(drop)
        })
    }

    /// The pods that run on it, by their first address, as the kernel has them.
    ///
    /// # Errors
    /// Where there is no folder of namespaces.
    pub fn pods(&self) -> Outcome<Vec<(IpAddr, Namespace)>> {
        let folder = self.root().join("run/netns");
        let entries = std::fs::read_dir(&folder).context(format!("list {}", folder.display()))?;
        let mut pods = Vec::new();
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let namespace = Namespace::at(&path);
            // Another pod's may go meanwhile, or have no interface yet.
            let Ok(links) = namespace.json("ip -j addr show dev eth0 scope global") else { continue };
            let own = links.iter().flat_map(|link| link["addr_info"].as_array().into_iter().flatten());
            let mut own = own.filter_map(|entry| entry["local"].as_str()?.parse().ok());
            pods.extend(own.next().map(|address| (address, namespace)));
        }
        Ok(pods)
    }

    /// The network namespace of the pod whose first address this is.
    ///
    /// # Errors
    /// Where none on this machine has it.
    pub fn pod_namespace(&self, address: IpAddr) -> Outcome<Namespace> {
        let found = self.pods()?.into_iter().find(|(own, _)| *own == address);
        found.map(|(_, namespace)| namespace).context(format!("no pod on {} has the address {address}", self.name))
    }

    /// The program of a container that is called so, by its number here.
    ///
    /// # Errors
    /// Where none runs.
    pub fn process(&self, name: &str) -> Outcome<i32> {
        let called = |process: &i32| {
            std::fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|comm| comm.trim() == name)
        };
        self.cgroup.processes().into_iter().find(called).context(format!("no {name} runs on {}", self.name))
    }

    /// The kubelet's last words.
    pub fn kubelet_log(&self) -> String {
        self.log("kubelet.log")
    }

    fn log(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.disk.join(name)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Ends all that runs on it.
    ///
    /// # Errors
    /// Where something stays.
    pub fn end(mut self) -> Outcome {
        self.stop();
        self.cgroup.remove()
    }

    /// The kubelet first, or it would start again what ends. Shims outlive their containerd, so all that has the machine's folders goes.
    fn stop(&mut self) {
        for mut agent in self.agents.drain(..).rev() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        for process in self.inhabitants() {
            // It may just have ended.
            let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
        }
        let _ = self.containerd.kill();
        let _ = self.containerd.wait();
    }

    fn inhabitants(&self) -> Vec<i32> {
        let home = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
        let Some(own) = home(&self.containerd.id().to_string()) else { return Vec::new() };
        let entries = std::fs::read_dir("/proc").into_iter().flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let here = names.filter(|name| name.parse::<i32>().is_ok() && home(name).as_ref() == Some(&own));
        here.filter_map(|name| name.parse().ok()).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.stop();
    }
}

fn write(disk: &Path, name: &str, text: &str) -> Outcome {
    std::fs::write(disk.join(name), text).context(format!("write {name}"))
}

fn logged(command: &mut Command, path: &Path) -> Outcome {
    let log = File::options().create(true).append(true).open(path).context("make a log")?;
    command.stdin(Stdio::null()).stdout(log.try_clone().context("share a log")?).stderr(log);
    Ok(())
}

/// What a new machine's first process does before it becomes containerd. Not `ip netns exec`: that would hide the cgroups.
fn moving_in(node: &Node, disk: &Path, fabric: &Path) -> String {
    let (name, disk, fabric) = (node.name(), disk.display(), fabric.display());
    let bound = |(own, place): (&str, &str)| format!("mkdir -p {disk}/{own}; mount --bind {disk}/{own} {place}");
    let disks = DISKS.map(bound).join("\n");
    format!(
        "hostname {name}
        # The fabric's files are below /run, which is about to be another.
        mount --bind {fabric} /mnt
        mkdir -p {disk}/cgroup {disk}/etc {disk}/etc-work
        mount --rbind /sys/fs/cgroup {disk}/cgroup
        # With this one /sys/class/net is the machine's.
        mount -t sysfs sysfs /sys
        mount --rbind {disk}/cgroup /sys/fs/cgroup
        mount -t overlay -o lowerdir=/etc,upperdir={disk}/etc,workdir={disk}/etc-work overlay /etc
        {disks}
        mount -t tmpfs -o mode=755 tmpfs /run
        mkdir -p {fabric}
        mount --move /mnt {fabric}
        mkdir -p /etc/cni/net.d /opt/cni/bin /var/lib/kubelet /var/lib/cni /run/netns /etc/kubernetes/manifests
        cp /usr/lib/cni/* /opt/cni/bin/
        mount --make-rshared /
        exec containerd --config {disk}/containerd.toml"
    )
}

fn containerd_toml() -> String {
    format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
restrict_oom_score_adj = true
tolerate_missing_hugetlb_controller = true
disable_hugetlb_controller = true
sandbox_image = "{PAUSE}"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/opt/cni/bin"
conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
"#
    )
}

/// Some limits of connection tracking are the machine's below, and cannot be written.
fn kube_proxy_yml(kubeconfig: &Path) -> String {
    format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {{kubeconfig: {}}}
conntrack: {{maxPerCore: 0}}
",
        kubeconfig.display()
    )
}

fn kubelet_yml(server: &ApiServer, cgroup: &Cgroup) -> String {
    format!(
        r#"apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {{enabled: false}}
  webhook: {{enabled: true}}
  x509: {{clientCAFile: {ca}}}
authorization: {{mode: Webhook}}
cgroupDriver: cgroupfs
cgroupRoot: {cgroup}
clusterDNS: ['{dns}']
clusterDomain: cluster.local
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
enforceNodeAllocatable: []
evictionHard: {{imagefs.available: 0%, memory.available: 0%, nodefs.available: 0%, nodefs.inodesFree: 0%}}
failCgroupV1: false
failSwapOn: false
imageGCHighThresholdPercent: 100
resolvConf: ""
staticPodPath: /etc/kubernetes/manifests
"#,
        dns = server.dns_address(),
        ca = server.credentials().file("ca.pem").display(),
        cgroup = cgroup.path(),
    )
}
