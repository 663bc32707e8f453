//! The veth pair: one end on the node's bridge, the other in the pod.

use std::thread;
use std::time::{Duration, Instant};

use dataplane::link::{self, Device, Link, NewVeth};
use dataplane::netlink::RouteSocket;
use dataplane::process;
use dataplane::types::{IfName, Mac};
use nix::libc::EXFULL;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use super::namespace::Namespace;
use super::{bridge, if_there, step};
use crate::attachment::Attachment;
use crate::cni_error::{CniError, Code};
use crate::conf::plugin_conf::BridgeConf;

/// How long to wait for the kernel. It needs a millisecond.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The shortest pause between two reads.
const PAUSE: Duration = Duration::from_micros(100);

/// Reads until `is_done`; false after the timeout. Pauses before the next read, for a quarter of the time that has passed: a
/// hundred pods that are deleted at a time would keep the node busy with reads.
fn wait_until(mut is_done: impl FnMut() -> Result<bool, CniError>) -> Result<bool, CniError> {
    let begun = Instant::now();
    while begun.elapsed() < TIMEOUT {
        if is_done()? {
            return Ok(true);
        }
        thread::sleep(PAUSE.max(begun.elapsed() / 4));
    }
    Ok(false)
}

/// Makes the pair in one message, on the bridge and up on the node's side, and sets the port up in the same send.
///
/// # Errors
/// Where the kernel refuses; then there is no pair.
pub fn make(
    host: &mut RouteSocket,
    attachment: &Attachment,
    bridge: &Link,
    conf: &BridgeConf,
    pod_mac: Mac,
    namespace: &Namespace,
) -> Result<(), CniError> {
    let name = attachment.host_veth();
    let pair = NewVeth {
        name: &name,
        mac: Some(attachment.host_mac()),
        master: Some(bridge.index),
        mtu: conf.mtu,
        peer: &attachment.ifname,
        peer_mac: Some(pod_mac),
        peer_netns: namespace.fd(),
    };
    let mut outcomes = host.batch(&[
        link::add_veth(&pair),
        link::set_port(Device::Name(&name), conf.hairpin, conf.port_isolation, &attachment.alias(), conf.mtu),
    ]);
    let port = outcomes.pop();
    match outcomes.pop() {
        Some(Err(error)) if error.is_exists() => {
            let message = format!("link {name} already exists: the attachment was added before; DEL removes it");
            return Err(CniError::new(Code::AlreadyThere, message));
        }
        Some(Err(error)) if error.errno() == Some(EXFULL) => return Err(bridge::full(&conf.name)),
        Some(Err(error)) => return Err(step(format_args!("create veth {name}"))(error)),
        _ => {}
    }
    if let Some(Err(error)) = port {
        let _ = host.request(link::delete(Device::Name(&name)));
        return Err(step(format_args!("configure bridge port {name}"))(error));
    }
    Ok(())
}

/// The host end, where it is there and this attachment's.
///
/// # Errors
/// Where the kernel cannot be asked.
pub fn find(host: &mut RouteSocket, attachment: &Attachment) -> Result<Option<Link>, CniError> {
    let name = attachment.host_veth();
    let link = host.link(&name).map_err(step(format_args!("read link {name}")))?;
    // A link without an alias is ours by its name.
    let is_ours =
        |link: &Link| link.alias.as_deref().is_none_or(|alias| alias.is_empty() || alias == attachment.alias());
    Ok(link.filter(is_ours))
}

/// Waits until the bridge forwards the pod's frames. Reading a link makes the kernel handle a change of the carrier at once
/// (6.10 and later), so the first read is nearly always enough.
///
/// # Errors
/// Where it does not within the timeout.
pub fn await_forwarding(host: &mut RouteSocket, attachment: &Attachment) -> Result<(), CniError> {
    let name = attachment.host_veth();
    let is_forwarding = || {
        let link = host.link(&name).map_err(step(format_args!("read link {name}")))?;
        Ok(link.and_then(|link| link.port).is_some_and(|port| port.forwarding))
    };
    if wait_until(is_forwarding)? {
        return Ok(());
    }
    let message = format!("bridge port {name} is not forwarding after {} s", TIMEOUT.as_secs());
    Err(CniError::new(Code::TryAgainLater, message))
}

fn remove_waiting(host: &mut RouteSocket, name: &IfName) -> Result<(), CniError> {
    if_there(host.request(link::delete(Device::Name(name))), format_args!("remove link {name}"))
}

/// Removes the pair by its host end, and returns when the name is gone: then no frame passes, and the name is free.
///
/// The kernel answers a removal after a grace period of 16 to 20 ms, when the pair is long gone. A child process waits for the
/// answer.
///
/// # Errors
/// Where the link stays.
pub fn remove(host: &mut RouteSocket, attachment: &Attachment) -> Result<(), CniError> {
    let name = attachment.host_veth();
    let request = link::delete(Device::Name(&name));
    let detached = process::detach(|| {
        // The parent reads whether the link is gone.
        let _ = host.request(request);
    });
    if detached.is_err() {
        // The node has no process to spare: this process waits for the answer.
        return remove_waiting(host, &name);
    }
    let is_gone = || {
        // This read takes no lock that the removal holds.
        if link::index_of(&name).is_none() {
            return Ok(true);
        }
        let child = waitpid(None, Some(WaitPidFlag::WNOHANG));
        if matches!(child, Ok(WaitStatus::StillAlive)) {
            return Ok(false);
        }
        // The child has its answer: the link has just gone, or it stays. A second removal gives the kernel's error.
        remove_waiting(host, &name).map(|()| true)
    };
    if wait_until(is_gone)? {
        return Ok(());
    }
    let message = format!("link {name} is still there after {} s; it is to be removed again", TIMEOUT.as_secs());
    Err(CniError::new(Code::TryAgainLater, message))
}
