//! The allocation of subnets: a free subnet of the pods' range for a node.
//!
//! Pure: the taken subnets and the seed are arguments.

use crate::net_conf::NetworkRange;
use dataplane::types::{self, Prefix};

/// The number of free subnets of which one is picked. In a store without a lock, nodes that allocate at once then seldom pick the same one.
const CHOICE: usize = 100;

/// All subnets of a range are taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "out of subnets: Network {} with SubnetLen {} has {total} subnets from {} to {}, and all are taken \
     ({leases} leases and ranges of other devices there): remove the leases of nodes that are gone, or set a larger Network or a longer SubnetLen",
    range.network, range.subnet_len, range.min, range.max
)]
pub struct OutOfSubnets {
    range: NetworkRange,
    total: u128,
    leases: usize,
}

impl NetworkRange {
    /// True where `subnet` is one of the range's subnets.
    pub fn suits(&self, subnet: Prefix) -> bool {
        subnet.family() == self.network.family()
            && subnet.len() == self.subnet_len
            && (self.min..=self.max).contains(&subnet)
    }

    /// The number of addresses of one subnet.
    fn step(&self) -> u128 {
        1 << (self.network.family().bits() - self.subnet_len)
    }
}

/// Returns a subnet of `range` that overlaps none of `taken`: the first of `wanted` that is free, else one of the lowest free subnets,
/// picked by `seed`.
///
/// # Errors
/// When no subnet is free.
pub fn next_free(
    range: &NetworkRange,
    taken: impl IntoIterator<Item = Prefix>,
    wanted: impl IntoIterator<Item = Prefix>,
    seed: u64,
) -> Result<Prefix, OutOfSubnets> {
    let is_in_range = |prefix: &Prefix| {
        prefix.family() == range.network.family()
            && prefix.first() <= range.max.last()
            && prefix.last() >= range.min.first()
    };
    let mut taken: Vec<Prefix> = taken.into_iter().filter(is_in_range).collect();
    taken.sort_unstable();
    let is_free = |subnet: &Prefix| !taken.iter().any(|taken| taken.overlaps(*subnet));
    if let Some(subnet) = wanted.into_iter().filter(|subnet| range.suits(*subnet)).find(is_free) {
        return Ok(subnet);
    }
    let free = lowest_free(range, &taken);
    let picked = u64::try_from(free.len()).ok().and_then(|count| seed.checked_rem(count));
    picked.and_then(|index| free.get(usize::try_from(index).ok()?).copied()).ok_or_else(|| {
        let total = (range.max.first() - range.min.first()) / range.step() + 1;
        OutOfSubnets { range: *range, total, leases: taken.len() }
    })
}

/// The lowest free subnets, at most [`CHOICE`]. `taken` is sorted by address.
fn lowest_free(range: &NetworkRange, taken: &[Prefix]) -> Vec<Prefix> {
    let family = range.network.family();
    let mut free = Vec::with_capacity(CHOICE);
    let mut taken = taken.iter().peekable();
    let mut next = Some(range.min.first());
    while let Some(first) = next.filter(|&first| first <= range.max.first() && free.len() < CHOICE) {
        let last = first + (range.step() - 1);
        // A prefix that ends before this subnet does not overlap later subnets either.
        while taken.next_if(|taken| taken.last() < first).is_some() {}
        let after = match taken.peek() {
            // All subnets that the taken prefix covers are skipped in one step: there can be millions.
            Some(taken) if taken.first() <= last => last.max(taken.last() | (range.step() - 1)),
            _ => {
                free.extend(Prefix::new(types::address(family, first), range.subnet_len));
                last
            }
        };
        next = after.checked_add(1);
    }
    free
}

#[cfg(test)]
mod tests;
