//! Ranges of addresses and the order in which they are handed out: host-local's, so that a node may change plugins with
//! its pods running. Pure.

use std::fmt;
use std::net::IpAddr;

use dataplane::types::{Family, Prefix, address, number};
use ipnetwork::IpNetwork;

use crate::cni_error::{CniError, Code};

/// Some addresses of one subnet, in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    subnet: Prefix,
    start: IpAddr,
    end: IpAddr,
    /// The gateway of the range's addresses.
    pub gateway: IpAddr,
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

impl Range {
    fn new(request: &RangeRequest) -> Result<Self, String> {
        let given = request.subnet;
        let subnet = Prefix::new(given.ip(), given.prefix()).ok_or("empty range set")?;
        let family = subnet.family();
        if subnet.len() + 2 > family.bits() {
            return Err(format!("Network {subnet} too small to allocate from"));
        }
        if given.ip() != subnet.address() {
            return Err(format!(
                "Network has host bits set. For a subnet mask of length {} the network address is {}",
                subnet.len(),
                subnet.address()
            ));
        }
        let at = |number| address(family, number);
        let first = at(subnet.first() + 1);
        let last = match family {
            Family::V4 => at(subnet.last() - 1),
            Family::V6 => at(subnet.last()),
        };
        let bound = |bound, value: Option<IpAddr>, default| match value {
            Some(address) if !subnet.contains(address) => Err(format!("{bound} {address} not in network {subnet}")),
            value => Ok(value.unwrap_or(default)),
        };
        // The network's own address and IPv4's broadcast address are no host's, whatever the bounds say.
        let start = bound("RangeStart", request.start, first)?.max(first);
        let end = bound("RangeEnd", request.end, last)?.min(last);
        if start > end {
            return Err(format!("RangeStart {start} is after RangeEnd {end}"));
        }
        Ok(Self { subnet, start, end, gateway: request.gateway.unwrap_or(first) })
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

    /// The addresses with these numbers that may be handed out, with the range.
    fn addresses(self, numbers: impl Iterator<Item = u128>) -> impl Iterator<Item = (Self, IpAddr)> {
        let addresses = numbers.map(move |number| (self, address(self.subnet.family(), number)));
        addresses.filter(move |(_, address)| *address != self.gateway)
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
    pub fn all(requests: &[Vec<RangeRequest>]) -> Result<Vec<Self>, CniError> {
        let invalid = |message: String| CniError::new(Code::InvalidConfiguration, message);
        let mut sets: Vec<Self> = Vec::new();
        for (n, request) in requests.iter().enumerate() {
            let set = Self::new(request).map_err(|fault| invalid(format!("invalid range set {n}: {fault}")))?;
            sets.push(set);
        }
        for (other, later) in sets.iter().enumerate() {
            let overlaps = |earlier: &Self| earlier.0.iter().any(|one| later.0.iter().any(|two| one.overlaps(two)));
            if let Some(one) = sets[..other].iter().position(overlaps) {
                return Err(invalid(format!("range set {one} overlaps with {other}")));
            }
        }
        Ok(sets)
    }

    fn new(requests: &[RangeRequest]) -> Result<Self, String> {
        let ranges: Vec<_> = requests.iter().map(Range::new).collect::<Result<_, _>>()?;
        let first = ranges.first().ok_or("empty range set")?;
        if ranges.iter().any(|range| range.subnet.family() != first.subnet.family()) {
            return Err("mixed address families".to_owned());
        }
        for (n, other) in ranges.iter().enumerate() {
            if let Some(one) = ranges[..n].iter().find(|one| one.overlaps(other)) {
                return Err(format!("subnet {one} overlaps with {other}"));
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
        let holds_last = |range: &Range| last.is_some_and(|last| range.contains(last));
        let (current, last) = match self.0.iter().position(holds_last).zip(last) {
            Some((place, last)) => (place, number(last)),
            None => (0, number(self.0[0].start) - 1),
        };
        let (range, first, end) = (self.0[current], number(self.0[current].start), number(self.0[current].end));
        let others = self.0[current + 1..].iter().chain(&self.0[..current]);
        let others = others.flat_map(|other| other.addresses(number(other.start)..=number(other.end)));
        // After `last` first: the range may end with the greatest number there is.
        range.addresses((last..=end).skip(1)).chain(others).chain(range.addresses(first..=last))
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
