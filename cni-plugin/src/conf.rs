//! The network configuration that the runtime gives on stdin, read once into typed values. Pure.
//!
//! Keys match in any case, as they do for the plugins that users have today, and runtimes rely on it: containerd writes
//! `HostPort` where the specification says `hostPort`.

pub mod arguments;
pub mod attachments;
mod dns;
pub mod fields;
pub mod plugin_conf;
pub mod prev_result;
pub mod ranges;
pub mod subnet_env;

use std::fmt::Display;

use serde_json::{Map, Value};

use crate::attachment::{Id, InvalidId};
use crate::cni_error::{CniError, Code};
use crate::version::Version;

pub use fields::Fields;

/// The most bytes that are read from stdin: real configurations have some kilobytes.
pub const MAX_STDIN: usize = 16 << 20;

/// Why a configuration cannot be used. The message names the field and its value.
fn invalid(message: impl Into<String>) -> CniError {
    CniError::new(Code::InvalidConfiguration, message)
}

/// Why stdin cannot be decoded.
fn undecodable(reason: impl Display) -> CniError {
    CniError::new(Code::Decode, format!("error unmarshall network config: {reason}"))
}

/// A network configuration with the fields that every verb needs, and the rest unread.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// `cniVersion`: the version of the answer.
    pub version: Version,
    /// `name`
    pub network: Id,
    /// `type`, where given.
    pub kind: Option<String>,
    root: Map<String, Value>,
}

impl Document {
    /// The whole, by key.
    pub fn fields(&self) -> Fields<'_> {
        Fields::root(&self.root)
    }
}

/// Reads the fields that every verb needs from stdin: an object with a usable name and a supported version.
///
/// # Errors
/// The first error, in the order in which the specification's own library checks.
pub fn parse_stdin(stdin: &[u8]) -> Result<Document, CniError> {
    if stdin.len() > MAX_STDIN {
        return Err(undecodable(format!("more than {MAX_STDIN} bytes")));
    }
    let root = match serde_json::from_slice(stdin).map_err(undecodable)? {
        Value::Object(root) => root,
        Value::Null => Map::new(),
        _ => return Err(undecodable("expected an object with the keys 'cniVersion', 'name' and 'type'")),
    };
    let fields = Fields::root(&root);
    let name = fields.text("name")?.unwrap_or_default();
    if name.is_empty() {
        return Err(invalid("missing network name"));
    }
    let wrong_name =
        |reason: InvalidId| invalid(format!("invalid characters found in network name: {name:?}: {reason}"));
    let network = name.parse().map_err(wrong_name)?;
    let version = fields.text("cniVersion")?.unwrap_or_default();
    let unknown = || {
        let details = format!("config is {version:?}, plugin supports {:?}", Version::ALL.map(Version::as_str));
        CniError::new(Code::IncompatibleVersion, "incompatible CNI versions").with_details(details)
    };
    let version = Version::parse(version).ok_or_else(unknown)?;
    let kind = fields.text("type")?.map(str::to_owned);
    Ok(Document { version, network, kind, root })
}

/// The version to report an error in, where stdin has a readable one.
pub fn version_of(stdin: &[u8]) -> Option<Version> {
    let Ok(Value::Object(root)) = serde_json::from_slice(stdin) else { return None };
    Fields::root(&root).text("cniVersion").ok()?.and_then(Version::parse)
}

#[cfg(test)]
mod tests;
