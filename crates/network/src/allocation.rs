//! Which subnet a node gets.
//!
//! Pure: the leases so far and the seed are arguments.

use crate::net_conf::NetworkRange;
use dataplane::types::{self, Prefix};

/// Out of how many free subnets one is picked: nodes that ask at once in stores without a lock then seldom want the same.
const CHOICE: usize = 100;

/// Every subnet of a range is taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "out of subnets: Network {network} with SubnetLen {subnet_len} has {total} subnets from {min} to {max}, and all are taken \
     ({leases} leases there): remove the leases of nodes that are gone, or set a larger Network or a longer SubnetLen"
)]
pub struct OutOfSubnets {
    network: Prefix,
    subnet_len: u8,
    total: u128,
    min: Prefix,
    max: Prefix,
    leases: usize,
}

impl NetworkRange {
    /// True where `subnet` is one of the range's subnets.
    pub fn suits(&self, subnet: Prefix) -> bool {
        subnet.family() == self.network.family()
            && subnet.len() == self.subnet_len
            && (self.min..=self.max).contains(&subnet)
    }

    /// The addresses of one subnet.
    fn step(&self) -> u128 {
        1 << (self.network.family().bits() - self.subnet_len)
    }
}

/// Gives a subnet of `range` that overlaps none of `taken`: the first of `wanted` that can be had, else one of the lowest free ones,
/// picked by `seed`.
pub fn next_free(
    range: &NetworkRange,
    taken: impl IntoIterator<Item = Prefix>,
    wanted: impl IntoIterator<Item = Prefix>,
    seed: u64,
) -> Result<Prefix, OutOfSubnets> {
    let reach = |prefix: &Prefix| {
        prefix.family() == range.network.family()
            && prefix.first() <= range.max.last()
            && prefix.last() >= range.min.first()
    };
    let mut taken: Vec<Prefix> = taken.into_iter().filter(reach).collect();
    taken.sort_unstable();
    let is_free = |subnet: &Prefix| !taken.iter().any(|taken| taken.overlaps(*subnet));
    if let Some(subnet) = wanted.into_iter().filter(|subnet| range.suits(*subnet)).find(is_free) {
        return Ok(subnet);
    }
    let free = lowest_free(range, &taken);
    let picked = u64::try_from(free.len()).ok().and_then(|count| seed.checked_rem(count));
    picked.and_then(|index| free.get(usize::try_from(index).ok()?).copied()).ok_or_else(|| OutOfSubnets {
        network: range.network,
        subnet_len: range.subnet_len,
        total: (range.max.first() - range.min.first()) / range.step() + 1,
        min: range.min,
        max: range.max,
        leases: taken.len(),
    })
}

/// The lowest free subnets, up to [`CHOICE`]. `taken` is sorted by address.
fn lowest_free(range: &NetworkRange, taken: &[Prefix]) -> Vec<Prefix> {
    let family = range.network.family();
    let mut free = Vec::with_capacity(CHOICE);
    let mut taken = taken.iter().peekable();
    let mut next = Some(range.min.first());
    while let Some(first) = next.filter(|&first| first <= range.max.first() && free.len() < CHOICE) {
        let last = first + (range.step() - 1);
        // Whatever ends before this subnet cannot reach into a later one either.
        while taken.next_if(|taken| taken.last() < first).is_some() {}
        let after = match taken.peek() {
            // The subnets under it are passed over at once: it may cover millions.
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
