//! A machine of the fabric: its namespace, its addresses, its files, and netd and the plugin run on it.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dataplane::types::{Family, PerFamily};
use serde_json::Value;

use crate::binaries;
use crate::daemon::Daemon;
use crate::deadline::{eventually, seconds};
use crate::failure::{Context, Outcome};
use crate::kernel;
use crate::namespace::Namespace;

/// One machine. Whether it is a node of the cluster depends on whether netd is started on it.
#[derive(Debug)]
pub struct Node {
    name: String,
    segment: u8,
    namespace: Namespace,
    addresses: PerFamily<IpAddr>,
    disk: PathBuf,
    store: PathBuf,
}

impl Node {
    pub(crate) fn new(
        name: &str,
        segment: u8,
        namespace: Namespace,
        addresses: PerFamily<IpAddr>,
        fabric: &Path,
    ) -> Outcome<Self> {
        let disk = fabric.join(name);
        for folder in ["cni/net.d", "cni/bin", "cni/networks"] {
            std::fs::create_dir_all(disk.join(folder)).context("make a node's folders")?;
        }
        Ok(Self { name: name.to_owned(), segment, namespace, addresses, disk, store: fabric.join("store") })
    }

    /// Takes its namespace away.
    pub(crate) fn unplug(&mut self) -> Outcome {
        self.namespace.remove()
    }

    /// Gives it another one.
    pub(crate) fn plug(&mut self, namespace: Namespace) {
        self.namespace = namespace;
    }

    /// Its name, which is also the name of its port on the segment's bridge.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The segment it is on, from 1.
    pub fn segment(&self) -> u8 {
        self.segment
    }

    /// Its network namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its addresses on the underlay.
    pub fn addresses(&self) -> &PerFamily<IpAddr> {
        &self.addresses
    }

    /// Its address of one family.
    ///
    /// # Panics
    /// Where the underlay lacks the family: a mistake in the test.
    pub fn address(&self, family: Family) -> IpAddr {
        *self.addresses.get(family).expect("the underlay has the family")
    }

    /// Its IPv4 address where it has one, else the other.
    ///
    /// # Panics
    /// Where it has none: the underlay has a family at least.
    pub fn first_address(&self) -> IpAddr {
        *self.addresses.iter().next().expect("the underlay has a family").1
    }

    /// What netd gets as `--subnet-file`.
    pub fn subnet_file(&self) -> PathBuf {
        self.disk.join("subnet.env")
    }

    /// What netd gets as `--cni-conf-dir`.
    pub fn cni_conf_dir(&self) -> PathBuf {
        self.disk.join("cni/net.d")
    }

    /// Where the plugin keeps its address files.
    pub fn cni_data_dir(&self) -> PathBuf {
        self.disk.join("cni/networks")
    }

    /// The folder of plugins, with ours installed as `netd`.
    ///
    /// # Errors
    /// Where it was not built.
    pub fn cni_bin_dir(&self) -> Outcome<PathBuf> {
        let folder = self.disk.join("cni/bin");
        let installed = folder.join("netd");
        if !installed.exists() {
            std::os::unix::fs::symlink(binaries::plugin()?, &installed).context("install the plugin")?;
        }
        Ok(folder)
    }

    /// Waits until the kernel has done with the node's interface: the state of the wire, the address of the link and its routes come
    /// shortly after the interface is up.
    ///
    /// # Errors
    /// Where it does not get there.
    pub fn await_interface(&self) -> Outcome {
        eventually(seconds(20), &format!("the kernel has done with the interface of {}", self.name), || {
            let link = kernel::existing_link(&self.namespace, "eth0")?;
            let local = self.namespace.run("ip -6 route show table local dev eth0")?;
            let is_done = link["operstate"] == "UP" && local.contains("local fe80");
            crate::ensure!(is_done, "it is {link}, and its local routes are {local}");
            Ok(())
        })
    }

    /// The store's folder, shared by all nodes.
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// netd with this node's folders, where `arguments` name no others, `verb` (`""` for the daemon) and further arguments.
    ///
    /// # Errors
    /// Where it was not built.
    pub fn netd(&self, verb: &str, arguments: &[&str]) -> Outcome<Command> {
        let mut command = Command::new(binaries::netd()?);
        if !verb.is_empty() {
            command.arg(verb);
        }
        let own: [(&str, &OsStr); 4] = [
            ("--node-name", self.name.as_ref()),
            ("--store-dir", self.store.as_ref()),
            ("--subnet-file", &self.subnet_file().into_os_string()),
            ("--cni-conf-dir", &self.cni_conf_dir().into_os_string()),
        ];
        let other_store =
            arguments.iter().any(|argument| argument.starts_with("--etcd-") || *argument == "--kube-subnet-mgr");
        let fits = |flag: &str| !(arguments.contains(&flag) || other_store && flag == "--store-dir");
        for (flag, value) in own.into_iter().filter(|(flag, _)| fits(flag)) {
            command.arg(flag).arg(value);
        }
        command.args(arguments);
        Ok(command)
    }

    /// Starts the daemon and waits until it says that it is ready.
    ///
    /// # Errors
    /// Where it ends or stays silent instead; with its log.
    pub fn start_netd(&self, arguments: &[&str]) -> Outcome<Daemon> {
        let daemon = self.launch_netd(arguments)?;
        daemon.await_ready()?;
        Ok(daemon)
    }

    /// Starts the daemon and waits for nothing.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn launch_netd(&self, arguments: &[&str]) -> Outcome<Daemon> {
        Daemon::launch(&self.namespace, self.netd("", arguments)?, &self.name, &self.disk)
    }

    /// Starts the daemon by another command than the usual one, which `made` makes of that.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn launch_netd_by(&self, arguments: &[&str], made: impl FnOnce(&Command) -> Command) -> Outcome<Daemon> {
        Daemon::launch(&self.namespace, made(&self.netd("", arguments)?), &self.name, &self.disk)
    }

    /// Runs `netd VERB` to its end.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn run_netd(&self, verb: &str, arguments: &[&str]) -> Outcome<Output> {
        self.namespace.output(&mut self.netd(verb, arguments)?)
    }

    /// The document of `netd status` on it.
    ///
    /// # Errors
    /// Where there is none.
    pub fn status(&self) -> Outcome<Value> {
        let output = self.run_netd("status", &["-o", "json"])?;
        let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        serde_json::from_str(&said).context(format!("{}: netd status says {said}{error}", output.status))
    }

    /// Starts the daemon with arguments that cannot be meant so, and looks for these words in what it says.
    ///
    /// # Errors
    /// Where it does not end with 1 and all of them.
    pub fn refuses(&self, arguments: &[&str], words: &[&str]) -> Outcome {
        let output = self.run_netd("", arguments)?;
        let said = String::from_utf8_lossy(&output.stderr);
        crate::ensure!(output.status.code() == Some(1), "{arguments:?}: it ended with {}: {said}", output.status);
        let missing = words.iter().find(|word| !said.contains(**word));
        crate::ensure!(missing.is_none(), "{arguments:?}: {missing:?} is not in {said}");
        Ok(())
    }
}

/// Waits until a node's kernel has an IPv4 route to the range, or none.
///
/// # Errors
/// Where that does not come.
pub fn routed(node: &Node, range: &str, wanted: bool) -> Outcome {
    let words = |there: bool| if there { "a" } else { "no" };
    let what = format!("{} has {} route to {range}", node.name, words(wanted));
    eventually(seconds(60), &what, || {
        let there = kernel::route(&node.namespace, Family::V4, range)?.is_some();
        crate::ensure!(there == wanted, "it has {} route", words(there));
        Ok(())
    })
}
