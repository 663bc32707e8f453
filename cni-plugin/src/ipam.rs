//! Which pod has which address: host-local's directory of reservations, with an index beside it.
//!
//! Each taken address is a file of its name, which holds the container and the interface. Only the holder of the lock changes
//! the directory. The format is the reference's to the byte, so that its plugins and this one can follow each other on a
//! node with pods running. This module uses no network interface of the kernel.

mod directory;
mod index;
pub mod range;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;

use crate::attachment::{Attachment, Id, ValidAttachments};
use crate::cni_error::{CniError, Code};
use directory::{Claimed, Directory};
use index::Index;
use range::{Range, RangeSet};

/// After so many taken addresses in a row the directory is read as a whole instead of file by file.
const PROBES: usize = 64;

/// Why addresses could not be reserved or released.
#[derive(Debug, thiserror::Error)]
pub enum IpamError {
    /// The directory could not be used.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// The failed operation.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The attachment has an address: it was added and never deleted.
    #[error("{address} has been allocated to {container}, duplicate allocation is not allowed")]
    Duplicate {
        /// Its address.
        address: IpAddr,
        /// Its container.
        container: Id,
    },
    /// Every address is taken.
    #[error("failed to allocate for range {set}: no IP addresses available in range set: {ranges}")]
    Exhausted {
        /// Which set, from 0.
        set: usize,
        /// Its ranges.
        ranges: RangeSet,
    },
    /// The runtime requests the gateway's address.
    #[error("failed to allocate for range {set}: requested ip {address} is subnet's gateway")]
    Gateway {
        /// Which set, from 0.
        set: usize,
        /// The address.
        address: IpAddr,
    },
    /// The runtime requests an address that is taken.
    #[error(
        "failed to allocate for range {set}: requested IP address {address} is not available in range set {ranges}"
    )]
    Taken {
        /// Which set, from 0.
        set: usize,
        /// The address.
        address: IpAddr,
        /// The set's ranges.
        ranges: RangeSet,
    },
    /// The runtime requests addresses that are in no range, or two from one range.
    #[error("failed to allocate all requested IPs: {}", listed(.0))]
    Outside(Vec<IpAddr>),
}

fn listed(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl From<IpamError> for CniError {
    fn from(error: IpamError) -> Self {
        let code = match error {
            IpamError::Io { .. } => Code::Io,
            IpamError::Duplicate { .. } => Code::AlreadyThere,
            IpamError::Exhausted { .. } | IpamError::Taken { .. } => Code::TryAgainLater,
            IpamError::Gateway { .. } | IpamError::Outside(_) => Code::InvalidConfiguration,
        };
        CniError::of(code, &error)
    }
}

/// An address that is reserved for a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocation {
    /// The address with its subnet's length.
    pub address: IpNetwork,
    /// Its subnet's gateway.
    pub gateway: IpAddr,
}

/// The reservations of one network, locked as long as this lives.
#[derive(Debug)]
pub struct Reservations {
    directory: Directory,
    index: Index,
}

impl Reservations {
    /// Locks the reservations of `network`. The directory is made where it is missing.
    ///
    /// # Errors
    /// Where the directory cannot be made, locked or read.
    pub fn lock(data_dir: &Path, network: &Id) -> Result<Self, IpamError> {
        Ok(Self { directory: Directory::create(data_dir, network)?, index: Index::of(data_dir, network) })
    }

    /// Locks the reservations of `network`; `None` where the directory is missing.
    ///
    /// # Errors
    /// Where the directory cannot be locked or read.
    pub fn lock_existing(data_dir: &Path, network: &Id) -> Result<Option<Self>, IpamError> {
        let directory = Directory::open(data_dir, network)?;
        Ok(directory.map(|directory| Self { directory, index: Index::of(data_dir, network) }))
    }

    /// Reserves one address from each set: a requested one that lies in the set, else the next in turn.
    ///
    /// # Errors
    /// Where an address cannot be reserved; then none is kept.
    pub fn allocate(
        &mut self,
        attachment: &Attachment,
        sets: &[RangeSet],
        requested: &[IpAddr],
    ) -> Result<Vec<Allocation>, IpamError> {
        self.index.freshen(&self.directory)?;
        if let Some(address) = self.indexed(attachment)?.first() {
            return Err(IpamError::Duplicate { address: *address, container: attachment.container.clone() });
        }
        let chosen = choose(sets, requested)?;
        let mut taken = Vec::new();
        let allocations = self.take_all(attachment, sets, &chosen, &mut taken);
        let kept = allocations.and_then(|allocations| {
            self.index.set(attachment, &taken)?;
            self.index.seal(&self.directory)?;
            Ok(allocations)
        });
        if kept.is_err() {
            // DEL finds what a failed clean-up leaves: it reads the directory when the index is not sealed.
            let _ = taken.iter().try_for_each(|address| self.directory.release(*address));
            let _ = self.index.remove(attachment);
        }
        kept
    }

    fn take_all(
        &self,
        attachment: &Attachment,
        sets: &[RangeSet],
        chosen: &[Option<IpAddr>],
        taken: &mut Vec<IpAddr>,
    ) -> Result<Vec<Allocation>, IpamError> {
        let mut allocations = Vec::new();
        for (number, (set, requested)) in sets.iter().zip(chosen).enumerate() {
            let (range, address) = match requested {
                Some(address) => self.take_requested(attachment, number, set, *address)?,
                None => self.take_next(attachment, number, set)?,
            };
            taken.push(address);
            if requested.is_none() {
                self.directory.set_last(number, address)?;
            }
            allocations.push(Allocation { address: range.on_link(address), gateway: range.gateway() });
        }
        Ok(allocations)
    }

    fn take_requested(
        &self,
        attachment: &Attachment,
        number: usize,
        set: &RangeSet,
        address: IpAddr,
    ) -> Result<(Range, IpAddr), IpamError> {
        let taken = || IpamError::Taken { set: number, address, ranges: set.clone() };
        let range = *set.range_of(address).ok_or_else(taken)?;
        if address == range.gateway() {
            return Err(IpamError::Gateway { set: number, address });
        }
        match self.directory.claim(address, attachment)? {
            Claimed::Ours => Ok((range, address)),
            Claimed::Taken => Err(taken()),
        }
    }

    fn take_next(&self, attachment: &Attachment, number: usize, set: &RangeSet) -> Result<(Range, IpAddr), IpamError> {
        let last = self.directory.last(number);
        let mut all = set.candidates(last);
        for (range, address) in all.by_ref().take(PROBES) {
            if self.directory.claim(address, attachment)? == Claimed::Ours {
                return Ok((range, address));
            }
        }
        let taken = self.directory.addresses()?;
        for (range, address) in all.filter(|(_, address)| !taken.contains(address)) {
            if self.directory.claim(address, attachment)? == Claimed::Ours {
                return Ok((range, address));
            }
        }
        // Last, because this opens each file: a file that a crash left empty is free.
        for (range, address) in set.candidates(last).filter(|(_, address)| taken.contains(address)) {
            if self.directory.claim(address, attachment)? == Claimed::Ours {
                return Ok((range, address));
            }
        }
        Err(IpamError::Exhausted { set: number, ranges: set.clone() })
    }

    /// Releases the attachment's addresses. It is no error where there are none.
    ///
    /// # Errors
    /// Where a reservation stays; the caller can try again.
    pub fn release(&mut self, attachment: &Attachment) -> Result<Vec<IpAddr>, IpamError> {
        self.index.freshen(&self.directory)?;
        let addresses = self.indexed(attachment)?;
        if addresses.is_empty() {
            return Ok(addresses);
        }
        addresses.iter().try_for_each(|address| self.directory.release(*address))?;
        self.index.remove(attachment)?;
        self.index.seal(&self.directory)?;
        Ok(addresses)
    }

    /// The addresses that the attachment has.
    ///
    /// # Errors
    /// Where the directory cannot be read.
    pub fn addresses_of(&self, attachment: &Attachment) -> Result<Vec<IpAddr>, IpamError> {
        self.index.freshen(&self.directory)?;
        self.indexed(attachment)
    }

    /// The addresses of the index whose files name the attachment.
    fn indexed(&self, attachment: &Attachment) -> Result<Vec<IpAddr>, IpamError> {
        let mut addresses = self.index.get(attachment)?;
        addresses.retain(|address| self.directory.is_of(*address, attachment));
        Ok(addresses)
    }

    /// Removes every reservation that is not valid, and every empty file. Goes on after an error.
    ///
    /// # Errors
    /// All that failed.
    pub fn retain(&mut self, valid: &ValidAttachments) -> Result<(), Vec<IpamError>> {
        let mut failed = Vec::new();
        for address in self.directory.addresses().map_err(|error| vec![error])? {
            let keep = match self.directory.owner(address) {
                Ok(Some(owner)) => valid.keeps(&owner.container, &owner.ifname),
                // Without an owner, as a crash leaves it.
                Ok(None) => false,
                Err(error) => {
                    failed.push(error);
                    continue;
                }
            };
            if !keep {
                failed.extend(self.directory.release(address).err());
            }
        }
        failed.extend(self.index.rebuild(&self.directory).err());
        if failed.is_empty() { Ok(()) } else { Err(failed) }
    }
}

/// Checks that each set has a free address, without a lock and without a change. A missing directory counts as empty.
///
/// # Errors
/// [`IpamError::Exhausted`] where a set has none; where the directory cannot be read.
pub fn has_room(data_dir: &Path, network: &Id, sets: &[RangeSet]) -> Result<(), IpamError> {
    let taken = directory::addresses_in(&data_dir.join(network.as_str()))?;
    for (number, set) in sets.iter().enumerate() {
        if !set.candidates(None).any(|(_, address)| !taken.contains(&address)) {
            return Err(IpamError::Exhausted { set: number, ranges: set.clone() });
        }
    }
    Ok(())
}

/// For each set the requested address that lies in it.
fn choose(sets: &[RangeSet], requested: &[IpAddr]) -> Result<Vec<Option<IpAddr>>, IpamError> {
    let mut left: BTreeSet<IpAddr> = requested.iter().copied().collect();
    let is_in = |set: &RangeSet, address: IpAddr| {
        set.range_of(address).is_some() || set.ranges().iter().any(|range| range.gateway() == address)
    };
    let chosen = sets.iter().map(|set| {
        let requested = left.iter().copied().find(|address| is_in(set, *address))?;
        left.remove(&requested);
        Some(requested)
    });
    let chosen = chosen.collect();
    if left.is_empty() { Ok(chosen) } else { Err(IpamError::Outside(left.into_iter().collect())) }
}

#[cfg(test)]
mod tests;
