//! The verb and its parameters from the environment, checked in the order of the specification's own library, so that a
//! runtime gets the error that it expects. Pure: the environment is an argument.

use dataplane::types::IfName;

use crate::attachment::Id;
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

/// The environment, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Environment {
    /// The plugin was started by a runtime.
    Call(Call),
    /// There is no `CNI_COMMAND`: a person has started the plugin.
    NoCommand,
}

/// Reads the call. `variable` gives an environment variable; unset and empty are the same.
///
/// # Errors
/// All missing variables in one error; the first wrong one.
pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Environment, CniError> {
    let get = |name: &str| variable(name).unwrap_or_default();
    let command = get("CNI_COMMAND");
    let is_known = ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"].contains(&command.as_str());
    if command.is_empty() {
        return Ok(Environment::NoCommand);
    } else if !is_known {
        return Err(wrong(format!("unknown CNI_COMMAND: {command}")));
    }
    let with_target = ["ADD", "DEL", "CHECK"].contains(&command.as_str());
    let mut missing = Vec::new();
    let mut required = |name: &'static str, needed: bool| {
        let value = get(name);
        if value.is_empty() && needed {
            missing.push(name);
        }
        value
    };
    let container = required("CNI_CONTAINERID", with_target);
    let container = parsed(&container, |text| text.parse::<Id>().map_err(|reason| container_fault(text, reason)))?;
    let netns = required("CNI_NETNS", with_target && command != "DEL");
    let ifname = required("CNI_IFNAME", with_target);
    let ifname = parsed(&ifname, ifname_of)?;
    // STATUS and VERSION call no other plugin, so they need no path.
    required("CNI_PATH", with_target || command == "GC");
    if !missing.is_empty() {
        return Err(wrong(format!("required env variables [{}] missing", missing.join(","))));
    }
    let own_netns_allowed = ["1", "true", "TRUE", "True"].contains(&get("CNI_NETNS_OVERRIDE").as_str());
    let target = container.zip(ifname).map(|(container, ifname)| Target {
        container,
        netns,
        ifname,
        args: get("CNI_ARGS"),
        own_netns_allowed,
    });
    Ok(Environment::Call(match (command.as_str(), target) {
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

fn container_fault(text: &str, reason: impl std::fmt::Display) -> CniError {
    wrong(format!("invalid characters in containerID: CNI_CONTAINERID is {text:?}; {reason}"))
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
