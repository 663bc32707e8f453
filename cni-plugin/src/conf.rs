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

use serde_json::{Map, Value};

use crate::attachment::{Id, InvalidId};
use crate::cni_error::{CniError, Code};
use crate::ipam::range::RangeError;
use crate::version::{UnknownVersion, Version};

pub use fields::Fields;
pub use prev_result::PrevResultError;

/// The most bytes that are read from stdin: real configurations have some kilobytes.
pub const MAX_STDIN: usize = 16 << 20;

/// Why a configuration cannot be used. The message names the field and its value.
#[derive(Debug, thiserror::Error)]
pub enum ConfError {
    /// The text is no JSON.
    #[error("error unmarshall network config")]
    Json(#[source] serde_json::Error),
    /// The JSON is no object.
    #[error("error unmarshall network config: expected an object with the keys 'cniVersion', 'name' and 'type'")]
    NotAnObject,
    /// Stdin is longer than [`MAX_STDIN`].
    #[error("error unmarshall network config: more than {MAX_STDIN} bytes")]
    TooLong,
    /// No `name`.
    #[error("missing network name")]
    NoName,
    /// `name` cannot be the name of a directory.
    #[error("invalid characters found in network name: {name:?}")]
    Name {
        /// What was given.
        name: String,
        /// What is wrong with it.
        #[source]
        source: InvalidId,
    },
    /// `cniVersion` is not supported.
    #[error(transparent)]
    Version(#[from] UnknownVersion),
    /// A field has the wrong JSON type.
    #[error("error unmarshall network config: {field} must be {expected}, but it is {found}")]
    Type {
        /// Where it is.
        field: String,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// A field has the right type and a wrong value.
    #[error("{field} is {value}: {reason}")]
    Value {
        /// Where it is.
        field: String,
        /// What it is.
        value: String,
        /// Why it is wrong.
        reason: String,
    },
    /// A field has a value that the plugin does not support.
    #[error("{field} is {value}: the plugin does not support it; remove the field")]
    Unsupported {
        /// Where it is.
        field: String,
        /// What it is.
        value: String,
    },
    /// Two fields exclude each other.
    #[error("cannot set hairpin mode and promiscuous mode at the same time")]
    HairpinAndPromiscuous,
    /// `ipam` and `subnet.env` give no range to allocate from.
    #[error("no IP ranges specified")]
    NoRanges,
    /// A range is wrong.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// `CNI_ARGS` is wrong.
    #[error("ARGS: {0}")]
    Arguments(String),
    /// `prevResult` is wrong.
    #[error(transparent)]
    PrevResult(#[from] PrevResultError),
    /// A verb needs `prevResult`.
    #[error("required prevResult missing")]
    NoPrevResult,
    /// GC got no list of valid attachments.
    #[error("missing cni.dev/valid-attachments: without the list of what to keep, nothing is removed")]
    NoAttachments,
}

impl From<ConfError> for CniError {
    fn from(error: ConfError) -> Self {
        let code = match &error {
            ConfError::Json(_) | ConfError::NotAnObject | ConfError::TooLong | ConfError::Type { .. } => Code::Decode,
            ConfError::Version(_) => Code::IncompatibleVersion,
            ConfError::Unsupported { .. } => Code::UnsupportedField,
            ConfError::Arguments(_) => Code::InvalidEnvironment,
            _ => Code::InvalidConfiguration,
        };
        let details = match &error {
            ConfError::Version(UnknownVersion { wanted }) => {
                format!("config is {wanted:?}, plugin supports {:?}", Version::ALL.map(Version::as_str))
            }
            _ => String::new(),
        };
        CniError::of(code, &error).with_details(details)
    }
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
pub fn parse_stdin(stdin: &[u8]) -> Result<Document, ConfError> {
    if stdin.len() > MAX_STDIN {
        return Err(ConfError::TooLong);
    }
    let root = match serde_json::from_slice(stdin).map_err(ConfError::Json)? {
        Value::Object(root) => root,
        Value::Null => Map::new(),
        _ => return Err(ConfError::NotAnObject),
    };
    let fields = Fields::root(&root);
    let name = fields.text("name")?.unwrap_or_default();
    if name.is_empty() {
        return Err(ConfError::NoName);
    }
    let network = name.parse().map_err(|source| ConfError::Name { name: name.to_owned(), source })?;
    let version = fields.text("cniVersion")?.unwrap_or_default().parse()?;
    let kind = fields.text("type")?.map(str::to_owned);
    Ok(Document { version, network, kind, root })
}

/// The version to report an error in, where stdin has a readable one.
pub fn version_of(stdin: &[u8]) -> Option<Version> {
    let Ok(Value::Object(root)) = serde_json::from_slice(stdin) else { return None };
    Fields::root(&root).text("cniVersion").ok()??.parse().ok()
}

#[cfg(test)]
mod tests;
