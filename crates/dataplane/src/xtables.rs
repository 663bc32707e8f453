//! Tables of `iptables-legacy` (`x_tables`), which are not part of nftables. They are read and changed as `iptables-legacy` does it.
//!
//! A table is read by two `getsockopt`s: the first gives its size and the offsets of each hook, the second the rules. It is changed
//! as a whole, in [`replace`].
//! Layouts are those of `linux/netfilter/x_tables.h`, `linux/netfilter_ipv4/ip_tables.h` and `netfilter_ipv6/ip6_tables.h`.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc::{self, EAGAIN, socklen_t};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::types::Family;

mod chains;
mod entries;
mod replace;

pub use chains::Chain;
use chains::Listing;
pub use entries::{Forward, parse};
use entries::{HOOKS, NAME_BYTES};
pub use replace::remove_chains;

/// A table could not be read or changed: the kernel refused, or its answer makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} the table {table} of iptables-legacy for {family}")]
pub struct Error {
    action: &'static str,
    table: &'static str,
    family: Family,
    source: io::Error,
}

/// `struct ipt_getinfo`: name, `valid_hooks`, `hook_entry` and `underflow` by hook, `num_entries`, `size`.
const INFO_BYTES: usize = NAME_BYTES + 4 + 4 * HOOKS + 4 * HOOKS + 4 + 4;
/// `struct ipt_get_entries`: name and size, then the rules, aligned as their 64-bit counters are.
const ENTRIES_HEADER_BYTES: usize = (NAME_BYTES + 4).next_multiple_of(align_of::<u64>());
/// `IPT_SO_GET_INFO` and `IP6T_SO_GET_INFO`.
const GET_INFO: i32 = 64;
/// `IPT_SO_GET_ENTRIES` and `IP6T_SO_GET_ENTRIES`.
const GET_ENTRIES: i32 = 65;
/// The table may change between the two reads.
const ATTEMPTS: u32 = 8;

/// Reads what `iptables-legacy` (`ip6tables-legacy`) does with forwarded packets, in the calling thread's network
/// namespace. `None` where it has no table `filter`; reading a table that does not exist would make it.
pub fn forward(family: Family) -> Result<Option<Forward>, Error> {
    const FILTER: &str = "filter";
    let fault = |source| Error { action: "read", table: FILTER, family, source };
    let Some(socket) = open(family, FILTER).map_err(fault)? else { return Ok(None) };
    let (info, entries) = read(&socket, family, FILTER).map_err(fault)?;
    parse(family, &info, &entries).map(Some).map_err(|reason| fault(io::Error::other(reason)))
}

/// The chains of a table, in the calling thread's network namespace. `None` where there is no such table.
pub fn chains(family: Family, table: &'static str) -> Result<Option<Vec<Chain>>, Error> {
    let fault = |source| Error { action: "read", table, family, source };
    let Some(socket) = open(family, table).map_err(fault)? else { return Ok(None) };
    let (info, entries) = read(&socket, family, table).map_err(fault)?;
    let listing = Listing::of(family, &info, &entries).map_err(|reason| fault(io::Error::other(reason)))?;
    Ok(Some(listing.chains))
}

/// A socket for a table that there is.
fn open(family: Family, table: &str) -> io::Result<Option<OwnedFd>> {
    let (names, domain) = match family {
        Family::V4 => ("/proc/thread-self/net/ip_tables_names", AddressFamily::Inet),
        Family::V6 => ("/proc/thread-self/net/ip6_tables_names", AddressFamily::Inet6),
    };
    match std::fs::read_to_string(names) {
        Ok(names) if names.lines().any(|name| name == table) => {}
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    // Any socket of the family will do: the kernel looks at the option alone, and at the capability NET_ADMIN.
    Ok(Some(socket(domain, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?))
}

/// The level of the options.
fn level(family: Family) -> i32 {
    if family == Family::V4 { libc::SOL_IP } else { libc::SOL_IPV6 }
}

/// The answers to both reads, of one state of the table.
fn read(socket: &OwnedFd, family: Family, table: &str) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let info = ask(socket, level(family), GET_INFO, named(table, INFO_BYTES))?;
        let size = info.last_chunk().map_or(0, |size| u32::from_ne_bytes(*size));
        let mut request = named(table, ENTRIES_HEADER_BYTES.saturating_add(size as usize));
        request[NAME_BYTES..NAME_BYTES + 4].copy_from_slice(&size.to_ne_bytes());
        match ask(socket, level(family), GET_ENTRIES, request) {
            // The size is not that of the table any more.
            Err(error) if error.raw_os_error() == Some(EAGAIN) && attempt < ATTEMPTS => {}
            Err(error) => return Err(error),
            Ok(answer) => return Ok((info, answer.get(ENTRIES_HEADER_BYTES..).unwrap_or_default().to_vec())),
        }
    }
}

/// A request that begins with the name of the table.
fn named(table: &str, bytes: usize) -> Vec<u8> {
    let mut request = table.as_bytes().to_vec();
    request.resize(bytes, 0);
    request
}

/// Gives what the kernel wrote over the request, cut to its length.
fn ask(socket: &OwnedFd, level: i32, option: i32, mut buffer: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut length = socklen_t::try_from(buffer.len()).map_err(io::Error::other)?;
    #[expect(unsafe_code, reason = "an option that takes a request and gives an answer in one buffer")]
    // SAFETY: the buffer is ours alone, initialised and `length` bytes long; the kernel writes no more than that into it
    // (`do_ipt_get_ctl` refuses any other length than that of its answer), and keeps neither pointer.
    let code =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, buffer.as_mut_ptr().cast(), &raw mut length) };
    if code != 0 {
        return Err(io::Error::last_os_error());
    }
    buffer.truncate(length as usize);
    Ok(buffer)
}

#[cfg(test)]
mod tests;
