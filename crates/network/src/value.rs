//! The value of a key: what an object is in the kernel, or should be.
//!
//! Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use dataplane::op::DeviceRoute;
use dataplane::types::Mac;

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
