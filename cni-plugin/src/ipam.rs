//! Which pod has which address: host-local's directory of reservations, with an index beside it.
//!
//! One file for each address, named by it, that holds the container and the interface; whoever holds the lock may change
//! the directory. The format is the reference's to the byte, so that its plugins and this one can follow each other on a
//! node with pods running. Nothing here speaks to the kernel's network.

mod directory;
mod index;
pub mod range;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;

use crate::attachment::{Attachment, Id};
use crate::conf::attachments::ValidAttachments;
use crate::failure::{Code, Failure};
use directory::{Claim, Directory};
use index::Index;
use range::{Range, RangeSet};

/// After so many taken addresses in a row the directory is read as a whole instead of asked for each.
const PROBES: usize = 64;

/// Why addresses could not be given or given back.
#[derive(Debug, thiserror::Error)]
pub enum IpamError {
    /// The directory could not be used.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
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
    /// A pod wants the gateway's address.
    #[error("failed to allocate for range {set}: requested ip {address} is subnet's gateway")]
    Gateway {
        /// Which set, from 0.
        set: usize,
        /// The address.
        address: IpAddr,
    },
    /// A pod wants another's address.
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
    /// A pod wants addresses that are in no range, or two from one range.
    #[error("failed to allocate all requested IPs: {}", listed(.0))]
    Outside(Vec<IpAddr>),
}

fn listed(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl From<IpamError> for Failure {
    fn from(error: IpamError) -> Self {
        let code = match error {
            IpamError::Io { .. } => Code::Io,
            IpamError::Duplicate { .. } => Code::AlreadyThere,
            IpamError::Exhausted { .. } | IpamError::Taken { .. } => Code::TryAgainLater,
            IpamError::Gateway { .. } | IpamError::Outside(_) => Code::InvalidConfiguration,
        };
        Failure::of(code, &error)
    }
}

/// An address that a pod was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
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
    /// Locks the reservations of `network`, of which the directory is made where it is not there.
    ///
    /// # Errors
    /// Where the directory cannot be made, locked or read.
    pub fn lock(data_dir: &Path, network: &Id) -> Result<Self, IpamError> {
        Ok(Self { directory: Directory::create(data_dir, network)?, index: Index::of(data_dir, network) })
    }

    /// The same where there is something to lock; `None` where no directory is there.
    ///
    /// # Errors
    /// Where it is there and cannot be locked or read.
    pub fn lock_existing(data_dir: &Path, network: &Id) -> Result<Option<Self>, IpamError> {
        let directory = Directory::open(data_dir, network)?;
        Ok(directory.map(|directory| Self { directory, index: Index::of(data_dir, network) }))
    }

    /// Gives one address from each set: a requested one where it lies in the set, else the next in turn.
    ///
    /// # Errors
    /// Where an address cannot be had; then none is kept.
    pub fn allocate(
        &mut self,
        attachment: &Attachment,
        sets: &[RangeSet],
        requested: &[IpAddr],
    ) -> Result<Vec<Lease>, IpamError> {
        self.index.freshen(&self.directory)?;
        if let Some(address) = self.indexed(attachment)?.first() {
            return Err(IpamError::Duplicate { address: *address, container: attachment.container.clone() });
        }
        let chosen = choose(sets, requested)?;
        let mut taken = Vec::new();
        let leases = self.take_all(attachment, sets, &chosen, &mut taken);
        let kept = leases.and_then(|leases| {
            self.index.set(attachment, &taken)?;
            self.index.seal(&self.directory)?;
            Ok(leases)
        });
        if kept.is_err() {
            // What is left of a failed clean-up is found by DEL, which reads the directory when the index is not sealed.
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
    ) -> Result<Vec<Lease>, IpamError> {
        let mut leases = Vec::new();
        for (number, (set, wish)) in sets.iter().zip(chosen).enumerate() {
            let (range, address) = match wish {
                Some(address) => self.take_requested(attachment, number, set, *address)?,
                None => self.take_next(attachment, number, set)?,
            };
            taken.push(address);
            if wish.is_none() {
                self.directory.set_last(number, address)?;
            }
            leases.push(Lease { address: range.on_link(address), gateway: range.gateway() });
        }
        Ok(leases)
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
            Claim::Ours => Ok((range, address)),
            Claim::Taken => Err(taken()),
        }
    }

    fn take_next(&self, attachment: &Attachment, number: usize, set: &RangeSet) -> Result<(Range, IpAddr), IpamError> {
        let last = self.directory.last(number);
        let mut all = set.candidates(last);
        for (range, address) in all.by_ref().take(PROBES) {
            if self.directory.claim(address, attachment)? == Claim::Ours {
                return Ok((range, address));
            }
        }
        let taken = self.directory.addresses()?;
        for (range, address) in all.filter(|(_, address)| !taken.contains(address)) {
            if self.directory.claim(address, attachment)? == Claim::Ours {
                return Ok((range, address));
            }
        }
        // Only now is a look into each file worth its time: one that a crash left empty is free.
        for (range, address) in set.candidates(last).filter(|(_, address)| taken.contains(address)) {
            if self.directory.claim(address, attachment)? == Claim::Ours {
                return Ok((range, address));
            }
        }
        Err(IpamError::Exhausted { set: number, ranges: set.clone() })
    }

    /// Takes back what the attachment has. Nothing to take back is no error.
    ///
    /// # Errors
    /// Where a reservation stays; it can be tried again.
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

    /// What the index says, as far as the files agree.
    fn indexed(&self, attachment: &Attachment) -> Result<Vec<IpAddr>, IpamError> {
        let mut addresses = self.index.get(attachment)?;
        addresses.retain(|address| self.directory.is_of(*address, attachment));
        Ok(addresses)
    }

    /// Removes every reservation that is not valid, and every empty file. Goes on after a failure.
    ///
    /// # Errors
    /// All that failed.
    pub fn retain(&mut self, valid: &ValidAttachments) -> Result<(), Vec<IpamError>> {
        let mut failed = Vec::new();
        for address in self.directory.addresses().map_err(|error| vec![error])? {
            let keep = match self.directory.owner(address) {
                Ok(Some(owner)) => valid.keeps(&owner.container, &owner.ifname),
                // Nobody's, as a crash leaves it.
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

/// Could each set give an address now? Looks without locking or changing anything; a directory that is not there is
/// empty.
///
/// # Errors
/// [`IpamError::Exhausted`] where one could not; where the directory cannot be read.
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
        let wish = left.iter().copied().find(|address| is_in(set, *address))?;
        left.remove(&wish);
        Some(wish)
    });
    let chosen = chosen.collect();
    if left.is_empty() { Ok(chosen) } else { Err(IpamError::Outside(left.into_iter().collect())) }
}

#[cfg(test)]
mod tests;
