//! Links: what `ip -d link` shows of a device, and the requests that make, change and remove one.

mod ipip;
mod tunnel;

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, BridgePortState, In6AddrGenMode, InfoBridgePort, InfoData, InfoKind, InfoPortData,
    InfoVeth, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVxlan};

use crate::error::KernelError;
use crate::netlink::{Request, Socket};
use crate::types::{IfName, Mac, Mtu, Vni};
pub use ipip::Ipip;
pub(crate) use tunnel::probe;
pub use tunnel::{NewTunnel, Tunnel, add_tunnel};

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

/// What cannot be changed of a VXLAN device without making it anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vxlan {
    /// The network identifier.
    pub vni: Vni,
    /// The source address of the tunnel's packets.
    pub local: Option<IpAddr>,
    /// The index of the device under it.
    pub underlay: Option<u32>,
    /// The UDP port that it listens on and sends to.
    pub port: u16,
    /// Learns forwarding entries from received packets.
    pub learning: bool,
    /// Carries group policy marks (draft-smith-vxlan-group-policy).
    pub gbp: bool,
    /// Asks user space about unknown layer 2 or 3 destinations, or has a default group: never in ours.
    pub foreign: bool,
}

impl Vxlan {
    /// True where the kernel accepts only one of the two devices: it assigns received packets by VNI, port and IP family.
    ///
    /// One without a local address, and without a group of the other family, is of IPv4.
    pub fn shares_socket(&self, other: &Self) -> bool {
        let key = |vxlan: &Self| (vxlan.vni, vxlan.port, vxlan.local.is_some_and(|local| local.is_ipv6()));
        key(self) == key(other)
    }

    fn ip_link_type(&self, underlay: &IfName) -> String {
        let local = self.local.map(|local| format!(" local {local}")).unwrap_or_default();
        let learning = if self.learning { "learning" } else { "nolearning" };
        let gbp = if self.gbp { " gbp" } else { "" };
        format!("type vxlan id {} dev {underlay}{local} dstport {} {learning}{gbp}", self.vni, self.port)
    }
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
    /// Reads a link from a `RTM_NEWLINK`; `None` for other messages and for names that we could not use.
    pub fn from_message(message: RouteNetlinkMessage) -> Option<Self> {
        let RouteNetlinkMessage::NewLink(message) = message else { return None };
        if message.header.interface_family == AddressFamily::Bridge {
            return None; // a bridge's view of its ports, not a link of its own
        }
        let flags = message.header.flags;
        let mut link = Link {
            index: message.header.index,
            name: "?".parse().ok()?,
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
        let mut named = false;
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => {
                    link.name = name.parse().ok()?;
                    named = true;
                }
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Address(octets) => link.mac = octets.try_into().ok().map(Mac),
                LinkAttribute::Controller(index) => link.master = Some(index),
                LinkAttribute::Link(index) => link.lower = Some(index),
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
                LinkAttribute::LinkInfo(infos) => read_info(infos, &mut link),
                _ => {}
            }
        }
        named.then_some(link)
    }
}

fn read_info(infos: Vec<LinkInfo>, link: &mut Link) {
    for info in infos {
        match info {
            LinkInfo::Kind(InfoKind::Bridge) => link.kind = Kind::Bridge,
            LinkInfo::Kind(InfoKind::Veth) => link.kind = Kind::Veth,
            LinkInfo::Kind(kind) => link.kind = Kind::Other(kind.to_string()),
            // A device is of `sit` or `ip6tnl` with the same attributes; the kind comes first.
            LinkInfo::Data(InfoData::IpTunnel(data)) if link.kind == Kind::Other(InfoKind::IpIp.to_string()) => {
                link.kind = Kind::Tunnel(Tunnel::Ipip(ipip::read(&data)));
            }
            LinkInfo::Data(InfoData::Vxlan(data)) => {
                if let Some(vxlan) = read_vxlan(&data) {
                    link.kind = Kind::Tunnel(Tunnel::Vxlan(vxlan));
                }
            }
            LinkInfo::PortData(InfoPortData::BridgePort(data)) => link.port = Some(read_port(&data)),
            _ => {}
        }
    }
}

fn read_vxlan(data: &[InfoVxlan]) -> Option<Vxlan> {
    let mut vni = None;
    let (mut local, mut underlay, mut port) = (None, None, 0);
    let (mut learning, mut gbp, mut foreign) = (false, false, false);
    for info in data {
        match info {
            InfoVxlan::Id(id) => vni = Vni::try_from(i64::from(*id)).ok(),
            InfoVxlan::Local(address) => local = Some(IpAddr::V4(*address)),
            InfoVxlan::Local6(address) => local = Some(IpAddr::V6(*address)),
            InfoVxlan::Link(index) => underlay = Some(*index),
            InfoVxlan::Port(number) => port = *number,
            InfoVxlan::Learning(on) => learning = *on,
            InfoVxlan::Gbp => gbp = true,
            InfoVxlan::L2Miss(true) | InfoVxlan::L3Miss(true) | InfoVxlan::CollectMetadata(true) => foreign = true,
            InfoVxlan::Group(group) => foreign |= !group.is_unspecified(),
            InfoVxlan::Group6(group) => foreign |= !group.is_unspecified(),
            _ => {}
        }
    }
    Some(Vxlan { vni: vni?, local, underlay, port, learning, gbp, foreign })
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

fn add_vxlan(new: &NewTunnel<'_>, vxlan: &Vxlan) -> Request {
    let Vxlan { vni, local, underlay, port, learning, gbp, .. } = vxlan;
    let mut builder = LinkVxlan::new(new.name.as_str(), vni.get()).port(*port).learning(*learning);
    builder = match local {
        Some(IpAddr::V4(address)) => builder.local(*address),
        Some(IpAddr::V6(address)) => builder.local6(*address),
        None => builder,
    };
    if let Some(index) = underlay {
        builder = builder.dev(*index);
    }
    if *gbp {
        builder = builder.gbp();
    }
    if let Some(mac) = new.mac {
        builder = builder.address(mac.0.to_vec());
    }
    create(builder.mtu(new.mtu.get()).up().build())
}

/// The request that makes a bridge, up from the start.
pub fn add_bridge(name: &IfName, mac: Mac, mtu: Option<Mtu>) -> Request {
    let mut builder = LinkBridge::new(name.as_str()).address(mac.0.to_vec());
    if let Some(mtu) = mtu {
        builder = builder.mtu(mtu.get());
    }
    create(builder.up().build())
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
    let mut peer = one_queue(LinkMessageBuilder::<LinkUnspec>::default().name(new.peer.as_str()));
    let mut host = one_queue(LinkMessageBuilder::new_with_info_kind(InfoKind::Veth).name(new.name.as_str()));
    if let Some(mtu) = new.mtu {
        (peer, host) = (peer.mtu(mtu.get()), host.mtu(mtu.get()));
    }
    if let Some(mac) = new.peer_mac {
        peer = peer.address(mac.0.to_vec());
    }
    if let Some(mac) = new.mac {
        host = host.address(mac.0.to_vec());
    }
    if let Some(index) = new.master {
        host = host.controller(index);
    }
    let peer = peer.setns_by_fd(new.peer_netns.as_raw_fd()).build();
    create(host.set_info_data(InfoData::Veth(InfoVeth::Peer(peer))).up().build())
}

fn one_queue(builder: LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec> {
    builder.append_extra_attribute(LinkAttribute::NumTxQueues(1)).append_extra_attribute(LinkAttribute::NumRxQueues(1))
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
pub struct Change {
    /// Administratively up or down.
    pub up: Option<bool>,
    /// MTU in bytes.
    pub mtu: Option<Mtu>,
    /// Hardware address.
    pub mac: Option<Mac>,
    /// The bridge to be a port of, by index; 0 for none.
    pub master: Option<u32>,
    /// Receives every frame.
    pub promiscuous: Option<bool>,
    /// A text for people, at most 255 bytes. The kernel takes none while it makes a device, so it needs this request.
    pub alias: Option<String>,
}

/// The request that changes a device.
pub fn set(device: Device<'_>, change: &Change) -> Request {
    let mut builder = device.builder::<LinkUnspec>();
    builder = match change.up {
        Some(true) => builder.up(),
        Some(false) => builder.down(),
        None => builder,
    };
    if let Some(mtu) = change.mtu {
        builder = builder.mtu(mtu.get());
    }
    if let Some(mac) = change.mac {
        builder = builder.address(mac.0.to_vec());
    }
    if let Some(master) = change.master {
        builder = builder.controller(master);
    }
    if let Some(on) = change.promiscuous {
        builder = builder.promiscuous(on);
    }
    if let Some(alias) = &change.alias {
        builder = builder.alias(alias);
    }
    Request::new(RouteNetlinkMessage::SetLink(builder.build()), 0)
}

/// The request that sets a bridge port's hairpin mode and isolation, and its alias. The port gets no address from IPv6:
/// nothing uses it, and making one sends packets to every other port.
pub fn set_port(device: Device<'_>, hairpin: bool, isolated: bool, alias: &str) -> Request {
    let no_address = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
    let message = device
        .builder::<LinkBridgePort>()
        .alias(alias)
        .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![no_address]))
        .set_port_kind(netlink_packet_route::link::InfoPortKind::Bridge)
        .hairpin(hairpin)
        .isolated(isolated)
        .build();
    Request::new(RouteNetlinkMessage::NewLink(message), 0)
}

/// The request that lets a bridge port send back where a frame came from, as a pod needs that reaches itself by a Service.
pub fn set_hairpin(device: Device<'_>) -> Request {
    let builder = device.builder::<LinkBridgePort>();
    let message = builder.set_port_kind(netlink_packet_route::link::InfoPortKind::Bridge).hairpin(true).build();
    Request::new(RouteNetlinkMessage::NewLink(message), 0)
}

/// The request that removes a device. The kernel answers only after a grace period (16-20 ms).
pub fn delete(device: Device<'_>) -> Request {
    Request::new(RouteNetlinkMessage::DelLink(device.builder::<LinkUnspec>().build()), 0)
}

fn create(message: LinkMessage) -> Request {
    Request::new(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
}

/// The index of the link of this name in the calling thread's namespace. Unlike [`Socket::link`] it waits for no change
/// of another link that is under way.
pub fn index_of(name: &IfName) -> Option<u32> {
    nix::net::if_::if_nametoindex(name.as_str()).ok()
}

impl Socket {
    /// Every link of the namespace.
    pub fn links(&mut self) -> Result<Vec<Link>, KernelError> {
        self.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()), Link::from_message)
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
        Ok(self.get(RouteNetlinkMessage::GetLink(message))?.and_then(Link::from_message))
    }
}
