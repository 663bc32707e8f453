//! The change of a table: the kernel takes all rules of a table at once (`struct ipt_replace`, `struct xt_counters_info`).

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::fcntl::{Flock, FlockArg};
use nix::libc::{self, EAGAIN, socklen_t};

use super::chains::{Chain, Listing, Remainder};
use super::{ATTEMPTS, Error, level, named, open, read};
use crate::types::Family;

/// `IPT_SO_SET_REPLACE` and `IP6T_SO_SET_REPLACE`.
const SET_REPLACE: i32 = 64;
/// `IPT_SO_SET_ADD_COUNTERS` and `IP6T_SO_SET_ADD_COUNTERS`.
const SET_ADD_COUNTERS: i32 = 65;
/// Programs that change these tables hold a lock on this file meanwhile. In a container it is the node's where it is mounted.
const LOCK: &str = "/run/xtables.lock";

/// `struct xt_counters`: packets and bytes.
type Counters = [u64; 2];

/// Removes the chains that `choose` gives of those of a table, and the rules that lead to them, in the calling thread's network
/// namespace. Gives the number of chains. The counters of other rules go on. Waits for other programs that change iptables' tables.
///
/// # Errors
/// Where the kernel refuses.
pub fn remove_chains(
    family: Family,
    table: &'static str,
    choose: impl Fn(&[Chain]) -> BTreeSet<String>,
) -> Result<usize, Error> {
    let fault = |source| Error { action: "change", table, family, source };
    // Where it cannot be had, the kernel still refuses what was read of another number of rules.
    let lock = File::options().create(true).truncate(false).write(true).open(LOCK).ok();
    let _lock = lock.and_then(|file| Flock::lock(file, FlockArg::LockExclusive).ok());
    let mut attempt = 0;
    loop {
        attempt += 1;
        let Some(socket) = open(family, table).map_err(fault)? else { return Ok(0) };
        let (info, entries) = read(&socket, family, table).map_err(fault)?;
        let malformed = |reason| fault(io::Error::other(reason));
        let listing = Listing::of(family, &info, &entries).map_err(malformed)?;
        let chosen = choose(&listing.chains);
        if chosen.is_empty() {
            return Ok(0);
        }
        let remainder = listing.without(&chosen, &entries).map_err(malformed)?;
        match replace(&socket, family, table, &remainder, listing.len()) {
            // The table has changed since it was read.
            Err(error) if error.raw_os_error() == Some(EAGAIN) && attempt < ATTEMPTS => {}
            outcome => return outcome.map(|()| chosen.len()).map_err(fault),
        }
    }
}

fn replace(socket: &OwnedFd, family: Family, table: &str, new: &Remainder, former: usize) -> io::Result<()> {
    let number = |number: usize| u32::try_from(number).map(u32::to_ne_bytes).map_err(io::Error::other);
    let numbers = |numbers: &[u32]| numbers.iter().flat_map(|number| number.to_ne_bytes()).collect::<Vec<u8>>();
    let mut counters: Vec<Counters> = vec![[0; 2]; former];
    let mut request = named(table, super::NAME_BYTES);
    request.extend(new.hooks.valid.to_ne_bytes());
    request.extend(number(new.kept.len())?);
    request.extend(number(new.entries.len())?);
    request.extend(numbers(&new.hooks.entry));
    request.extend(numbers(&new.hooks.underflow));
    request.extend(number(former)?);
    request.resize(request.len().next_multiple_of(align_of::<*mut Counters>()), 0);
    request.extend(counters.as_mut_ptr().expose_provenance().to_ne_bytes());
    request.resize(request.len().next_multiple_of(align_of::<u64>()), 0);
    request.extend(&new.entries);
    // The kernel writes `former` counters, for each entry that there was, to where the request says.
    set(socket, family, SET_REPLACE, &request)?;

    // New entries begin to count at 0.
    let mut request = named(table, super::NAME_BYTES);
    request.extend(number(new.kept.len())?);
    request.resize(request.len().next_multiple_of(align_of::<u64>()), 0);
    for counted in new.kept.iter().filter_map(|number| counters.get(*number)) {
        request.extend(counted.iter().flat_map(|count| count.to_ne_bytes()));
    }
    set(socket, family, SET_ADD_COUNTERS, &request)
}

fn set(socket: &OwnedFd, family: Family, option: i32, request: &[u8]) -> io::Result<()> {
    let length = socklen_t::try_from(request.len()).map_err(io::Error::other)?;
    #[expect(unsafe_code, reason = "an option that points to where the kernel writes")]
    // SAFETY: the kernel reads `length` bytes of the request. A replacement points to counters that live as long as the call, as
    // many as the request says; the kernel refuses any other number than that of the entries that there were (`xt_replace_table`).
    let code = unsafe { libc::setsockopt(socket.as_raw_fd(), level(family), option, request.as_ptr().cast(), length) };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
