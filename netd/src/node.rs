//! This node before it has a lease: its network, its interface, its tunnel ends. Found out without changing anything.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use dataplane::address::Address;
use dataplane::kernel::{Kernel, Linux};
use dataplane::link::Link;
use dataplane::netlink::KernelError;
use dataplane::types::{Family, IfName, PerFamily, Prefix};
use network::backend::{OwnState, TunnelDevice, TunnelDeviceError};
use network::interface::{self, InterfaceError, InterfaceOptions, Underlay};
use network::model::{AdmissionRules, Lease, NodeName, NodeNameError};
use network::net_conf::{NetConf, NetConfError};
use network::observe::{self, Host};
use network::overlay::Identity;

use crate::bridge;
use crate::config::{Config, UnderlayConfig};
use crate::host;
use crate::identity;
use crate::store::{LeaseRequest, Store, StoreError};
use crate::subnet_env;
use crate::whole_file;

/// Why the node cannot take part in the network as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The configuration cannot be read.
    #[error("cannot get the network configuration")]
    Store(#[from] StoreError),
    /// The configuration is wrong.
    #[error("the network configuration is not valid")]
    NetConf(#[from] NetConfError),
    /// The pods' ranges are others.
    #[error(
        "the address ranges of the network (Network, SubnetLen, SubnetMin, SubnetMax and those of IPv6) cannot change while pods have addresses of them: put them back, or drain the nodes, run `netd cleanup` on each and start netd again"
    )]
    OtherNetwork,
    /// No interface fits.
    #[error("cannot choose the interface for packets between nodes")]
    Interface(#[from] InterfaceError),
    /// An address of the node is one that a pod could get.
    #[error(
        "{field} {network} contains this node's own address {address} on {ifname}: give the pods a network that no node's address is in"
    )]
    InsideNetwork {
        /// The field of the configuration.
        field: &'static str,
        /// The field's value.
        network: Prefix,
        /// The address.
        address: IpAddr,
        /// The interface.
        ifname: IfName,
    },
    /// The interface cannot carry the network.
    #[error("cannot carry the network over that interface")]
    TunnelDevice(#[from] TunnelDeviceError),
    /// The kernel cannot be asked.
    #[error("cannot read the kernel's state: netd needs the capability NET_ADMIN")]
    Kernel(#[from] KernelError),
    /// The host's name will not do.
    #[error("the host's name will not do as this node's: give one by --node-name")]
    Name(#[from] NodeNameError),
    /// The host has no name.
    #[error("cannot read the host's name: give one by --node-name")]
    NoName(#[source] std::io::Error),
}

impl NodeError {
    /// True where the host has no default route yet, as at a boot.
    pub fn is_for_now(&self) -> bool {
        matches!(self, Self::Interface(InterfaceError::NoDefaultRoute))
    }
}

/// What is known of the node.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// The network.
    pub conf: NetConf,
    /// The interface and addresses that packets between nodes have.
    pub underlay: Underlay,
    /// Which device carries the pods of a family.
    pub tunnel_devices: PerFamily<TunnelDevice>,
    /// How its objects are marked.
    pub identity: Identity,
    /// The public addresses that the store has for it, in place of the configured ones.
    pub public: PerFamily<IpAddr>,
    /// The length of each node's subnet; none where the store gives nodes subnets of any length.
    pub subnet_len: PerFamily<u8>,
    /// The name of the pods' bridge.
    pub bridge: IfName,
}

impl Node {
    /// Finds out, from the configuration's text and the kernel.
    pub async fn discover(config: &Config, store: &Store, kernel: &mut Linux) -> Result<Self, NodeError> {
        let name = node_name(config.node_name.as_ref())?;
        let (conf, unknown) = NetConf::parse(&store.net_conf().await?)?;
        for key in unknown {
            tracing::debug!(%key, "net-conf.json has a key that netd does not know");
        }
        let public = store.public_addresses(&name).await?;
        let recorded = store.lease(&name).await?.map(|lease| lease.public).unwrap_or_default();
        let bridge = bridge::name(config);
        let host = observe::links_and_routes(kernel)?;
        let (underlay, tunnel_devices) = place(&config.underlay, &bridge, &conf, (public, recorded), &host, kernel)?;
        check_kernel(&conf, &underlay, &host, kernel)?;
        let previous = whole_file::read(&config.subnet_file).unwrap_or_default();
        let identity = identity::of(&config.subnet_file, conf.prefixes(), &previous);
        let subnet_len =
            if store.gives_subnets() { PerFamily::none() } else { conf.networks.map(|_, range| range.subnet_len) };
        Ok(Self { name, conf, underlay, tunnel_devices, identity, public, subnet_len, bridge })
    }

    /// Looks again at the interface that carries the network; true where something about it is not as it was.
    pub fn follow_underlay(
        &mut self,
        config: &UnderlayConfig,
        host: &Host,
        kernel: &mut Linux,
    ) -> Result<bool, NodeError> {
        let addresses = (self.public, self.underlay.addresses);
        let (underlay, tunnel_devices) = place(config, &self.bridge, &self.conf, addresses, host, kernel)?;
        let moved = (&underlay, &tunnel_devices) != (&self.underlay, &self.tunnel_devices);
        (self.underlay, self.tunnel_devices) = (underlay, tunnel_devices);
        Ok(moved)
    }

    /// Takes another configuration, where this node can: a running network keeps its address ranges.
    pub fn reconfigure(&mut self, text: &str, config: &UnderlayConfig, kernel: &mut Linux) -> Result<bool, NodeError> {
        let (conf, _) = NetConf::parse(text)?;
        if conf == self.conf {
            return Ok(false);
        }
        if conf.networks != self.conf.networks {
            return Err(NodeError::OtherNetwork);
        }
        let addresses = (self.public, self.underlay.addresses);
        let host = observe::links_and_routes(kernel)?;
        let (underlay, tunnel_devices) = place(config, &self.bridge, &conf, addresses, &host, kernel)?;
        check_kernel(&conf, &underlay, &host, kernel)?;
        (self.conf, self.underlay, self.tunnel_devices) = (conf, underlay, tunnel_devices);
        Ok(true)
    }

    /// Its lease among all.
    pub fn own_among(&self, leases: &[Arc<Lease>]) -> Option<Lease> {
        leases.iter().find(|lease| lease.node == self.name).map(|lease| self.own(lease))
    }

    /// What of its lease the network has use for: a Node of Kubernetes may have ranges of more families.
    pub fn own(&self, lease: &Lease) -> Lease {
        let mut own = lease.clone();
        own.keep_families(|family| self.conf.networks.get(family).is_some());
        own
    }

    /// What peers' leases are judged by, on a host with these addresses.
    pub fn admission_rules(&self, addresses: &[Address]) -> AdmissionRules {
        let host = addresses.iter().map(|address| (address.address, address.prefix_len)).collect();
        AdmissionRules { networks: self.identity.networks, subnet_len: self.subnet_len, host }
    }

    /// What the node asks the store for. A device that is there keeps its hardware address, and a lease its own, so that
    /// peers need not learn new ones. `elsewhere` are the ranges of other devices.
    pub fn request(
        &self,
        links: &BTreeMap<IfName, Link>,
        elsewhere: Vec<Prefix>,
        stored: Option<&Lease>,
        subnet_file: &Path,
    ) -> LeaseRequest {
        let (node, devices) = (&self.name, &self.tunnel_devices);
        let stored = stored.map(Lease::advertisement);
        let data = self.conf.backend.data_requests(&OwnState { node, devices, links, stored });
        LeaseRequest {
            node: self.name.clone(),
            public: self.underlay.public,
            backend: self.conf.backend.kind(),
            data,
            previous: whole_file::read(subnet_file).map(|text| subnet_env::previous_subnets(&text)).unwrap_or_default(),
            elsewhere,
        }
    }
}

/// Chooses the interface, and checks that it can carry the network. `in_use` are the node's addresses so far.
fn place(
    config: &UnderlayConfig,
    bridge: &IfName,
    conf: &NetConf,
    (public, in_use): (PerFamily<IpAddr>, PerFamily<IpAddr>),
    host: &Host,
    kernel: &mut Linux,
) -> Result<(Underlay, PerFamily<TunnelDevice>), NodeError> {
    let mut options = InterfaceOptions { in_use, ..config.interface_options(conf) };
    for (family, address) in public.iter() {
        *options.public.slot(family) = Some(*address);
    }
    let underlay = interface::choose(&host::facts(kernel, host, config, bridge)?, &options)?;
    for (family, &address) in underlay.addresses.iter() {
        if let Some(&network) = conf.prefixes().get(family).filter(|network| network.contains(address)) {
            let field = if family == Family::V4 { "Network" } else { "IPv6Network" };
            return Err(NodeError::InsideNetwork { field, network, address, ifname: underlay.ifname });
        }
    }
    let tunnel_devices = conf.backend.tunnel_devices(conf.networks.families(), &underlay)?;
    Ok((underlay, tunnel_devices))
}

/// Checks that the kernel has the devices of the configured backend.
fn check_kernel(conf: &NetConf, underlay: &Underlay, host: &Host, kernel: &mut impl Kernel) -> Result<(), NodeError> {
    let lacking = observe::unsupported(kernel, &host.links, &conf.backend, underlay, conf.backend.encapsulations())?;
    lacking.into_values().next().map_or(Ok(()), |kind| Err(TunnelDeviceError::NoKernelSupport { kind }.into()))
}

/// The node's name: as configured, else the host's.
pub fn node_name(configured: Option<&NodeName>) -> Result<NodeName, NodeError> {
    if let Some(name) = configured {
        return Ok(name.clone());
    }
    let host = nix::unistd::gethostname().map_err(|errno| NodeError::NoName(errno.into()))?;
    Ok(host.to_string_lossy().parse()?)
}

/// Every link by name.
pub fn links(kernel: &mut impl Kernel) -> Result<BTreeMap<IfName, Link>, KernelError> {
    Ok(kernel.links()?.into_iter().map(|link| (link.name.clone(), link)).collect())
}

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;
