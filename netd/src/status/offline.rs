//! The offline status: what the kernel and the files have of a netd that does not run. Changes nothing.
//!
//! Parts that cannot be read are listed among the problems; the rest is reported all the same.

use std::sync::Arc;

use dataplane::kernel::{Kernel, Linux};
use dataplane::netlink::KernelError;
use dataplane::op::DeviceRoute;
use dataplane::types::{Family, IfName, Mac, PerFamily, Prefix};
use network::overlay::PROTOCOL;
use network::{chain, observe};
use serde::{Deserialize, Serialize};

use super::LeaseStatus;
use crate::config::Config;
use crate::node::node_name;
use crate::owned;
use crate::store::Store;
use crate::subnet_env;
use crate::whole_file;

/// The offline status.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OfflineStatus {
    /// False.
    pub running: bool,
    /// How this is known.
    pub why: String,
    /// The node.
    pub node: Option<String>,
    /// Its lease.
    pub lease: Option<LeaseStatus>,
    /// The source of the lease: the store, or else the subnet file.
    pub lease_from: String,
    /// netd's tunnel devices.
    pub devices: Vec<Device>,
    /// netd's routes, as `ip route` writes them.
    pub routes: Vec<String>,
    /// The parts that could not be read.
    pub problems: Vec<String>,
}

/// A tunnel device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Its name.
    pub name: IfName,
    /// Whether it is up.
    pub up: bool,
    /// Its MTU.
    pub mtu: u32,
    /// Its hardware address.
    pub mac: Option<Mac>,
    /// Permanent forwarding entries on it.
    pub fdb: usize,
    /// Permanent neighbours on it.
    pub neighbours: usize,
}

/// Reads the status. `why` says how it is known that no netd runs.
pub async fn read(config: &Config, store: &Store, why: String) -> OfflineStatus {
    let mut status = OfflineStatus { why, ..OfflineStatus::default() };
    match node_name(config.node_name.as_ref()) {
        Ok(name) => status.node = Some(name.to_string()),
        Err(error) => status.problems.push(chain(&error)),
    }
    let identity = owned::identity(config, store).await;
    lease(config, store, &identity.networks, &mut status).await;
    if let Err(error) = kernel(&identity, &mut status) {
        status.problems.push(format!("the kernel's state cannot be read: {}", chain(&error)));
    }
    status
}

async fn lease(config: &Config, store: &Store, networks: &PerFamily<Prefix>, status: &mut OfflineStatus) {
    let stored = match store.leases().await {
        Ok(leases) => leases.into_iter().find(|lease| Some(lease.node.as_str()) == status.node.as_deref()),
        Err(error) => {
            status.problems.push(chain(&error));
            None
        }
    };
    if let Some(mut lease) = stored {
        // A Kubernetes Node may have ranges of more families than the network.
        if !networks.is_empty() {
            Arc::make_mut(&mut lease).keep_families(|family| networks.get(family).is_some());
        }
        (status.lease, status.lease_from) = (Some((&*lease).into()), "the store".to_owned());
        return;
    }
    let text = whole_file::read(&config.subnet_file).unwrap_or_default();
    let subnets: PerFamily<Prefix> = subnet_env::previous_subnets(&text);
    let subnets: Vec<Prefix> = subnets.iter().map(|(_, subnet)| *subnet).collect();
    if !subnets.is_empty() {
        status.lease = Some(LeaseStatus { subnets, ..LeaseStatus::default() });
        status.lease_from = config.subnet_file.display().to_string();
    }
}

fn kernel(identity: &network::overlay::Identity, status: &mut OfflineStatus) -> Result<(), KernelError> {
    let mut kernel = Linux::open()?;
    let host = observe::host(&mut kernel, identity)?;
    for link in observe::our_devices(&host, identity) {
        let fdb = kernel.fdb(link.index)?.into_iter().filter(|entry| entry.permanent).count();
        let mut neighbours = 0;
        for family in Family::BOTH {
            neighbours += kernel.neighbours(link.index, family)?.into_iter().filter(|entry| entry.permanent).count();
        }
        let (name, up, mtu, mac) = (link.name.clone(), link.up, link.mtu, link.mac);
        status.devices.push(Device { name, up, mtu, mac, fdb, neighbours });
    }
    let everywhere = identity.networks.families().next().is_none();
    let ours = host.routes.iter().filter(|route| route.protocol == PROTOCOL);
    let ours = ours.filter(|route| everywhere || identity.covers(route.destination));
    for route in ours {
        if let Some(link) = host.links.values().find(|link| link.index == route.index) {
            status.routes.push(DeviceRoute::of(route, link.name.clone()).to_string());
        }
    }
    Ok(())
}
