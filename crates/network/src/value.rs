//! The value of a key: what an object is in the kernel, or should be.
//!
//! Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use dataplane::op::DeviceRoute;
use dataplane::types::Mac;

/// What the kernel has, or should have, for a key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Value {
    /// Nothing.
    #[default]
    Absent,
    /// What is desired, where a key has no more to it.
    Present,
    /// Something else than what is desired, which a dump has to tell.
    Different,
    /// The hardware address of a neighbour.
    Mac(Mac),
    /// The tunnel ends behind a hardware address.
    Endpoints(BTreeSet<IpAddr>),
    /// Every route to a destination.
    Routes(BTreeSet<DeviceRoute>),
    /// The prefix lengths with which a device has an address.
    PrefixLengths(BTreeSet<u8>),
}

impl Value {
    /// These routes.
    pub fn routes(routes: BTreeSet<DeviceRoute>) -> Self {
        if routes.is_empty() { Value::Absent } else { Value::Routes(routes) }
    }

    /// These tunnel ends.
    pub fn endpoints(endpoints: BTreeSet<IpAddr>) -> Self {
        if endpoints.is_empty() { Value::Absent } else { Value::Endpoints(endpoints) }
    }

    /// These prefix lengths.
    pub fn prefix_lengths(lengths: BTreeSet<u8>) -> Self {
        if lengths.is_empty() { Value::Absent } else { Value::PrefixLengths(lengths) }
    }

    /// Present or absent.
    pub fn present(is_there: bool) -> Self {
        if is_there { Value::Present } else { Value::Absent }
    }
}
