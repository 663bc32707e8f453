//! The value of a key: what an object is in the kernel, or should be.
//!
//! Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use dataplane::op::{DeviceAddress, DeviceRoute};
use dataplane::types::{IfName, Mac};

/// All that stands at a key; empty where nothing does. The kernel may have several routes to a destination, several tunnel ends behind a
/// hardware address, and an IPv4 address with several prefix lengths.
pub type Value = BTreeSet<Item>;

/// One thing at a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item {
    /// The desired object, where the key says all of it.
    AsDesired,
    /// Another object than the desired one, to be read by a dump.
    Other,
    /// The hardware address of a neighbour.
    Mac(Mac),
    /// A tunnel end.
    Endpoint(IpAddr),
    /// A route.
    Route(DeviceRoute),
    /// The prefix length of an address.
    PrefixLength(u8),
}

/// What stands at the key of an address.
pub(crate) fn prefix_lengths(addresses: &BTreeSet<DeviceAddress>, device: &IfName, address: IpAddr) -> Value {
    let same = addresses.iter().filter(|have| have.device == *device && have.address == address);
    same.map(|have| Item::PrefixLength(have.prefix_len)).collect()
}
