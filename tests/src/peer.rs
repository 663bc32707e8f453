//! A node that exists in the store alone: its file, as another daemon or a person would write it.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::failure::{Context, Outcome};

/// One node's record. Fields can be set to anything, since peers can write anything.
#[derive(Debug, Clone)]
pub struct Peer {
    name: String,
    record: Map<String, Value>,
}

impl Peer {
    /// A VXLAN node with an IPv4 subnet.
    pub fn vxlan(name: &str, subnet: &str, public_ip: &str, mac: &str) -> Self {
        let data = json!({ "VNI": 1, "VtepMAC": mac });
        let peer = Self { name: name.to_owned(), record: Map::new() };
        peer.set("Subnet", subnet).set("PublicIP", public_ip).set("BackendType", "vxlan").set("BackendData", data)
    }

    /// A node with plain routes and an IPv4 subnet.
    pub fn host_gw(name: &str, subnet: &str, public_ip: &str) -> Self {
        let peer = Self { name: name.to_owned(), record: Map::new() };
        peer.set("Subnet", subnet).set("PublicIP", public_ip).set("BackendType", "host-gw")
    }

    /// The same with a field set.
    #[must_use]
    pub fn set(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.record.insert(field.to_owned(), value.into());
        self
    }

    /// Writes it into the store in one step.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn write(&self, store: &Path) -> Outcome {
        write(store, &self.name, &Value::from(self.record.clone()).to_string())
    }

    /// Removes it from the store.
    ///
    /// # Errors
    /// Where it is not there.
    pub fn remove(&self, store: &Path) -> Outcome {
        std::fs::remove_file(file(store, &self.name)).context(format!("remove the record of {}", self.name))
    }
}

/// The file of a node.
pub fn file(store: &Path, name: &str) -> PathBuf {
    store.join("nodes").join(format!("{name}.json"))
}

/// What a node's file says now.
///
/// # Errors
/// Where it is missing or no JSON.
pub fn read(store: &Path, name: &str) -> Outcome<Value> {
    let path = file(store, name);
    let text = std::fs::read_to_string(&path).context(format!("read {}", path.display()))?;
    serde_json::from_str(&text).context(format!("parse {}", path.display()))
}

/// Writes any text as a node's file, in one step.
///
/// # Errors
/// Where the disk refuses.
pub fn write(store: &Path, name: &str, text: &str) -> Outcome {
    let path = file(store, name);
    std::fs::create_dir_all(path.parent().unwrap_or(store)).context("make the store's folder of nodes")?;
    // Hidden, as the store wants of files that are being written.
    let new = path.with_file_name(format!(".{name}.new"));
    std::fs::write(&new, text).context("write a peer's record")?;
    std::fs::rename(&new, &path).context("put a peer's record in its place")
}
