//! Links: what `ip -d link` shows of a device, and the requests that make, change and remove one.

mod ipip;
mod tunnel;
mod vxlan;

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, BridgePortState, In6AddrGenMode, InfoBridgePort, InfoData, InfoKind, InfoPortData,
    InfoPortKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, Prop,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{LinkBridgePort, LinkMessageBuilder, LinkUnspec};

use crate::error::KernelError;
use crate::netlink::{Request, RouteSocket};
use crate::types::{IfName, Mac, Mtu};
pub use ipip::Ipip;
pub(crate) use tunnel::probe;
pub use tunnel::{Tunnel, add_tunnel};
pub use vxlan::Vxlan;

/// A device as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace, never used again for another one.
    pub index: u32,
    /// Its name.
    pub name: IfName,
    /// Administratively up.
    pub up: bool,
    /// Up, and the other end or the wire is too (`LOWER_UP`).
    pub carrier: bool,
    /// MTU in bytes. Loopback's 65536 is beyond [`Mtu`].
    pub mtu: u32,
    /// Its hardware address, where it has one of six octets.
    pub mac: Option<Mac>,
    /// The index of the bridge (or other master) that it is a port of.
    pub master: Option<u32>,
    /// `IFLA_LINK`: the device under a VXLAN, or the other end of a veth.
    pub lower: Option<u32>,
    /// Its alias, a free text for people.
    pub alias: Option<String>,
    /// What kind of device it is.
    pub kind: Kind,
    /// Its state as a bridge port.
    pub port: Option<Port>,
}

/// The kind of a device, with what defines it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A tunnel's end.
    Tunnel(Tunnel),
    /// A bridge.
    Bridge,
    /// One end of a veth pair.
    Veth,
    /// Another kind, by the kernel's name; empty for hardware and loopback.
    Other(String),
}

/// How a device is a port of its bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// Frames may leave through the port that they came in by.
    pub hairpin: bool,
    /// Cannot reach other isolated ports.
    pub isolated: bool,
    /// Spanning tree state "forwarding".
    pub forwarding: bool,
}

impl Link {
    /// Reads a link from a `RTM_NEWLINK` or `RTM_DELLINK`; `None` for other messages and for names that we could not use.
    pub fn from_message(message: &RouteNetlinkMessage) -> Option<Self> {
        let (RouteNetlinkMessage::NewLink(message) | RouteNetlinkMessage::DelLink(message)) = message else {
            return None;
        };
        if message.header.interface_family == AddressFamily::Bridge {
            return None; // a bridge's view of its ports, not a link of its own
        }
        let name = message.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name),
            _ => None,
        });
        let flags = message.header.flags;
        let mut link = Link {
            index: message.header.index,
            name: name?.parse().ok()?,
            up: flags.contains(LinkFlags::Up),
            carrier: flags.contains(LinkFlags::LowerUp),
            mtu: 0,
            mac: None,
            master: None,
            lower: None,
            alias: None,
            kind: Kind::Other(String::new()),
            port: None,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Address(octets) => link.mac = octets.as_slice().try_into().ok().map(Mac),
                LinkAttribute::Controller(index) => link.master = Some(*index),
                LinkAttribute::Link(index) => link.lower = Some(*index),
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias.clone()),
                LinkAttribute::LinkInfo(infos) => infos.iter().for_each(|info| link.read_info(info)),
                _ => {}
            }
        }
        Some(link)
    }

    fn read_info(&mut self, info: &LinkInfo) {
        match info {
            LinkInfo::Kind(InfoKind::Bridge) => self.kind = Kind::Bridge,
            LinkInfo::Kind(InfoKind::Veth) => self.kind = Kind::Veth,
            LinkInfo::Kind(kind) => self.kind = Kind::Other(kind.to_string()),
            // A device is of `sit` or `ip6tnl` with the same attributes; the kind comes first.
            LinkInfo::Data(InfoData::IpTunnel(data)) if self.kind == Kind::Other(InfoKind::IpIp.to_string()) => {
                self.kind = Kind::Tunnel(Tunnel::Ipip(Ipip::read(data)));
            }
            LinkInfo::Data(InfoData::Vxlan(data)) => {
                if let Some(vxlan) = Vxlan::read(data) {
                    self.kind = Kind::Tunnel(Tunnel::Vxlan(vxlan));
                }
            }
            LinkInfo::PortData(InfoPortData::BridgePort(data)) => self.port = Some(read_port(data)),
            _ => {}
        }
    }
}

fn read_port(data: &[InfoBridgePort]) -> Port {
    let mut port = Port { hairpin: false, isolated: false, forwarding: false };
    for info in data {
        match info {
            InfoBridgePort::HairpinMode(on) => port.hairpin = *on,
            InfoBridgePort::Isolated(on) => port.isolated = *on,
            InfoBridgePort::State(state) => port.forwarding = *state == BridgePortState::Forwarding,
            _ => {}
        }
    }
    port
}

/// The request that makes a bridge, up from the start.
pub fn add_bridge(name: &IfName, mac: Mac, mtu: Option<Mtu>) -> Request {
    let mtu = mtu.map(|mtu| LinkAttribute::Mtu(mtu.get()));
    create(name.as_str(), InfoKind::Bridge, None, [Some(hardware_address(mac)), mtu])
}

/// A veth pair to be made in one request: the host's end up and on its bridge, the other inside the pod's namespace.
#[derive(Debug, Clone)]
pub struct NewVeth<'a> {
    /// The host end's name.
    pub name: &'a IfName,
    /// The host end's hardware address; the kernel takes a random one otherwise.
    pub mac: Option<Mac>,
    /// The index of the bridge.
    pub master: Option<u32>,
    /// MTU of both ends in bytes.
    pub mtu: Option<Mtu>,
    /// The name of the end in the other namespace. It comes down: the kernel refuses to have it made up.
    pub peer: &'a IfName,
    /// That end's hardware address.
    pub peer_mac: Option<Mac>,
    /// The other namespace.
    pub peer_netns: BorrowedFd<'a>,
}

/// The request that makes a veth pair, with one queue each way, as the kernel uses it. By default the kernel makes one
/// for each processor and removes all but one again: two grace periods under the lock that every link waits for.
pub fn add_veth(new: &NewVeth<'_>) -> Request {
    let of_both = || {
        let mtu = new.mtu.map(|mtu| LinkAttribute::Mtu(mtu.get()));
        [mtu, Some(LinkAttribute::NumTxQueues(1)), Some(LinkAttribute::NumRxQueues(1))]
    };
    let netns = LinkAttribute::NetNsFd(new.peer_netns.as_raw_fd());
    let of_peer = [Some(netns), new.peer_mac.map(hardware_address)];
    let peer = with(Device::Name(new.peer).builder::<LinkUnspec>(), of_both().into_iter().chain(of_peer)).build();
    let of_host = [new.mac.map(hardware_address), new.master.map(LinkAttribute::Controller)];
    let data = InfoData::Veth(InfoVeth::Peer(peer));
    create(new.name.as_str(), InfoKind::Veth, Some(data), of_both().into_iter().chain(of_host))
}

/// The request that makes a device, up from the start.
fn create(
    name: &str,
    kind: InfoKind,
    data: Option<InfoData>,
    attributes: impl IntoIterator<Item = Option<LinkAttribute>>,
) -> Request {
    let mut builder = with(LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(kind).name(name), attributes);
    if let Some(data) = data {
        builder = builder.set_info_data(data);
    }
    Request::new(RouteNetlinkMessage::NewLink(builder.up().build()), NLM_F_CREATE | NLM_F_EXCL)
}

/// Adds the attributes that there are.
fn with<T>(
    builder: LinkMessageBuilder<T>,
    attributes: impl IntoIterator<Item = Option<LinkAttribute>>,
) -> LinkMessageBuilder<T> {
    attributes.into_iter().flatten().fold(builder, LinkMessageBuilder::append_extra_attribute)
}

fn hardware_address(mac: Mac) -> LinkAttribute {
    LinkAttribute::Address(mac.0.to_vec())
}

/// Which device a request is about. By name, a request can follow the one that makes the device in the same batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device<'a> {
    /// By its index.
    Index(u32),
    /// By its name.
    Name(&'a IfName),
}

impl Device<'_> {
    fn builder<T: Default>(self) -> LinkMessageBuilder<T> {
        match self {
            Device::Index(index) => LinkMessageBuilder::default().index(index),
            Device::Name(name) => LinkMessageBuilder::default().name(name.as_str()),
        }
    }
}

/// A change of a device. Fields that are `None` stay as they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LinkChange {
    /// Administratively up or down.
    pub up: Option<bool>,
    /// MTU in bytes.
    pub mtu: Option<Mtu>,
    /// Hardware address.
    pub mac: Option<Mac>,
    /// Receives every frame.
    pub promiscuous: Option<bool>,
    /// The alias: a text for people, which also marks the device's owner, at most 255 bytes. The kernel takes none while it makes a
    /// device, so it needs this request.
    pub alias: Option<String>,
}

/// The request that changes a device.
pub fn set(device: Device<'_>, change: &LinkChange) -> Request {
    let mut builder = device.builder::<LinkUnspec>();
    builder = match change.up {
        Some(true) => builder.up(),
        Some(false) => builder.down(),
        None => builder,
    };
    if let Some(on) = change.promiscuous {
        builder = builder.promiscuous(on);
    }
    let mtu = change.mtu.map(|mtu| LinkAttribute::Mtu(mtu.get()));
    let alias = change.alias.clone().map(LinkAttribute::IfAlias);
    let message = with(builder, [mtu, change.mac.map(hardware_address), alias]).build();
    Request::new(RouteNetlinkMessage::SetLink(message), 0)
}

/// The request that makes a device a port of the bridge with this index.
pub fn set_master(device: Device<'_>, bridge: u32) -> Request {
    Request::new(RouteNetlinkMessage::SetLink(device.builder::<LinkUnspec>().controller(bridge).build()), 0)
}

/// The request that sets a bridge port's hairpin mode and isolation, and its alias. The port gets no address from IPv6:
/// nothing uses it, and making one sends packets to every other port. `mtu` is the port's, where it is not the kernel's default: the
/// kernel refuses to set anything of IPv6 where it has none.
pub fn set_port(device: Device<'_>, hairpin: bool, isolated: bool, alias: &str, mtu: Option<Mtu>) -> Request {
    let no_address = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
    let no_address = LinkAttribute::AfSpecUnspec(vec![no_address]);
    let message = with(device.builder::<LinkBridgePort>(), [mtu.is_none_or(Mtu::carries_ipv6).then_some(no_address)])
        .alias(alias)
        .set_port_kind(InfoPortKind::Bridge)
        .hairpin(hairpin)
        .isolated(isolated)
        .build();
    Request::new(RouteNetlinkMessage::NewLink(message), 0)
}

/// The request that lets a bridge port send back where a frame came from, as a pod needs that reaches itself by a Service.
pub fn set_hairpin(device: Device<'_>) -> Request {
    let builder = device.builder::<LinkBridgePort>();
    let message = builder.set_port_kind(InfoPortKind::Bridge).hairpin(true).build();
    Request::new(RouteNetlinkMessage::NewLink(message), 0)
}

/// The request that removes a device. The kernel answers only after a grace period (16-20 ms).
pub fn delete(device: Device<'_>) -> Request {
    Request::new(RouteNetlinkMessage::DelLink(device.builder::<LinkUnspec>().build()), 0)
}

/// The index of the link of this name in the calling thread's namespace. Unlike [`RouteSocket::link`] it waits for no change
/// of another link that is under way.
pub fn index_of(name: &IfName) -> Option<u32> {
    nix::net::if_::if_nametoindex(name.as_str()).ok()
}

impl RouteSocket {
    /// Every link of the namespace.
    pub fn links(&mut self) -> Result<Vec<Link>, KernelError> {
        self.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()), Link::from_message)
    }

    /// The alternative names of links (`ip link property`), with the links' indexes.
    pub fn alternative_names(&mut self) -> Result<Vec<(u32, String)>, KernelError> {
        let names = self.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()), |message| {
            let RouteNetlinkMessage::NewLink(message) = message else { return None };
            let of_attribute = |attribute: &LinkAttribute| match attribute {
                LinkAttribute::PropList(properties) => properties.clone(),
                _ => Vec::new(),
            };
            let names = message.attributes.iter().flat_map(of_attribute).filter_map(|property| match property {
                Prop::AltIfName(name) => Some((message.header.index, name)),
                _ => None,
            });
            Some(names.collect::<Vec<_>>())
        })?;
        Ok(names.into_iter().flatten().collect())
    }

    /// The ports of one bridge.
    pub fn ports(&mut self, bridge: u32) -> Result<Vec<Link>, KernelError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::Controller(bridge));
        self.dump(RouteNetlinkMessage::GetLink(message), move |message| {
            Link::from_message(message).filter(|link| link.master == Some(bridge))
        })
    }

    /// The ends of veth pairs here whose other end is in another namespace, with the number that this namespace has for it.
    pub fn veths(&mut self) -> Result<Vec<(Link, i32)>, KernelError> {
        self.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()), |message| {
            let RouteNetlinkMessage::NewLink(link) = &message else { return None };
            let namespace = link.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::LinkNetNsId(number) => Some(*number),
                _ => None,
            })?;
            Link::from_message(message).filter(|link| link.kind == Kind::Veth).map(|link| (link, namespace))
        })
    }

    /// The link of this name.
    pub fn link(&mut self, name: &IfName) -> Result<Option<Link>, KernelError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.as_str().to_owned()));
        Ok(self.get(RouteNetlinkMessage::GetLink(message))?.as_ref().and_then(Link::from_message))
    }
}
