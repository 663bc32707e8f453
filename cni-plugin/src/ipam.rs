//! Which pod has which address: host-local's directory of reservations, with an index beside it.
//!
//! Each taken address is a file of its name, which holds the container and the interface. Only the holder of the lock changes
//! the directory. The format is the reference's to the byte, so that its plugins and this one can follow each other on a
//! node with pods running. Where the files may not be what the node's pods have, the caller reads these from the kernel.

mod directory;
mod index;
pub mod range;

use std::collections::{BTreeSet, HashSet};
use std::fmt::Display;
use std::net::IpAddr;
use std::path::Path;

use crate::attachment::{Attachment, Id, Port, ValidAttachments};
use crate::cni_error::{CniError, Code};
use crate::result::Ip;
use dataplane::types::IfName;
use directory::{Directory, Owner};
use index::Index;
use range::{Range, RangeSet};

/// After so many taken addresses in a row the directory is read as a whole instead of file by file.
const PROBES: usize = 64;

/// The error of a range set, by its place.
fn failed(code: Code, set: usize, reason: impl Display) -> CniError {
    CniError::new(code, format!("failed to allocate for range {set}: {reason}"))
}

fn exhausted(set: usize, ranges: &RangeSet) -> CniError {
    failed(Code::TryAgainLater, set, format!("no IP addresses available in range set: {ranges}"))
}

/// The reservations of one network, locked as long as this lives.
#[derive(Debug)]
pub struct Reservations {
    network: Id,
    directory: Directory,
    index: Index,
}

impl Reservations {
    /// Locks the reservations of `network`. The directory is made where it is missing.
    ///
    /// # Errors
    /// Where the directory cannot be made, locked or read.
    pub fn lock(data_dir: &Path, network: &Id) -> Result<Self, CniError> {
        Ok(Self::of(data_dir, network, Directory::create(data_dir, network)?))
    }

    /// Locks the reservations of `network`; `None` where the directory is missing.
    ///
    /// # Errors
    /// Where the directory cannot be locked or read.
    pub fn lock_existing(data_dir: &Path, network: &Id) -> Result<Option<Self>, CniError> {
        Ok(Directory::open(data_dir, network)?.map(|directory| Self::of(data_dir, network, directory)))
    }

    fn of(data_dir: &Path, network: &Id, directory: Directory) -> Self {
        Self { network: network.clone(), directory, index: Index::of(data_dir, network) }
    }

    /// Reserves one address from each set: a requested one that lies in the set, else the next in turn. Gives them as addresses
    /// of no interface, each with its range's gateway. `read_ports` is called where the files may be wrong: after others have
    /// changed them, and where no address is free.
    ///
    /// # Errors
    /// Where an address cannot be reserved; then none is kept.
    pub fn allocate(
        &mut self,
        attachment: &Attachment,
        sets: &[RangeSet],
        requested: &[IpAddr],
        mut read_ports: impl FnMut() -> Result<Vec<Port>, CniError>,
    ) -> Result<Vec<Ip>, CniError> {
        self.index.freshen(&self.directory)?;
        // An address whose reservation is lost is given twice at the worst; no pod at all would be worse.
        if !self.index.is_compared()
            && let Ok(ports) = read_ports()
        {
            self.reserve_lost(sets, &ports)?;
        }
        if let Some(address) = self.indexed(attachment)?.first() {
            let container = &attachment.container;
            let message = format!("{address} has been allocated to {container}, duplicate allocation is not allowed");
            return Err(CniError::new(Code::AlreadyThere, message));
        }
        let chosen = choose(sets, requested)?;
        let kept = self.reserve(attachment, sets, &chosen);
        let Err(CniError { code: Code::TryAgainLater, .. }) = kept else { return kept };
        let taken_back = read_ports().and_then(|ports| self.take_back(sets, &ports));
        if taken_back.is_ok_and(|addresses| !addresses.is_empty()) {
            self.reserve(attachment, sets, &chosen)
        } else {
            kept
        }
    }

    fn reserve(
        &mut self,
        attachment: &Attachment,
        sets: &[RangeSet],
        chosen: &[Option<IpAddr>],
    ) -> Result<Vec<Ip>, CniError> {
        let mut taken = Vec::new();
        let kept = self.take_all(attachment, sets, chosen, &mut taken).and_then(|ips| {
            self.index.set(attachment, &taken)?;
            self.index.seal(&self.directory)?;
            Ok(ips)
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
    ) -> Result<Vec<Ip>, CniError> {
        let mut ips = Vec::new();
        for (number, (set, requested)) in sets.iter().zip(chosen).enumerate() {
            let (range, address) = match requested {
                Some(address) => self.take_requested(attachment, number, set, *address)?,
                None => self.take_next(attachment, number, set)?,
            };
            taken.push(address);
            if requested.is_none() {
                self.directory.set_last(number, address)?;
            }
            ips.push(Ip { address: range.on_link(address), gateway: Some(range.gateway), interface: None });
        }
        Ok(ips)
    }

    fn take_requested(
        &self,
        attachment: &Attachment,
        number: usize,
        set: &RangeSet,
        address: IpAddr,
    ) -> Result<(Range, IpAddr), CniError> {
        let range = set.range_of(address);
        if range.is_some_and(|range| address == range.gateway) {
            let reason = format!("requested ip {address} is subnet's gateway");
            return Err(failed(Code::InvalidConfiguration, number, reason));
        }
        match range {
            Some(range) if self.directory.claim(address, attachment)? => Ok((*range, address)),
            _ => {
                let reason = format!("requested IP address {address} is not available in range set {set}");
                Err(failed(Code::TryAgainLater, number, reason))
            }
        }
    }

    fn take_next(&self, attachment: &Attachment, number: usize, set: &RangeSet) -> Result<(Range, IpAddr), CniError> {
        let last = self.directory.last(number);
        let mut all = set.candidates(last);
        if let Some(claimed) = self.claim_first(attachment, all.by_ref().take(PROBES))? {
            return Ok(claimed);
        }
        let taken = self.directory.addresses()?;
        let free = all.filter(|(_, address)| !taken.contains(address));
        // Last, because this opens each file: a file that a crash left empty is free.
        let unfinished = set.candidates(last).filter(|(_, address)| taken.contains(address));
        self.claim_first(attachment, free.chain(unfinished))?.ok_or_else(|| exhausted(number, set))
    }

    fn claim_first(
        &self,
        attachment: &Attachment,
        candidates: impl Iterator<Item = (Range, IpAddr)>,
    ) -> Result<Option<(Range, IpAddr)>, CniError> {
        for (range, address) in candidates {
            if self.directory.claim(address, attachment)? {
                return Ok(Some((range, address)));
            }
        }
        Ok(None)
    }

    /// Reserves the addresses that pods have and the files lack, so that no other pod gets them. A pod of another plugin, which does
    /// not tell its container, is called by its port.
    fn reserve_lost(&mut self, sets: &[RangeSet], ports: &[Port]) -> Result<(), CniError> {
        let mut lost = false;
        for port in ports {
            let name = &port.name;
            let by_name = || {
                Some(Attachment {
                    network: self.network.clone(),
                    container: name.as_str().parse().ok()?,
                    ifname: name.clone(),
                })
            };
            let Some(owner) = port.attachment.clone().or_else(by_name) else { continue };
            for address in port.addresses.iter().filter(|address| is_of(sets, **address)) {
                lost |= self.directory.claim(*address, &owner)?;
            }
        }
        if lost {
            self.index.rebuild(&self.directory)?;
        }
        self.index.set_compared()?;
        self.index.seal(&self.directory)
    }

    /// Releases the addresses of `sets` whose pods have gone without a DEL, as at a power cut, and gives them. `ports` are those of the
    /// network; what was reserved just now stays.
    ///
    /// # Errors
    /// Where the files cannot be read or removed.
    pub fn take_back(&mut self, sets: &[RangeSet], ports: &[Port]) -> Result<Vec<IpAddr>, CniError> {
        let names: HashSet<&IfName> = ports.iter().map(|port| &port.name).collect();
        let behind: HashSet<IpAddr> = ports.iter().flat_map(|port| port.addresses.iter().copied()).collect();
        let is_there = |owner: Owner| {
            let (Ok(container), Ok(ifname)) = (owner.container.parse(), owner.ifname.parse()) else { return false };
            names.contains(&Attachment { network: self.network.clone(), container, ifname }.host_veth())
        };
        let (settled, mut free) = (directory::settled(), Vec::new());
        for address in self.directory.addresses()? {
            let is_settled = self.directory.is_reserved_before(address, settled);
            let may_go = is_settled && is_of(sets, address) && !behind.contains(&address);
            if may_go && self.directory.owner(address)?.is_some_and(|owner| !is_there(owner)) {
                self.directory.release(address)?;
                free.push(address);
            }
        }
        if !free.is_empty() {
            self.index.rebuild(&self.directory)?;
        }
        free.sort();
        Ok(free)
    }

    /// Releases the attachment's addresses. It is no error where there are none.
    ///
    /// # Errors
    /// Where a reservation stays; the caller can try again.
    pub fn release(&mut self, attachment: &Attachment) -> Result<Vec<IpAddr>, CniError> {
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
    pub fn addresses_of(&self, attachment: &Attachment) -> Result<Vec<IpAddr>, CniError> {
        self.index.freshen(&self.directory)?;
        self.indexed(attachment)
    }

    /// The addresses of the index whose files name the attachment.
    fn indexed(&self, attachment: &Attachment) -> Result<Vec<IpAddr>, CniError> {
        let mut addresses = self.index.get(attachment)?;
        addresses.retain(|address| self.directory.is_of(*address, attachment));
        Ok(addresses)
    }

    /// Removes every reservation that is not valid, and every empty file. Goes on after an error, and gives all errors.
    pub fn retain(&mut self, valid: &ValidAttachments) -> Vec<CniError> {
        let addresses = match self.directory.addresses() {
            Ok(addresses) => addresses,
            Err(error) => return vec![error],
        };
        let mut failed = Vec::new();
        for address in addresses {
            // A file without an owner is what a crash leaves.
            let is_valid = |owner: Owner| valid.keeps(&owner.container, &owner.ifname);
            let removed = match self.directory.owner(address).map(|owner| owner.is_some_and(is_valid)) {
                Ok(true) => Ok(()),
                Ok(false) => self.directory.release(address),
                Err(error) => Err(error),
            };
            failed.extend(removed.err());
        }
        failed.extend(self.index.rebuild(&self.directory).err());
        failed
    }
}

fn is_of(sets: &[RangeSet], address: IpAddr) -> bool {
    sets.iter().any(|set| set.range_of(address).is_some())
}

/// The addresses that an attachment has in the reservations of its network; none where the directory is missing.
///
/// # Errors
/// Where the directory cannot be locked or read.
pub fn addresses_of(data_dir: &Path, attachment: &Attachment) -> Result<Vec<IpAddr>, CniError> {
    let reservations = Reservations::lock_existing(data_dir, &attachment.network)?;
    reservations.map_or(Ok(Vec::new()), |reservations| reservations.addresses_of(attachment))
}

/// Checks that each set has a free address, without a lock and without a change. A missing directory counts as empty.
///
/// # Errors
/// Where a set has none; where the directory cannot be read.
pub fn has_room(data_dir: &Path, network: &Id, sets: &[RangeSet]) -> Result<(), CniError> {
    let taken = directory::addresses_in(&data_dir.join(network.as_str()))?;
    let is_full = |set: &RangeSet| set.candidates(None).all(|(_, address)| taken.contains(&address));
    match sets.iter().position(is_full) {
        Some(number) => Err(exhausted(number, &sets[number])),
        None => Ok(()),
    }
}

/// For each set the requested address that lies in it.
fn choose(sets: &[RangeSet], requested: &[IpAddr]) -> Result<Vec<Option<IpAddr>>, CniError> {
    let mut left: BTreeSet<IpAddr> = requested.iter().copied().collect();
    let is_in = |set: &RangeSet, address: IpAddr| {
        set.range_of(address).is_some() || set.ranges().iter().any(|range| range.gateway == address)
    };
    let chosen = sets.iter().map(|set| {
        let requested = left.iter().copied().find(|address| is_in(set, *address))?;
        left.remove(&requested);
        Some(requested)
    });
    let chosen = chosen.collect();
    if left.is_empty() {
        return Ok(chosen);
    }
    let left: Vec<_> = left.iter().map(ToString::to_string).collect();
    let message = format!("failed to allocate all requested IPs: {}", left.join(", "));
    Err(CniError::new(Code::InvalidConfiguration, message))
}

#[cfg(test)]
mod tests;
