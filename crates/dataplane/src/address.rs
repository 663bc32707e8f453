//! Addresses of links: what `ip address` shows, and the requests that add and remove one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::AddressMessageBuilder;

use crate::error::KernelError;
use crate::netlink::{Request, RouteSocket};
use crate::types::{Family, Prefix};

/// An address on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the kernel's own")]
pub struct Address {
    /// The link's index.
    pub index: u32,
    /// The address itself.
    pub address: IpAddr,
    /// The length of the prefix that it is in: how much of it is on-link.
    pub prefix_len: u8,
    /// Valid beyond its link and host (`scope global`).
    pub global: bool,
    /// A temporary (privacy) address, RFC 8981.
    pub temporary: bool,
    /// No longer to be used for new connections.
    pub deprecated: bool,
    /// The kernel still asks whether another machine has it, and sends nothing from it yet.
    pub tentative: bool,
    /// Another machine has it (`dadfailed`).
    pub duplicate: bool,
    /// Configured for good, not learned for a lifetime.
    pub permanent: bool,
}

impl Address {
    /// Reads an address from a `RTM_NEWADDR` or `RTM_DELADDR`; `None` for other messages.
    pub fn from_message(message: &RouteNetlinkMessage) -> Option<Self> {
        let (RouteNetlinkMessage::NewAddress(message) | RouteNetlinkMessage::DelAddress(message)) = message else {
            return None;
        };
        let (mut local, mut address, mut flags) = (None, None, AddressFlags::empty());
        for attribute in &message.attributes {
            match attribute {
                // On a point-to-point link IFA_ADDRESS is the other end; IFA_LOCAL, where present, is ours.
                AddressAttribute::Local(ip) => local = Some(*ip),
                AddressAttribute::Address(ip) => address = Some(*ip),
                AddressAttribute::Flags(bits) => flags = *bits,
                _ => {}
            }
        }
        Some(Self {
            index: message.header.index,
            address: local.or(address)?,
            prefix_len: message.header.prefix_len,
            global: message.header.scope == AddressScope::Universe,
            temporary: flags.contains(AddressFlags::Secondary) && local.or(address)?.is_ipv6(),
            deprecated: flags.contains(AddressFlags::Deprecated),
            tentative: flags.contains(AddressFlags::Tentative) && !flags.contains(AddressFlags::Optimistic),
            duplicate: flags.contains(AddressFlags::Dadfailed),
            permanent: flags.contains(AddressFlags::Permanent),
        })
    }

    /// True for an address alone, without a subnet, and for good: as programs set that share an address between machines, such as
    /// keepalived. One of DHCP has a lifetime.
    pub fn may_float(&self) -> bool {
        self.prefix_len == Family::of(self.address).bits() && self.permanent
    }

    /// The prefix that the address is in.
    pub fn prefix(&self) -> Option<Prefix> {
        Prefix::new(self.address, self.prefix_len)
    }
}

/// The request that adds an address. IPv6 skips duplicate address detection: the address was allocated, not guessed.
pub fn add(index: u32, address: IpAddr, prefix_len: u8) -> Request {
    let mut message = message(index, address, prefix_len);
    if address.is_ipv6() {
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    Request::new(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
}

/// The request that removes an address.
pub fn delete(index: u32, address: IpAddr, prefix_len: u8) -> Request {
    Request::new(RouteNetlinkMessage::DelAddress(message(index, address, prefix_len)), 0)
}

fn message(index: u32, address: IpAddr, prefix_len: u8) -> AddressMessage {
    match address {
        IpAddr::V4(v4) => AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(v4, prefix_len).build(),
        IpAddr::V6(v6) => AddressMessageBuilder::<Ipv6Addr>::new().index(index).address(v6, prefix_len).build(),
    }
}

pub(crate) fn family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

impl RouteSocket {
    /// The addresses of the namespace, where given of one link and of one family. A family's addresses wait for no change of another
    /// link that is under way.
    pub fn addresses(&mut self, index: Option<u32>, of: Option<Family>) -> Result<Vec<Address>, KernelError> {
        self.addresses_in(None, index, of)
    }

    /// The addresses of a link in another namespace, by the number that this one has for it. Nobody has to enter that one.
    pub fn addresses_beyond(&mut self, namespace: i32, index: u32) -> Result<Vec<Address>, KernelError> {
        self.addresses_in(Some(namespace), Some(index), None)
    }

    fn addresses_in(
        &mut self,
        namespace: Option<i32>,
        index: Option<u32>,
        of: Option<Family>,
    ) -> Result<Vec<Address>, KernelError> {
        let mut message = AddressMessage::default();
        message.header.family = of.map_or(AddressFamily::Unspec, family);
        message.header.index = index.unwrap_or(0);
        message.attributes.extend(namespace.map(AddressAttribute::TargetNetNsId));
        self.dump(RouteNetlinkMessage::GetAddress(message), move |message| {
            Address::from_message(message).filter(|address| index.is_none_or(|index| address.index == index))
        })
    }
}
