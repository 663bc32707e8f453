//! A real flanneld on a machine of the fabric, with its leases in etcd or in Node objects.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::deadline::{eventually, seconds};
use crate::failure::{Context, Failure, Outcome};
use crate::node::Node;
use crate::peers;

/// A flanneld. Killed when dropped; what it made in the kernel stays.
#[derive(Debug)]
pub struct Flanneld {
    child: Child,
    log: PathBuf,
}

impl Flanneld {
    /// Starts it and waits until it has written the subnet file, which is the node's own as for netd.
    ///
    /// # Errors
    /// Where it does not write the file; with its log.
    pub fn start(node: &Node, endpoints: &str) -> Outcome<Self> {
        Self::start_by(node, &[endpoints])
    }

    /// The same with the flags that choose its store.
    ///
    /// # Errors
    /// Where it does not write the file; with its log.
    pub fn start_by(node: &Node, store: &[&str]) -> Outcome<Self> {
        // flanneld writes the file anew when it is ready.
        let _ = std::fs::rename(node.subnet_file(), node.subnet_file().with_extension("former"));
        let log = node.subnet_file().with_extension("flanneld.log");
        let output = File::create(&log).context("make flanneld's log")?;
        let mut command = Command::new(peers::FLANNELD.path()?);
        command.env("NODE_NAME", node.name()).args(store);
        command.args(["--iface=eth0", "--iptables-forward-rules=false", "--subnet-file"]);
        command.arg(node.subnet_file()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        let flanneld = Self { child: node.namespace().spawn(&mut command)?, log };
        eventually(seconds(30), "flanneld is ready", || {
            crate::ensure!(node.subnet_file().exists(), "it has written no subnet file");
            Ok(())
        })
        .map_err(|failure| flanneld.with_logs(failure))?;
        Ok(flanneld)
    }

    /// Its number.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// A failure with its log.
    pub fn with_logs(&self, failure: Failure) -> Failure {
        failure.with("flanneld", &std::fs::read_to_string(&self.log).unwrap_or_default())
    }
}

impl Drop for Flanneld {
    fn drop(&mut self) {
        // It may have ended already; then both say so, and nothing is left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
