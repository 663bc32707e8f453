//! `netd cleanup`: removes everything of netd's from this node, and nothing else.
//!
//! If flannel runs on the node again, netd and flannel have the same device, routes, subnet file and lease: those are flannel's then.
//!
//! A failure does not stop it. All failures are reported at the end.

use std::error::Error;
use std::path::Path;

use dataplane::kernel::{Kernel, Linux};
use dataplane::link::{self, Device, Kind, Link};
use dataplane::netlink::KernelError;
use dataplane::op::Op;
use dataplane::types::IfName;
use network::overlay::{Desired, Outcome};
use network::plan::Plan;
use network::{chain, observe};

use crate::accept_ra;
use crate::bridge::{self, Memory};
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
use crate::whole_file;

/// Removes everything. Gives the failures, as sentences.
pub async fn run(config: &Config, store: &Store) -> Vec<String> {
    let mut left = Vec::new();
    // Before what a daemon remembered is removed.
    let pods_bridge = bridge::name(config);
    let is_flannels = kernel_state(config, store, &pods_bridge, &mut left).await.unwrap_or_else(|error| {
        left.push(format!("the kernel's state cannot be read: {}", chain(&error)));
        false
    });
    if let Some(folder) = &config.cni.conf_dir {
        for path in done(conflist::remove(folder, &config.subnet_file), &mut left).into_iter().flatten() {
            tracing::info!(path = %path.display(), "CNI configuration removed");
        }
    }
    let shared = (!is_flannels).then(|| config.subnet_file.clone());
    let remembered = [relaxed_rp_filter::file, accept_ra::file, Memory::file].map(|file| file(&config.subnet_file));
    for file in shared.into_iter().chain(remembered) {
        match whole_file::remove(&file) {
            Ok(true) => tracing::info!(path = %file.display(), "file removed"),
            Ok(false) => {}
            Err(error) => left.push(format!("{} cannot be removed: {error}", file.display())),
        }
    }
    if let Some(bin_dir) = &config.cni.bin_dir {
        plugin(bin_dir, &pods_bridge, &mut left);
    }
    if proxy::listing::server::is_running() {
        tracing::info!("the tables of Services stay, since a netd-proxy runs");
    } else {
        done(proxy::cleanup::clean_up(), &mut left);
    }
    // A socket stays if netd was killed. A socket that answers belongs to a running netd.
    match socket::remove_stale(&config.status_socket()).await {
        Err(ClaimError::NoSocket { .. }) => {}
        removed => drop(done(removed, &mut left)),
    }
    if !is_flannels
        && let Some(name) = done(node_name(config.node_name.as_ref()), &mut left)
        && done(store.release(&name).await, &mut left).is_some()
    {
        tracing::info!(node = %name, "lease given back");
    }
    left
}

/// What a step gives, unless it fails: then the failure is left.
fn done<T>(result: Result<T, impl Error>, left: &mut Vec<String>) -> Option<T> {
    result.map_err(|error| left.push(chain(&error))).ok()
}

/// Removes netd's objects from the kernel. True if flannel runs on the node again.
async fn kernel_state(
    config: &Config,
    store: &Store,
    pods_bridge: &IfName,
    left: &mut Vec<String>,
) -> Result<bool, KernelError> {
    let mut kernel = Linux::open()?;
    let identity = owned::identity(config, store).await;
    let host = observe::host(&mut kernel, &identity)?;
    // Reverse-path filters that a change of the backend has relaxed get their former values, and so does `accept_ra`.
    let mut sysctls = relaxed_rp_filter::read(&config.subnet_file);
    let (before, after) = accept_ra::VALUES;
    let changed = accept_ra::read(&config.subnet_file).into_iter();
    let changed = changed.filter(|key| kernel.sysctl(key).is_ok_and(|value| value == after));
    sysctls.extend(changed.map(|key| (key, before.to_owned())));
    let nothing = Desired { sysctls, ..Desired::default() };
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
    left.extend(
        problems::of_run(&report, &Outcome::default(), &std::collections::BTreeMap::new())
            .iter()
            .map(ToString::to_string),
    );
    if let Some(bridge) = idle_bridge(&mut kernel, pods_bridge, &config.subnet_file)?.filter(|_| !is_flannels) {
        tracing::info!(bridge = %bridge.name, "removing the pods' bridge");
        let gone = kernel.socket().request(link::delete(Device::Index(bridge.index)));
        left.extend(gone.err().map(|error| format!("bridge {} cannot be removed: {}", bridge.name, chain(&error))));
    }
    Ok(is_flannels)
}

/// Removes the plugin, unless pods are left: they could not be deleted without the plugin.
fn plugin(bin_dir: &Path, pods_bridge: &IfName, left: &mut Vec<String>) {
    match Linux::open().and_then(|mut kernel| Ok(with_pods(&mut kernel, pods_bridge)?.map_or(0, |(_, pods)| pods))) {
        Ok(0) => {
            if done(install::remove(bin_dir), left) == Some(true) {
                tracing::info!(folder = %bin_dir.display(), "CNI plugin removed");
            }
        }
        Ok(pods) => tracing::warn!(pods, "the CNI plugin stays, since pods need it to be deleted: then run this again"),
        Err(error) => left.push(format!("the CNI plugin stays, since pods cannot be counted: {}", chain(&error))),
    }
}

/// The link with the name of the pods' bridge, and how many pods are on it.
fn with_pods(kernel: &mut Linux, name: &IfName) -> Result<Option<(Link, usize)>, KernelError> {
    let Some(link) = kernel.links()?.into_iter().find(|link| link.name == *name) else { return Ok(None) };
    let pods = kernel.socket().ports(link.index)?.len();
    Ok(Some((link, pods)))
}

/// The plugin's bridge, if it has this node's gateway address and no pods.
fn idle_bridge(kernel: &mut Linux, name: &IfName, subnet_file: &Path) -> Result<Option<Link>, KernelError> {
    let subnets = subnet_env::previous_subnets(&whole_file::read(subnet_file).unwrap_or_default());
    let gateways: Vec<_> = subnets.iter().filter_map(|(_, subnet)| subnet.nth(1)).collect();
    let bridge = with_pods(kernel, name)?.filter(|(link, _)| link.kind == Kind::Bridge);
    let Some((link, pods)) = bridge else { return Ok(None) };
    if !kernel.addresses()?.iter().any(|a| a.index == link.index && gateways.contains(&a.address)) {
        return Ok(None);
    }
    if pods > 0 {
        tracing::warn!(
            bridge = %name,
            pods,
            "the bridge stays, since pods are on it: delete them, then run this again"
        );
        return Ok(None);
    }
    Ok(Some(link))
}
