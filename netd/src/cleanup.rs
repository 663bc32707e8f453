//! `netd cleanup`: removes everything of netd's from this node, and nothing else.
//!
//! If flannel runs on the node again, netd and flannel have the same device, routes, subnet file and lease: those are flannel's then.
//!
//! A failure does not stop it. All failures are reported at the end.

use std::fs;
use std::io;
use std::path::Path;

use dataplane::kernel::{Kernel, Linux};
use dataplane::link::{self, Device, Kind, Link};
use dataplane::netlink::KernelError;
use dataplane::op::Op;
use network::overlay::{Desired, Outcome};
use network::plan::Plan;
use network::{chain, observe};

use crate::config::Config;
use crate::conflist;
use crate::install;
use crate::node::node_name;
use crate::owned;
use crate::reconcile::{self, problems};
use crate::relaxed_rp_filter;
use crate::status::socket::{self, ClaimError};
use crate::store::Store;
use crate::subnet_env;

/// The bridge that the plugin makes.
const BRIDGE: &str = "cni0";

/// Removes everything. Gives the failures, as sentences.
pub async fn run(config: &Config, store: &impl Store) -> Vec<String> {
    let mut left = Vec::new();
    let is_flannels = kernel_state(config, store, &mut left).await.unwrap_or_else(|error| {
        left.push(format!("the kernel's state cannot be read: {}", chain(&error)));
        false
    });
    if let Some(folder) = &config.cni.conf_dir {
        match conflist::remove(folder, &config.subnet_file) {
            Ok(gone) => {
                for path in gone {
                    tracing::info!(path = %path.display(), "CNI configuration removed");
                }
            }
            Err(error) => left.push(chain(&error)),
        }
    }
    let shared = (!is_flannels).then(|| config.subnet_file.clone());
    for file in shared.into_iter().chain([relaxed_rp_filter::file(&config.subnet_file)]) {
        match fs::remove_file(&file) {
            Ok(()) => tracing::info!(path = %file.display(), "file removed"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => left.push(format!("{} cannot be removed: {error}", file.display())),
        }
    }
    if let Some(bin_dir) = &config.cni.bin_dir {
        plugin(bin_dir, &mut left);
    }
    // A socket stays if netd was killed. A socket that answers belongs to a running netd.
    match socket::remove_stale(&config.status_socket()) {
        Ok(_) | Err(ClaimError::NoSocket { .. }) => {}
        Err(error) => left.push(chain(&error)),
    }
    if is_flannels {
        return left;
    }
    match node_name(config.node_name.as_ref()) {
        Ok(name) => match store.release(&name).await {
            Ok(()) => tracing::info!(node = %name, "lease given back"),
            Err(error) => left.push(chain(&error)),
        },
        Err(error) => left.push(chain(&error)),
    }
    left
}

/// Removes netd's objects from the kernel. True if flannel runs on the node again.
async fn kernel_state(config: &Config, store: &impl Store, left: &mut Vec<String>) -> Result<bool, KernelError> {
    let mut kernel = Linux::open()?;
    let identity = owned::identity(config, store).await;
    let host = observe::host(&mut kernel, &identity)?;
    // Reverse-path filters that a change of the backend has relaxed get their former values.
    let nothing = Desired { sysctls: relaxed_rp_filter::read(&config.subnet_file), ..Desired::default() };
    let mut observed = observe::observed(&mut kernel, host, &identity, &nothing)?;
    // A running netd removes flannel's objects, so these are of a flannel that was started later.
    let is_flannels = !std::mem::take(&mut observed.leftovers).is_empty();
    let mut plan = Plan::diff(&observed, &nothing, &identity);
    if is_flannels {
        tracing::info!(
            "flannel has this node again: the device, the routes, subnet.env and the node's record stay, since they are flannel's"
        );
        plan.ops.retain(|op| matches!(op, Op::Nft(_) | Op::SetSysctl { .. }));
    }
    for op in &plan.ops {
        tracing::info!(op = %op, "removing");
    }
    let report = reconcile::apply(&mut kernel, plan);
    left.extend(problems::of_run(&report, &Outcome::default()).iter().map(ToString::to_string));
    if let Some(bridge) = idle_bridge(&mut kernel, &config.subnet_file)?.filter(|_| !is_flannels) {
        tracing::info!(bridge = %bridge.name, "removing the pods' bridge");
        let gone = kernel.socket().request(link::delete(Device::Index(bridge.index)));
        left.extend(gone.err().map(|error| format!("bridge {} cannot be removed: {}", bridge.name, chain(&error))));
    }
    Ok(is_flannels)
}

/// Removes the plugin, unless pods are left: they could not be deleted without the plugin.
fn plugin(bin_dir: &Path, left: &mut Vec<String>) {
    match pods() {
        Ok(0) => match install::remove(bin_dir) {
            Ok(true) => tracing::info!(folder = %bin_dir.display(), "CNI plugin removed"),
            Ok(false) => {}
            Err(error) => left.push(chain(&error)),
        },
        Ok(pods) => tracing::warn!(pods, "the CNI plugin stays, since pods need it to be deleted: then run this again"),
        Err(error) => left.push(format!("the CNI plugin stays, since pods cannot be counted: {}", chain(&error))),
    }
}

/// How many pods are on the bridge.
fn pods() -> Result<usize, KernelError> {
    let mut kernel = Linux::open()?;
    match kernel.links()?.into_iter().find(|link| link.name.as_str() == BRIDGE) {
        Some(bridge) => Ok(kernel.socket().ports(bridge.index)?.len()),
        None => Ok(0),
    }
}

/// The plugin's bridge, if it has this node's gateway address and no pods.
fn idle_bridge(kernel: &mut Linux, subnet_file: &Path) -> Result<Option<Link>, KernelError> {
    let subnets = subnet_env::previous_subnets(&fs::read_to_string(subnet_file).unwrap_or_default());
    let Some(bridge) =
        kernel.links()?.into_iter().find(|link| link.name.as_str() == BRIDGE && link.kind == Kind::Bridge)
    else {
        return Ok(None);
    };
    let gateways: Vec<_> = subnets.iter().filter_map(|(_, subnet)| subnet.nth(1)).collect();
    let ours = kernel.addresses()?.iter().any(|a| a.index == bridge.index && gateways.contains(&a.address));
    if !ours {
        return Ok(None);
    }
    let pods = kernel.socket().ports(bridge.index)?.len();
    if pods > 0 {
        tracing::warn!(
            bridge = BRIDGE,
            pods,
            "the bridge stays, since pods are on it: delete them, then run this again"
        );
        return Ok(None);
    }
    Ok(Some(bridge))
}
