//! Neighbour entries (`ip neighbour`) and VXLAN forwarding entries (`bridge fdb`): one message type serves both.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::address::family;
use crate::error::KernelError;
use crate::netlink::{Request, RouteSocket};
use crate::types::{Family, Mac};

/// A neighbour entry: which hardware address an address on a link has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Neighbour {
    /// The link's index.
    pub index: u32,
    /// The neighbour's address.
    pub address: IpAddr,
    /// Its hardware address; `None` while it is being resolved, or where that failed.
    pub mac: Option<Mac>,
    /// Set for good (`permanent`), not learned.
    pub permanent: bool,
}

/// A forwarding entry of a VXLAN device: which tunnel end has a hardware address behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fdb {
    /// The VXLAN device's index.
    pub index: u32,
    /// The hardware address; all zeros is the default entry.
    pub mac: Mac,
    /// The tunnel end.
    pub destination: IpAddr,
    /// Set for good (`permanent`), not learned from a received packet, and to the device's own port and network.
    pub permanent: bool,
}

impl Neighbour {
    /// Reads an entry from a `RTM_NEWNEIGH` or `RTM_DELNEIGH`; `None` for other messages and for forwarding entries.
    pub fn from_message(message: &RouteNetlinkMessage) -> Option<Self> {
        let message = entry(message).filter(|message| message.header.family != AddressFamily::Bridge)?;
        let (address, mac) = fields(message);
        let permanent = has_state(message, &[NeighbourState::Permanent]);
        Some(Self { index: message.header.ifindex, address: address?, mac, permanent })
    }
}

impl Fdb {
    /// Reads an entry from a `RTM_NEWNEIGH` or `RTM_DELNEIGH`; `None` for other messages, for neighbours and for entries without a
    /// tunnel end.
    pub fn from_message(message: &RouteNetlinkMessage) -> Option<Self> {
        let message = entry(message).filter(|message| message.header.family == AddressFamily::Bridge)?;
        let (destination, mac) = fields(message);
        let permanent =
            has_state(message, &[NeighbourState::Permanent, NeighbourState::Noarp]) && !leads_elsewhere(message);
        Some(Self { index: message.header.ifindex, mac: mac?, destination: destination?, permanent })
    }
}

fn entry(message: &RouteNetlinkMessage) -> Option<&NeighbourMessage> {
    match message {
        RouteNetlinkMessage::NewNeighbour(entry) | RouteNetlinkMessage::DelNeighbour(entry) => Some(entry),
        _ => None,
    }
}

/// True where a forwarding entry leads to another port or network than its device's, or out of a device of its own choice.
/// The kernel sends these attributes only then, and keeps such an entry beside a plain one to the same tunnel end.
fn leads_elsewhere(message: &NeighbourMessage) -> bool {
    use NeighbourAttribute::{IfIndex, Port, Vni};
    message.attributes.iter().any(|attribute| matches!(attribute, Port(_) | Vni(_) | IfIndex(_)))
}

/// True where the entry is in one of these states. They are bits: `bridge fdb` sets several at once.
fn has_state(message: &NeighbourMessage, states: &[NeighbourState]) -> bool {
    states.iter().any(|state| u16::from(message.header.state) & u16::from(*state) != 0)
}

fn fields(message: &NeighbourMessage) -> (Option<IpAddr>, Option<Mac>) {
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(destination) => address = ip(destination),
            NeighbourAttribute::LinkLayerAddress(octets) => mac = octets.as_slice().try_into().ok().map(Mac),
            _ => {}
        }
    }
    (address, mac)
}

fn ip(address: &NeighbourAddress) -> Option<IpAddr> {
    match address {
        NeighbourAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        NeighbourAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        NeighbourAddress::Other(bytes) => {
            let v6 = || bytes.as_slice().try_into().map(<[u8; 16]>::into);
            bytes.as_slice().try_into().map(<[u8; 4]>::into).or_else(|_| v6()).ok()
        }
        _ => None,
    }
}

/// The request that sets a permanent neighbour entry, whatever is there now.
pub fn put(index: u32, address: IpAddr, mac: Mac) -> Request {
    put_entry(message(index, family(Family::of(address)), address, Some(mac)))
}

/// The request that removes a neighbour entry.
pub fn delete(index: u32, address: IpAddr) -> Request {
    delete_entry(message(index, family(Family::of(address)), address, None))
}

/// The request that sets the one tunnel end of a hardware address, whatever it was.
pub fn put_fdb(index: u32, mac: Mac, destination: IpAddr) -> Request {
    put_entry(message(index, AddressFamily::Bridge, destination, Some(mac)))
}

/// The request that removes one tunnel end of a hardware address.
pub fn delete_fdb(index: u32, mac: Mac, destination: IpAddr) -> Request {
    delete_entry(message(index, AddressFamily::Bridge, destination, Some(mac)))
}

fn put_entry(message: NeighbourMessage) -> Request {
    Request::new(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE)
}

fn delete_entry(message: NeighbourMessage) -> Request {
    Request::new(RouteNetlinkMessage::DelNeighbour(message), 0)
}

fn message(index: u32, family: AddressFamily, destination: IpAddr, mac: Option<Mac>) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    if family == AddressFamily::Bridge {
        // NTF_SELF: the device's own table. Without it the kernel looks for a bridge above the device.
        message.header.flags = NeighbourFlags::Own;
    }
    message.header.family = family;
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.attributes.push(NeighbourAttribute::Destination(destination.into()));
    message.attributes.extend(mac.map(|mac| NeighbourAttribute::LinkLayerAddress(mac.0.to_vec())));
    message
}

impl RouteSocket {
    /// The neighbour entries of one link, of one family.
    pub fn neighbours(&mut self, index: u32, of: Family) -> Result<Vec<Neighbour>, KernelError> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(of);
        message.attributes.push(NeighbourAttribute::IfIndex(index));
        self.dump(RouteNetlinkMessage::GetNeighbour(message), move |message| {
            Neighbour::from_message(message).filter(|entry| entry.index == index && Family::of(entry.address) == of)
        })
    }

    /// The forwarding entries of one VXLAN device.
    pub fn fdb(&mut self, index: u32) -> Result<Vec<Fdb>, KernelError> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = index;
        self.dump(RouteNetlinkMessage::GetNeighbour(message), move |message| {
            Fdb::from_message(message).filter(|entry| entry.index == index)
        })
    }
}
