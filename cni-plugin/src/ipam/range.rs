//! Ranges of addresses and the order in which they are handed out: host-local's, so that a node may change plugins with
//! its pods running. Pure.

use std::fmt;
use std::net::IpAddr;

use dataplane::types::{Family, Prefix, address, number};
use ipnetwork::IpNetwork;

/// Some addresses of one subnet, in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    subnet: Prefix,
    start: IpAddr,
    end: IpAddr,
    gateway: IpAddr,
}

/// A range as a configuration gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RangeRequest {
    /// The subnet, with its host bits as given.
    pub subnet: IpNetwork,
    /// The first address to hand out; the subnet's second one where absent.
    pub start: Option<IpAddr>,
    /// The last address to hand out; the subnet's last usable one where absent.
    pub end: Option<IpAddr>,
    /// The gateway; the subnet's first usable address where absent. Never handed out.
    pub gateway: Option<IpAddr>,
}

/// Why ranges cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// A subnet of one or two addresses.
    #[error("invalid range set {set}: Network {subnet} too small to allocate from")]
    TooSmall {
        /// Which set, from 0.
        set: usize,
        /// The subnet.
        subnet: Prefix,
    },
    /// A subnet that is none.
    #[error(
        "invalid range set {set}: Network has host bits set. For a subnet mask of length {} the network address is {}",
        .network.len(), .network.address()
    )]
    HostBits {
        /// Which set, from 0.
        set: usize,
        /// What the subnet should be.
        network: Prefix,
    },
    /// A bound outside the subnet.
    #[error("invalid range set {set}: {bound} {address} not in network {subnet}")]
    Outside {
        /// Which set, from 0.
        set: usize,
        /// `RangeStart` or `RangeEnd`.
        bound: &'static str,
        /// The bound.
        address: IpAddr,
        /// The subnet.
        subnet: Prefix,
    },
    /// No address lies between the bounds.
    #[error("invalid range set {set}: RangeStart {start} is after RangeEnd {end}")]
    Empty {
        /// Which set, from 0.
        set: usize,
        /// The first address.
        start: IpAddr,
        /// The last address.
        end: IpAddr,
    },
    /// A set of IPv4 and IPv6: each set gives one address.
    #[error("invalid range set {set}: mixed address families")]
    MixedFamilies {
        /// Which set, from 0.
        set: usize,
    },
    /// A set with nothing in it.
    #[error("invalid range set {set}: empty range set")]
    EmptySet {
        /// Which set, from 0.
        set: usize,
    },
    /// Two ranges of a set share an address.
    #[error("invalid range set {set}: subnet {one} overlaps with {other}")]
    OverlapInSet {
        /// Which set, from 0.
        set: usize,
        /// One range.
        one: String,
        /// The other.
        other: String,
    },
    /// Two sets share an address.
    #[error("range set {one} overlaps with {other}")]
    Overlap {
        /// One set, from 0.
        one: usize,
        /// The other.
        other: usize,
    },
}

impl Range {
    fn new(request: &RangeRequest, set: usize) -> Result<Self, RangeError> {
        let RangeRequest { subnet: given, .. } = request;
        let Some(subnet) = Prefix::new(given.ip(), given.prefix()) else {
            return Err(RangeError::EmptySet { set });
        };
        let family = subnet.family();
        if subnet.len() + 2 > family.bits() {
            return Err(RangeError::TooSmall { set, subnet });
        }
        if given.ip() != subnet.address() {
            return Err(RangeError::HostBits { set, network: subnet });
        }
        let at = |number| address(family, number);
        let first = at(subnet.first() + 1);
        let last = match family {
            Family::V4 => at(subnet.last() - 1),
            Family::V6 => at(subnet.last()),
        };
        let bound = |bound, value: Option<IpAddr>, default| match value {
            Some(address) if !subnet.contains(address) => Err(RangeError::Outside { set, bound, address, subnet }),
            value => Ok(value.unwrap_or(default)),
        };
        // The network's own address and IPv4's broadcast address are no host's, whatever the bounds say.
        let start = bound("RangeStart", request.start, first)?.max(first);
        let end = bound("RangeEnd", request.end, last)?.min(last);
        if start > end {
            return Err(RangeError::Empty { set, start, end });
        }
        Ok(Self { subnet, start, end, gateway: request.gateway.unwrap_or(first) })
    }

    /// The subnet that the range is part of.
    pub fn subnet(&self) -> Prefix {
        self.subnet
    }

    /// The gateway of the range's addresses.
    pub fn gateway(&self) -> IpAddr {
        self.gateway
    }

    /// True for the addresses between the bounds.
    pub fn contains(&self, address: IpAddr) -> bool {
        Family::of(address) == self.subnet.family() && (self.start..=self.end).contains(&address)
    }

    /// An address of the range with the subnet's length, as an interface has it.
    pub fn on_link(&self, address: IpAddr) -> IpNetwork {
        IpNetwork::new(address, self.subnet.len()).unwrap_or_else(|_| IpNetwork::from(address))
    }

    fn overlaps(&self, other: &Range) -> bool {
        self.contains(other.start) || other.contains(self.start)
    }

    fn between(self, first: u128, last: u128) -> impl Iterator<Item = IpAddr> {
        let family = self.subnet.family();
        (first..=last).map(move |number| address(family, number)).filter(move |address| *address != self.gateway)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start, self.end)
    }
}

/// Ranges of one family that together give one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeSet(Vec<Range>);

impl RangeSet {
    /// Checks the sets of a configuration, each and against each other.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn all(requests: &[Vec<RangeRequest>]) -> Result<Vec<Self>, RangeError> {
        let sets: Vec<_> = requests.iter().enumerate().map(|(n, set)| Self::new(set, n)).collect::<Result<_, _>>()?;
        for (other, later) in sets.iter().enumerate() {
            if let Some(one) = sets[..other].iter().position(|earlier| earlier.overlaps(later)) {
                return Err(RangeError::Overlap { one, other });
            }
        }
        Ok(sets)
    }

    fn new(requests: &[RangeRequest], set: usize) -> Result<Self, RangeError> {
        let ranges: Vec<_> = requests.iter().map(|request| Range::new(request, set)).collect::<Result<_, _>>()?;
        let first = ranges.first().ok_or(RangeError::EmptySet { set })?;
        if ranges.iter().any(|range| range.subnet.family() != first.subnet.family()) {
            return Err(RangeError::MixedFamilies { set });
        }
        for (n, other) in ranges.iter().enumerate() {
            if let Some(one) = ranges[..n].iter().find(|one| one.overlaps(other)) {
                return Err(RangeError::OverlapInSet { set, one: one.to_string(), other: other.to_string() });
            }
        }
        Ok(Self(ranges))
    }

    /// The family of the set's addresses.
    pub fn family(&self) -> Family {
        self.0[0].subnet.family()
    }

    /// The ranges, in order; at least one.
    pub fn ranges(&self) -> &[Range] {
        &self.0
    }

    /// The range that has `address` between its bounds.
    pub fn range_of(&self, address: IpAddr) -> Option<&Range> {
        self.0.iter().find(|range| range.contains(address))
    }

    /// Every address that may be handed out, once, with its range: round robin, from the one after `last`, which so
    /// comes last. From the beginning where `last` is none of ours.
    pub fn candidates(&self, last: Option<IpAddr>) -> impl Iterator<Item = (Range, IpAddr)> + '_ {
        let from = last.and_then(|last| Some((self.0.iter().position(|range| range.contains(last))?, number(last))));
        let (first, after) = from.unwrap_or((0, number(self.0[0].start) - 1));
        let end = number(self.0[first].end);
        let tail = (after < end).then(|| self.0[first].between(after + 1, end)).into_iter().flatten();
        let head = self.0[first].between(number(self.0[first].start), after);
        let others = self.0[first + 1..].iter().chain(&self.0[..first]);
        let whole = |range: &Range| range.between(number(range.start), number(range.end));
        tail.map(move |address| (self.0[first], address))
            .chain(others.flat_map(move |range| whole(range).map(move |address| (*range, address))))
            .chain(head.map(move |address| (self.0[first], address)))
    }

    fn overlaps(&self, other: &RangeSet) -> bool {
        self.0.iter().any(|one| other.0.iter().any(|two| one.overlaps(two)))
    }
}

impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, range) in self.0.iter().enumerate() {
            write!(f, "{}{range}", if n == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
