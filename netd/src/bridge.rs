//! The pods' bridge: the plugin makes it for a node's first pod. Here it is recognized and remembered; [`network::overlay::bridge`] says
//! what is kept of it.
//!
//! [`look`] is pure. A port of ours is known by the alias that the plugin gave it, from which its name follows. What is remembered is in a
//! file beside the subnet file, so both are of this boot.

use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use dataplane::link::{Kind, Link};
use dataplane::monitor::{Event, RtnetlinkObject};
use dataplane::route::Route;
use dataplane::types::{IfName, Mac, Mtu, PerFamily, Prefix, RouteProtocol};
use netd_cni::attachment::Attachment;
pub(crate) use netd_cni::conf::plugin_conf::BRIDGE;
use netd_cni::netlink::mac_for;
use network::observe::Host;
use network::overlay::bridge::Bridge;

use crate::config::Config;
use crate::conflist::{self, NETWORK};
use crate::whole_file;

/// Goes before the name in the file.
const DEVICE: &str = "dev";

/// The bridge as it was when it had this node's subnet first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// Its name.
    name: IfName,
    /// Its index: a bridge with another one is another bridge.
    index: u32,
    /// The hardware address that its pods know.
    mac: Mac,
    /// The addresses that its pods have as gateways.
    gateways: Vec<IpAddr>,
}

impl Memory {
    /// The file.
    pub fn file(subnet_file: &Path) -> PathBuf {
        let mut name = subnet_file.as_os_str().to_owned();
        name.push(".bridge");
        name.into()
    }

    /// What a daemon has written; none where there is nothing, or something else.
    pub fn read(subnet_file: &Path) -> Option<Self> {
        let text = fs::read_to_string(Self::file(subnet_file)).ok()?;
        let mut words = text.split_whitespace();
        let (index, mac) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let gateways = words.by_ref().take_while(|word| *word != DEVICE).map(str::parse).collect::<Result<_, _>>();
        // Former daemons wrote no name.
        let name = words.next().map_or(Some(BRIDGE), |name| name.parse().ok())?;
        Some(Self { name, index, mac, gateways: gateways.ok()? })
    }

    /// Writes the file.
    ///
    /// # Errors
    /// Where that cannot be written.
    pub fn write(&self, subnet_file: &Path) -> io::Result<()> {
        let file = Self::file(subnet_file);
        whole_file::sweep(&file);
        whole_file::install(&file, format!("{self}\n").as_bytes(), whole_file::FILE)
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.index, self.mac)?;
        self.gateways.iter().try_for_each(|gateway| write!(f, " {gateway}"))?;
        write!(f, " {DEVICE} {}", self.name)
    }
}

/// The name of the pods' bridge: as the operator's list of plugins has it, else as an earlier daemon has seen it, else the usual one.
pub fn name(config: &Config) -> IfName {
    let source = config.cni.conf_source.as_deref();
    let configured = source.and_then(|path| conflist::template(Some(path), &config.subnet_file).ok()?.bridge());
    configured.or_else(|| Some(Memory::read(&config.subnet_file)?.name)).unwrap_or(BRIDGE)
}

/// What the daemon knows of the bridge.
#[derive(Debug)]
pub struct BridgeWatch {
    /// Its name.
    name: IfName,
    /// What is remembered.
    pub memory: Option<Memory>,
    /// The index and the hardware address of a bridge that has been made.
    made: Option<(u32, Mac)>,
}

impl BridgeWatch {
    /// Goes on where an earlier daemon ended.
    pub fn resume(config: &Config) -> Self {
        Self { name: name(config), memory: Memory::read(&config.subnet_file), made: None }
    }

    /// Takes a notification of the kernel: a bridge may get this node's subnet and lose it before a full run looks.
    pub fn notify(&mut self, event: &Event, subnets: &PerFamily<Prefix>) {
        match event {
            Event::New(RtnetlinkObject::Link(link)) if link.name == self.name && link.kind == Kind::Bridge => {
                self.made =
                    self.made.filter(|(index, _)| *index == link.index).or(link.mac.map(|mac| (link.index, mac)));
            }
            Event::New(RtnetlinkObject::Route(route)) if is_connected(route, subnets) => {
                let is_known = self.memory.as_ref().is_some_and(|memory| memory.index == route.index);
                if let Some((index, mac)) = self.made.filter(|(index, _)| *index == route.index && !is_known) {
                    self.memory = Some(Memory { name: self.name.clone(), index, mac, gateways: gateways(subnets) });
                }
            }
            _ => {}
        }
    }
}

fn gateways(subnets: &PerFamily<Prefix>) -> Vec<IpAddr> {
    subnets.iter().filter_map(|(_, subnet)| subnet.nth(1)).collect()
}

/// True for the route that the kernel adds with a gateway's address.
fn is_connected(route: &Route, subnets: &PerFamily<Prefix>) -> bool {
    let is_own = subnets.iter().any(|(_, subnet)| *subnet == route.destination);
    is_own && route.gateway.is_none() && route.protocol == RouteProtocol::KERNEL
}

/// The bridge to be kept, and what to remember of it. `subnets` are this node's, `mtu` is for a bridge that has to be made.
///
/// None is kept before it has had this node's subnet: pods may be those of another daemon on the host.
pub fn look(
    host: &Host,
    name: &IfName,
    subnets: &PerFamily<Prefix>,
    mtu: Mtu,
    memory: Option<Memory>,
) -> (Option<Bridge>, Option<Memory>) {
    let gateways = gateways(subnets);
    let Some(first) = gateways.first().copied() else { return (None, memory) };
    let link = host.links.get(name);
    let bridge = link.filter(|link| link.kind == Kind::Bridge);
    let has_subnet =
        |bridge: &&Link| host.routes.iter().any(|route| route.index == bridge.index && is_connected(route, subnets));
    let known = memory.clone().filter(|memory| memory.name == *name && memory.gateways == gateways);
    let is_same = |memory: &Memory| bridge.is_none_or(|bridge| bridge.index == memory.index);
    let seen = bridge.filter(has_subnet).map(|bridge| match &known {
        Some(memory) if is_same(memory) => memory.clone(),
        _ => {
            let mac = bridge.mac.unwrap_or(mac_for(first));
            Memory { name: name.clone(), index: bridge.index, mac, gateways }
        }
    });
    let ports: Vec<&Link> = host.links.values().filter(|link| is_port(link, bridge)).collect();
    let lost = known.filter(|memory| !ports.is_empty() || link.is_some() && is_same(memory));
    let kept = seen.clone().or(lost).map(|Memory { mac, .. }| {
        let ports = ports.into_iter().map(|link| link.name.clone()).collect();
        Bridge { name: name.clone(), mac, mtu, ports }
    });
    (kept, seen.or(memory))
}

/// True for a pod's interface on the node that is on this bridge or on none. A new pod's interface gets its bridge before its alias.
fn is_port(link: &Link, bridge: Option<&Link>) -> bool {
    let attachment = link.alias.as_deref().and_then(Attachment::from_alias);
    let is_ours = |of: Attachment| of.network.as_str() == NETWORK && of.host_veth() == link.name;
    let is_elsewhere = link.master.is_some() && link.master != bridge.map(|bridge| bridge.index);
    link.kind == Kind::Veth && !is_elsewhere && attachment.is_some_and(is_ours)
}

#[cfg(test)]
mod tests;
