//! The plugin as a runtime calls it: what libcni puts into the environment and on stdin.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Map, Value, json};

use crate::failure::{Context, Failure, Outcome};
use crate::namespace::{Namespace, printed};
use crate::node::Node;

/// One attachment of a container to the network, and how to call the plugin for it.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// The node's namespace, in which the plugin runs.
    pub host: PathBuf,
    /// The plugin's file.
    pub program: PathBuf,
    /// What it gets on stdin.
    pub conf: Value,
    /// `CNI_CONTAINERID`.
    pub container: String,
    /// `CNI_NETNS`.
    pub netns: PathBuf,
    /// `CNI_IFNAME`.
    pub ifname: String,
}

impl Attachment {
    /// Calls the plugin and gives its output, whatever its exit code.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn call(&self, verb: &str) -> Outcome<Output> {
        let mut command = Command::new(&self.program);
        command.env_clear();
        command.env("CNI_COMMAND", verb).env("CNI_CONTAINERID", &self.container);
        command.env("CNI_NETNS", &self.netns).env("CNI_IFNAME", &self.ifname);
        command.env("CNI_PATH", self.program.parent().unwrap_or(Path::new("/")));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = dataplane::netns::within(&self.host, || command.spawn())
            .context("enter the node")?
            .context(format!("start the plugin {}", self.program.display()))?;
        if let Some(mut input) = child.stdin.take() {
            // A plugin that fails before it reads closes the pipe; its answer says more than the broken pipe.
            let _ = input.write_all(self.conf.to_string().as_bytes());
        }
        child.wait_with_output().context("wait for the plugin")
    }

    /// Calls the plugin and gives the result it printed; `Value::Null` where it printed none.
    ///
    /// # Errors
    /// Where it fails; with its error object.
    pub fn succeed(&self, verb: &str) -> Outcome<Value> {
        let text = printed(&format!("netd-cni {verb} {}", self.container), &self.call(verb)?)?;
        if text.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).context(format!("read the plugin's result {text:?}"))
    }

    /// The same attachment with `prevResult`, as CHECK and DEL get it.
    #[must_use]
    pub fn after(mut self, result: &Value) -> Self {
        self.conf["prevResult"] = result.clone();
        self
    }
}

/// What the plugin gets on stdin on this node: its entry of the conflist that netd wrote, as libcni completes it.
///
/// # Errors
/// Where netd wrote no conflist.
pub fn conf(node: &Node) -> Outcome<Value> {
    let folder = node.cni_conf_dir();
    let mut lists: Vec<PathBuf> = std::fs::read_dir(&folder)
        .context("read --cni-conf-dir")?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "conflist"))
        .collect();
    lists.sort();
    let path =
        lists.first().context(format!("no conflist in {}: netd writes it when it is ready", folder.display()))?;
    let text = std::fs::read_to_string(path).context("read the conflist")?;
    let list: Value = serde_json::from_str(&text).context("parse the conflist")?;
    entry(&list, node)
}

fn entry(list: &Value, node: &Node) -> Outcome<Value> {
    let mut conf: Map<String, Value> = list["plugins"]
        .as_array()
        .and_then(|plugins| plugins.iter().find(|plugin| plugin["type"] == "netd"))
        .and_then(Value::as_object)
        .cloned()
        .ok_or_else(|| Failure::new(format!("the conflist has no plugin of type netd: {list}")))?;
    conf.insert("name".into(), list["name"].clone());
    conf.insert("cniVersion".into(), list["cniVersion"].clone());
    // Nodes of a real cluster do not share a disk; these do.
    let ipam = conf.entry("ipam").or_insert_with(|| json!({}));
    ipam["dataDir"] = node.cni_data_dir().to_string_lossy().into();
    Ok(conf.into())
}

/// The attachment `eth0` of a container on a node.
///
/// # Errors
/// Where netd wrote no conflist, or the plugin was not built.
pub fn attachment(node: &Node, container: &str, namespace: &Namespace) -> Outcome<Attachment> {
    attachment_by(node, container, namespace, conf(node)?)
}

/// The same by another configuration, which a person would write.
///
/// # Errors
/// Where the plugin was not built.
pub fn attachment_by(node: &Node, container: &str, namespace: &Namespace, conf: Value) -> Outcome<Attachment> {
    Ok(Attachment {
        host: node.namespace().path().to_owned(),
        program: node.cni_bin_dir()?.join("netd"),
        conf,
        container: container.to_owned(),
        netns: namespace.path().to_owned(),
        ifname: "eth0".to_owned(),
    })
}
