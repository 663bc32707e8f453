//! `cni-conf.json`: the configuration list as an operator writes it, also for flannel, and the list that is installed for it. Pure.
//!
//! The list is checked before anything is done: it must have exactly one entry for netd, and the plugin must accept that entry. An entry
//! for the plugin `flannel` becomes netd's: netd's plugin does what flannel's delegates to `bridge`.

use std::fmt::Display;
use std::path::Path;

use dataplane::types::IfName;
use netd_cni::cni_error::CniError;
use netd_cni::conf::plugin_conf::{PluginConf, TeardownConf};
use netd_cni::conf::{Fields, parse_stdin, subnet_env};
use netd_cni::version::Version;
use serde_json::{Map, Value, json};

use super::{ConflistError, NETWORK, built_in};

/// The plugin's name.
const NETD: &str = "netd";
const FLANNEL: &str = "flannel";

/// A `subnet.env` to check entries with: the real file is not written before the network is ready.
const SAMPLE: &str =
    "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";

/// True for a list with an entry of netd's that reads this `subnet.env`.
pub(super) fn is_for(text: &str, subnet_file: &Path) -> bool {
    let list: Option<Value> = serde_json::from_str(text).ok();
    let plugins = list.as_ref().and_then(|list| list.get("plugins")?.as_array());
    let is_ours =
        |entry: &Value| entry["type"] == NETD && entry["subnetFile"].as_str().map(Path::new) == Some(subnet_file);
    plugins.is_some_and(|plugins| plugins.iter().any(is_ours))
}

/// A configuration list that can be installed, once the path of `subnet.env` is added.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    list: Value,
    /// The index of netd's entry in `plugins`.
    own: usize,
}

/// A list cannot be used. The message names the field and says what to write.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(String);

fn wrong(field: impl Display, reason: impl Display) -> TemplateError {
    TemplateError(format!("{field}: {reason}"))
}

/// A single plugin's configuration, or something else.
fn not_a_list() -> TemplateError {
    wrong("it is no configuration list", "it needs the fields 'name', 'cniVersion' and 'plugins'")
}

impl Default for Template {
    fn default() -> Self {
        Self { list: built_in(), own: 0 }
    }
}

impl Template {
    /// Parses and checks a list. netd writes `subnet.env` to `subnet_file`.
    pub fn parse(text: &str, subnet_file: &Path) -> Result<Self, TemplateError> {
        let list: Value = serde_json::from_str(text).map_err(|error| wrong("it is no JSON", error))?;
        let Value::Object(mut root) = list else { return Err(not_a_list()) };
        let version = head(&root)?;
        let (own, entry) = own_entry(&root)?;
        let entry = convert(own, entry, subnet_file)?;
        if let Some(Value::Array(plugins)) = value_mut(&mut root, "plugins") {
            plugins[own] = Value::Object(entry.clone());
        }
        check_with_plugin(own, entry, version)?;
        Ok(Self { list: Value::Object(root), own })
    }

    /// The other plugins of the list.
    pub fn others(&self) -> impl Iterator<Item = &str> {
        let plugins = self.list["plugins"].as_array().into_iter().flatten();
        plugins.filter_map(|plugin| plugin["type"].as_str()).filter(|kind| *kind != NETD)
    }

    /// The bridge that the plugin makes by it.
    pub fn bridge(&self) -> Option<IfName> {
        TeardownConf::read(&Fields::root(self.list["plugins"][self.own].as_object()?)).bridge
    }

    /// The text to install. The plugin will read `subnet_file`.
    pub fn render(&self, subnet_file: &Path) -> Result<String, ConflistError> {
        Ok(format!("{:#}\n", self.list_for(subnet_file)?))
    }

    /// netd's entry as a runtime passes it to the plugin.
    pub fn entry(&self, subnet_file: &Path) -> Result<Value, ConflistError> {
        let list = self.list_for(subnet_file)?;
        let mut entry = list["plugins"][self.own].clone();
        for key in ["name", "cniVersion"] {
            entry[key] = list[key].clone();
        }
        Ok(entry)
    }

    fn list_for(&self, subnet_file: &Path) -> Result<Value, ConflistError> {
        let unnamed = || ConflistError::Render(subnet_file.to_owned());
        let mut list = self.list.clone();
        list["plugins"][self.own]["subnetFile"] = json!(subnet_file.to_str().ok_or_else(unnamed)?);
        Ok(list)
    }
}

/// Checks the fields before the plugins. Gives the version that pods are made with.
fn head(root: &Map<String, Value>) -> Result<Version, TemplateError> {
    let fields = Fields::root(root);
    if fields.value("plugins").is_none() {
        return Err(not_a_list());
    }
    let text = |key: &str| fields.text(key).map_err(|error| wrong(key, error));
    let name = text("name")?.unwrap_or("missing");
    if name != NETWORK {
        let reason = format!("it is {name}, but netd's network is called {NETWORK}, as flannel's is");
        return Err(wrong("name", reason));
    }
    let known = || Version::ALL.map(Version::as_str).join(", ");
    let parse = |field: &str, text: &str| {
        Version::parse(text).ok_or_else(|| wrong(field, format!("it is {text:?}; the plugin speaks {}", known())))
    };
    let versions = fields.texts("cniVersions").map_err(|error| wrong("cniVersions", error))?;
    versions.into_iter().try_for_each(|one| parse("cniVersions", one).map(drop))?;
    parse("cniVersion", text("cniVersion")?.unwrap_or_default())
}

/// The entry that makes the pods' network, and its index.
fn own_entry(root: &Map<String, Value>) -> Result<(usize, &Map<String, Value>), TemplateError> {
    let fields = Fields::root(root);
    let plugins = fields.list("plugins").map_err(|error| wrong("plugins", error))?;
    let mut own = None;
    for (place, (path, plugin)) in plugins.into_iter().enumerate() {
        let Value::Object(plugin) = plugin else { return Err(wrong(path, "it must be an object")) };
        let kind = Fields::root(plugin).text("type").map_err(|error| wrong(&path, error))?.unwrap_or_default();
        if kind.is_empty() || kind.contains('/') {
            return Err(wrong(format!("{path}.type"), "it must be the name of a plugin"));
        }
        if kind != NETD && kind != FLANNEL {
            continue;
        }
        if own.replace((place, plugin)).is_some() {
            return Err(wrong(path, "there is an entry of netd's or flannel's before it: leave one of them out"));
        }
    }
    own.ok_or_else(|| wrong("plugins", "none has the type \"netd\" (or \"flannel\", which netd takes over)"))
}

/// netd's entry: as it is, or made from flannel's.
fn convert(place: usize, entry: &Map<String, Value>, subnet_file: &Path) -> Result<Map<String, Value>, TemplateError> {
    let path = |key: &str| format!("plugins[{place}].{key}");
    let fields = Fields::root(entry);
    let text = |key: &str| fields.text(key).map_err(|error| wrong(path(key), error));
    if let Some(file) = text("subnetFile")?.filter(|file| Path::new(file) != subnet_file) {
        let reason = format!("it is {file}, but netd writes {}: leave the field out", subnet_file.display());
        return Err(wrong(path("subnetFile"), reason));
    }
    let mut own = entry.clone();
    own.retain(|key, _| !["type", "subnetFile"].iter().any(|known| key.eq_ignore_ascii_case(known)));
    if text("type")? == Some(FLANNEL) {
        // flannel's state for the plugin that it delegates to; netd does not delegate.
        own.retain(|key, _| !key.eq_ignore_ascii_case("dataDir") && !key.eq_ignore_ascii_case("delegate"));
        let of_delegate = |error: CniError| wrong(path("delegate"), error);
        let delegate = fields.object("delegate").map_err(of_delegate)?;
        let kind = delegate.text("type").map_err(of_delegate)?;
        if let Some(kind) = kind.filter(|kind| *kind != "bridge") {
            let reason = format!("it is {kind:?}, but netd puts pods on a bridge and on nothing else");
            return Err(wrong(path("delegate.type"), reason));
        }
        let delegated = fields.value("delegate").and_then(Value::as_object).into_iter().flatten();
        for (key, value) in delegated.filter(|(key, _)| !key.eq_ignore_ascii_case("type")) {
            own.insert(key.clone(), value.clone());
        }
    }
    own.insert("type".to_owned(), json!(NETD));
    // Capabilities: what a runtime may pass to the plugin.
    if !own.keys().any(|key| key.eq_ignore_ascii_case("capabilities")) {
        own.insert("capabilities".to_owned(), json!({ "ips": true, "mac": true }));
    }
    Ok(own)
}

/// Lets the plugin parse the entry as a runtime would pass it.
fn check_with_plugin(place: usize, mut entry: Map<String, Value>, version: Version) -> Result<(), TemplateError> {
    let refused =
        |error: CniError| wrong(format_args!("plugins[{place}]"), format_args!("the plugin would refuse it: {error}"));
    entry.insert("name".to_owned(), json!(NETWORK));
    entry.insert("cniVersion".to_owned(), json!(version.as_str()));
    let document = parse_stdin(Value::Object(entry).to_string().as_bytes()).map_err(refused)?;
    let env = subnet_env::parse(SAMPLE.as_bytes()).ok();
    PluginConf::read(&document, "", env.as_ref()).map(drop).map_err(refused)
}

fn value_mut<'a>(map: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Value> {
    let exact = map.contains_key(key);
    map.iter_mut().find(|(name, _)| if exact { *name == key } else { name.eq_ignore_ascii_case(key) }).map(|(_, it)| it)
}

#[cfg(test)]
mod tests;
