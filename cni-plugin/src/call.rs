//! The verb and its parameters from the environment, checked in the order of the specification's own library, so that a
//! runtime gets the error that it expects. Pure: the environment is an argument.

use dataplane::types::IfName;

use crate::attachment::{Id, InvalidId};
use crate::cni_error::{CniError, Code};

/// A verb with the parameters that it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Attach a container.
    Add(Target),
    /// Detach a container.
    Del(Target),
    /// Check that the attachment is as ADD made it.
    Check(Target),
    /// Remove what belongs to no valid attachment.
    Gc,
    /// Whether ADD would succeed now.
    Status,
    /// Which versions are supported.
    Version,
}

/// The attachment of a verb.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `CNI_CONTAINERID`
    pub container: Id,
    /// `CNI_NETNS`; empty only for DEL, where it means that the namespace is gone.
    pub netns: String,
    /// `CNI_IFNAME`
    pub ifname: IfName,
    /// `CNI_ARGS`, unread.
    pub args: String,
    /// `CNI_NETNS_OVERRIDE`: the namespace may be the plugin's own.
    pub own_netns_allowed: bool,
}

/// Reads the call; `None` without a `CNI_COMMAND`, where a person has started the plugin. `variable` gives an environment
/// variable; unset and empty are the same.
///
/// # Errors
/// All missing variables in one error; the first wrong one.
pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Call>, CniError> {
    let get = |name: &str| variable(name).unwrap_or_default();
    let command = get("CNI_COMMAND");
    let has_target = match command.as_str() {
        "" => return Ok(None),
        "ADD" | "DEL" | "CHECK" => true,
        "GC" | "STATUS" | "VERSION" => false,
        _ => return Err(wrong(format!("unknown CNI_COMMAND: {command}"))),
    };
    let container = parsed(&get("CNI_CONTAINERID"), id_of)?;
    let ifname = parsed(&get("CNI_IFNAME"), ifname_of)?;
    let required = [
        ("CNI_CONTAINERID", has_target),
        ("CNI_NETNS", has_target && command != "DEL"),
        ("CNI_IFNAME", has_target),
        // STATUS and VERSION call no other plugin, so they need no path.
        ("CNI_PATH", has_target || command == "GC"),
    ];
    let missing = required.iter().filter(|(name, needed)| *needed && get(name).is_empty());
    let missing: Vec<_> = missing.map(|(name, _)| *name).collect();
    if !missing.is_empty() {
        return Err(wrong(format!("required env variables [{}] missing", missing.join(","))));
    }
    let target = container.zip(ifname).map(|(container, ifname)| Target {
        container,
        netns: get("CNI_NETNS"),
        ifname,
        args: get("CNI_ARGS"),
        own_netns_allowed: ["1", "true", "TRUE", "True"].contains(&get("CNI_NETNS_OVERRIDE").as_str()),
    });
    Ok(Some(match (command.as_str(), target) {
        ("ADD", Some(target)) => Call::Add(target),
        ("DEL", Some(target)) => Call::Del(target),
        ("CHECK", Some(target)) => Call::Check(target),
        ("GC", _) => Call::Gc,
        ("STATUS", _) => Call::Status,
        _ => Call::Version,
    }))
}

fn wrong(message: String) -> CniError {
    CniError::new(Code::InvalidEnvironment, message)
}

fn parsed<T>(text: &str, parse: impl FnOnce(&str) -> Result<T, CniError>) -> Result<Option<T>, CniError> {
    if text.is_empty() { Ok(None) } else { parse(text).map(Some) }
}

fn id_of(text: &str) -> Result<Id, CniError> {
    let fault = |reason| format!("invalid characters in containerID: CNI_CONTAINERID is {text:?}; {reason}");
    text.parse().map_err(|reason: InvalidId| wrong(fault(reason)))
}

fn ifname_of(text: &str) -> Result<IfName, CniError> {
    let phrase = match text {
        long if long.len() > 15 => "interface name is too long",
        "." | ".." => "interface name is . or ..",
        _ => "interface name contains / or : or whitespace characters",
    };
    text.parse().map_err(|reason| wrong(format!("{phrase}: CNI_IFNAME {reason}")))
}

#[cfg(test)]
mod tests;
